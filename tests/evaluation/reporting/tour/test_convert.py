"""The converted reasoner's figures, from files as convert.py, lm_eval and retention.py leave them."""

from evaluation.reporting.tour.convert import STAGE, accuracy

BEFORE = {
    "results": {"sums": {"alias": "sums", "exact_match,a": 0.5, "exact_match_stderr,a": 0.1},
                "tales": {"exact_match,a": 1.0, "exact_match,b": 0.0}},
    "n-samples": {"sums": {"effective": 30}, "tales": {"effective": 10}},
}  # fmt: skip
AFTER = {**BEFORE, "results": {"sums": {"exact_match,a": 0.4}, "tales": {"exact_match,a": 0.8}}}
FILES = {
    "converted": {"logit_difference": 2.5e-6},
    "before": BEFORE,
    "after": AFTER,
    "retention": {
        "recall": {"memory_sft": {"1": 1.0, "8": 0.925}, "reset_control": {"8": 0.05}},
        "intervals": {"memory_sft": {"8": [0.9, 0.95]}},
    },
}


def test_items_count_alike_whatever_their_task():
    assert accuracy(BEFORE) == (0.625, 40)


def test_keys_and_section():
    assert STAGE.keys(FILES) == {
        "convert": {
            "logit_difference": 2.5e-6, "reasoning_accuracy_before": 0.625, "reasoning_accuracy_after": 0.5,
            "recall_8": 0.925,
        }
    }  # fmt: skip
    section = STAGE.section(FILES)
    assert "2.5e-06" in section
    assert "92.5 per cent (95 per cent 90.0 to 95.0); reset_control 5.0" in section
    assert "(40 held-out ones): 62.5 per cent before, 50.0 after" in section


def test_a_shortened_form_without_that_distance_has_no_figure():
    files = {**FILES, "retention": {"recall": {"memory_sft": {"1": 1.0}}, "intervals": {"memory_sft": {}}}}
    assert STAGE.keys(files)["convert"]["recall_8"] is None
    assert "not measured" in STAGE.section(files)
