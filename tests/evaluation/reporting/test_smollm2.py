"""The real model's table: figures under their names, changes over the same items."""

import json

import pytest

from evaluation.reporting import smollm2
from evaluation.reporting.reader import read_results
from evaluation.reporting.records import Evaluation, Figure, Results


def evaluation(label: str, gsm8k: dict[int, float], mmlu: dict[int, float]) -> Evaluation:
    """Scores by item; MMLU's are those of a member of the group."""
    rows = [
        {"doc_id": item, "filter": chosen, "exact_match": score if chosen == "flexible-extract" else 0.0}
        for item, score in gsm8k.items()
        for chosen in ("strict-match", "flexible-extract")
    ]
    figures = {
        "local_gsm8k": {"exact_match,flexible-extract": Figure(sum(gsm8k.values()) / len(gsm8k), 0.1, len(gsm8k))},
        "local_mmlu": {"acc,none": Figure(sum(mmlu.values()) / len(mmlu), None, len(mmlu))},
    }
    member = [{"doc_id": item, "filter": "none", "acc": score} for item, score in mmlu.items()]
    return Evaluation(
        label,
        figures,
        members={"local_mmlu": ["law"]},
        answers={"local_gsm8k": {"ended": 0.5, "thinks": 1.0, "closed": 0.25, "thought_tokens": 40.0, "n": 4}},
        samples={"local_gsm8k": rows, "law": member},
    )


def test_figures_and_changes_item_by_item():
    before = evaluation("untouched", {5: 0.0, 7: 0.0, 9: 1.0, 11: 0.0}, {1: 1.0})
    after = evaluation("stage_1", {5: 1.0, 7: 1.0, 9: 1.0, 11: 1.0}, {1: 1.0})
    found = smollm2.keys(Results(evaluations={"stage_1": after, "untouched": before}))["smollm2"]
    assert list(found) == ["untouched", "stage_1"]
    gsm8k = found["stage_1"]["gsm8k"]
    assert (gsm8k["value"], gsm8k["stderr"], gsm8k["n"]) == (1.0, 0.1, 4)
    assert (gsm8k["change"]["difference"], gsm8k["change"]["n"]) == (0.75, 4)
    low, high = gsm8k["change"]["interval"]
    assert 0 < low < 0.75 < high <= 1
    assert found["stage_1"]["mmlu"]["change"] == {"difference": 0.0, "interval": [0.0, 0.0], "n": 1}
    assert "change" not in found["untouched"]["gsm8k"]

    text = smollm2.section({"smollm2": found})
    assert "| 25.0 ± 10.0 (n 4) | 100.0 ± 10.0 (n 4) [+" in text
    assert "| stage_1 | gsm8k | 50 | 100 | 25 | 40 | 4 |" in text


@pytest.mark.parametrize("labels", [(), ("stage_1",)])
def test_other_results_have_no_such_table(labels):
    results = Results(evaluations={label: Evaluation(label) for label in labels})
    assert smollm2.keys(results) == {}
    assert smollm2.section({}) == ""


def test_every_logged_item_counts_however_many_there_are(tmp_path):
    for model, right in (("untouched", 0), ("stage_1", 60)):
        folder = tmp_path / "lm_eval" / model / "local_gsm8k" / "x"
        folder.mkdir(parents=True)
        figures = {"exact_match,flexible-extract": right / 90, "exact_match_stderr,flexible-extract": 0.05}
        results = {"results": {"local_gsm8k": figures}, "n-samples": {"local_gsm8k": {"original": 90, "effective": 90}}}
        (folder / "results_2026-01-01T00-00-00.json").write_text(json.dumps(results))
        rows = [{"doc_id": i, "filter": "flexible-extract", "exact_match": float(i >= 90 - right)} for i in range(90)]
        (folder / "samples_local_gsm8k_2026-01-01T00-00-00.jsonl").write_text("\n".join(map(json.dumps, rows)))
    change = smollm2.keys(read_results([tmp_path]))["smollm2"]["stage_1"]["gsm8k"]["change"]
    assert (change["difference"], change["n"]) == (0.6667, 90)
