"""Which questions are shown, and that nothing else than what the models wrote is."""

import json
from pathlib import Path

import pytest

from evaluation.examples import main, parse_options, pick
from pipeline.errors import InputError


def row(question: int, right: bool, answer: str = "an answer") -> dict:
    asked = {"gen_args_0": {"arg_0": f"what is {question}?"}}
    return {"doc_id": question, "arguments": asked, "resps": [[answer]], "target": "t", "exact_match": float(right)}


def answers(*outcomes: bool) -> dict:
    return {n: row(n, right) for n, right in enumerate(outcomes)}


def log(folder: Path, task: str, figures: dict, rows: list[dict]) -> None:
    """The files that lm_eval leaves of one task."""
    folder.mkdir(parents=True)
    (folder / "results_2026-01-01T00-00-00.json").write_text(json.dumps({"results": {task: figures}}))
    (folder / f"samples_{task}_2026-01-01T00-00-00.jsonl").write_text("\n".join(map(json.dumps, rows)))


def test_the_first_question_of_each_kind_is_shown():
    first, last = answers(False, False, True, True, False), answers(False, True, True, False, True)
    assert pick([first, last], 1) == [("learnt", 1), ("forgotten", 3), ("never right", 0), ("always right", 2)]
    assert pick([first, last], 2)[:2] == [("learnt", 1), ("learnt", 4)]
    assert pick([last], 1) == [("never right", 0), ("always right", 1)]


def test_the_untouched_model_comes_first_and_the_counted_reading_decides(tmp_path):
    for model, right in (("grpo", True), ("untouched", False)):
        rows = [row(0, not right) | {"filter": "strict-match"}, row(0, right) | {"filter": "flexible-extract"}]
        log(tmp_path / "lm_eval" / model, "local_gsm8k", {"exact_match,flexible-extract": float(right)}, rows)
    main(parse_options([str(tmp_path), "--output", str(tmp_path / "page.md")]))
    text = (tmp_path / "page.md").read_text()
    assert "Right: untouched 0 of 1, grpo 1 of 1." in text
    assert "### learnt: question 0" in text


def test_the_page_is_made_of_what_lm_eval_logged(tmp_path):
    for stage, right in (("stage_1", False), ("stage_2", True)):
        rows = [row(0, right, f"{stage} says ```no```"), row(0, not right, "the second reading")]
        log(tmp_path / "lm_eval" / stage, "sums", {"exact_match,none": float(right)}, rows)
    output = tmp_path / "page.md"
    main(parse_options([str(tmp_path), "--output", str(output)]))
    text = output.read_text()
    assert "Right: stage_1 0 of 1, stage_2 1 of 1." in text
    assert "### learnt: question 0" in text
    assert "[stage_1, wrong]\nstage_1 says '''no'''" in text
    assert "second reading" not in text
    main(parse_options([str(tmp_path), "--output", str(output), "--tasks", "sums"]))
    assert "## sums" in output.read_text()
    assert "--each 1 --tasks sums`" in output.read_text()
    with pytest.raises(InputError, match="--tasks sum: no samples of it in there; did you mean sums"):
        main(parse_options([str(tmp_path), "--output", str(output), "--tasks", "sum"]))
    with pytest.raises(InputError, match="--each 0"):
        main(parse_options([str(tmp_path / "lm_eval" / "stage_1" / "results_2026-01-01T00-00-00.json"), "--each", "0"]))
