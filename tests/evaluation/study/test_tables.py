"""study.json and its tables, worked out by hand."""

import json

from evaluation.study.config import Job
from evaluation.study.results import SAMPLED, collect, mean_recall
from evaluation.study.tables import study_tables
from tests.evaluation.study.small_study import finish, small


def test_figures_by_hand(tmp_path):
    made = small(tmp_path)
    finish(made, Job("seeds", "mrl", 1), 0.9)
    finish(made, Job("seeds", "mrl", 2), 0.8)
    for seed, value in ((1, 0.44), (2, 0.42)):
        drawn = Job("seeds", "mrl", seed).folder(made) / SAMPLED / "retention.json"
        drawn.parent.mkdir()
        drawn.write_text(json.dumps({"recall": {"recall": {"all": value}}}))
    start = tmp_path / "start" / "retention.json"
    start.parent.mkdir()
    start.write_text(json.dumps({"recall": {"recall": {"1": 1.0, "2": 0.5, "8": 0.7}}}))
    results = collect(made)
    assert [(row["seed"], row["start"], row["end"]) for row in results["mrl_seeds"]] == [(1, 0.6, 0.9), (2, 0.6, 0.8)]
    summary = results["mrl_seeds_summary"]
    assert (summary["mean"], summary["lowest"], summary["standard_deviation"]) == (0.85, 0.8, 0.0707)
    assert results["mrl_ablation"] == {}, "of the part there is only what it shares with the seeds"
    shown = study_tables(results)
    assert "| supervised start | 100.0 | 50.0 | – | 70.0 | – | – | 60.0 | – | – | – | – | – | – |" in shown
    assert "| seed 2 | 80.0 | 80.0 | 80.0 | 80.0 | 80.0 | – | 80.0 | 80.0 | 42.0 | – | – | 0.65 | 90 |" in shown
    finish(made, Job("more", "sft", 42), 0.7)
    for folder, right in ((start.parent, (False, False, True)), (Job("more", "sft", 42).folder(made), (True,) * 3)):
        asked = [{"where": "f:1", "turn": t, "distance": d, "recall": {"recalled": r}}
                 for t, (d, r) in enumerate(zip((1, 8, 32), right, strict=True))]  # fmt: skip
        (folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))
    results = collect(made)
    assert [row["mean"] for row in results["mrl_ablation"]["more"]["mrl"]] == [0.9, 0.8]
    row = "| sft | 70.0 | 70.0 | 70.0 | 70.0 | 70.0 | – | 70.0 | 70.0 | – "
    assert row + "| +100.0 (100.0 to 100.0) | +66.7 (66.7 to 66.7) | – | 90 |" in study_tables(results)
    mean = "| mrl, mean of 2 seeds | 85.0 | 85.0 | 85.0 | 85.0 | 85.0 | – | 85.0 | 85.0 | 43.0 | – | – | 0.65 | 90 |"
    assert mean in study_tables(results)
    assert mean_recall({"1": 0.0, "4": 0.5, "16": 1.0}) == 0.75
