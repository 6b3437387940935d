"""The report from folders made by hand: each figure in it can be worked out on paper."""

import json
import subprocess
import sys
from pathlib import Path

import matplotlib.image

from evaluation.report import write_report
from evaluation.reporting.reader import read_results
from evaluation.reporting.summary import summarize
from tests.evaluation.results_on_disk import harness, put, stage, task

SCRIPT = Path(__file__).parents[2] / "evaluation" / "report.py"


def test_retention_figures_keep_their_names_and_merge(out):
    recall = {"memory_sft": {"1": 0.98, "8": 0.9}, "reset_control": {"1": 0.1}}
    put(out / "retention" / "memory_sft.json", {"recall": recall, "latency_ratio_64_1": 1.02})
    latency = {"reactive": {"1": 4.0, "64": 4.1}}
    put(out / "retention" / "mrl.json", {"recall": {"mrl": {"1": 0.99}}, "latency": latency})
    put(out / "retention" / "unrelated.json", {"vocab": {"a": 1}})
    results = read_results([out])
    report = summarize(results)
    assert report["recall"] == {
        "memory_sft": {"1": 0.98, "8": 0.9}, "reset_control": {"1": 0.1}, "mrl": {"1": 0.99},
    }  # fmt: skip
    assert report["latency_ratio_64_1"] == 1.02
    write_report(results, out)
    text = (out / "report.md").read_text()
    assert "| 1 | 98.0 | 10.0 | 99.0 |" in text
    assert "| 8 | 90.0 | – | – |" in text
    assert sorted(path.name for path in (out / "plots").glob("*.png")) == [
        "accuracy.png", "latency.png", "loss.png", "recall.png",
    ]  # fmt: skip


def test_the_gain_of_reinforcement_is_paired_over_the_questions_of_both(out):
    for folder, name, right in (("retention", "memory_sft", [0, 0, 1]), ("retention_mrl", "mrl", [1, 1, 1])):
        put(out / folder / "retention.json", {"recall": {name: {"2": 0.5}}})
        asked = [{"where": "f:1", "turn": turn, "distance": 2, name: {"recalled": bool(hit)}}
                 for turn, hit in enumerate(right)]  # fmt: skip
        put(out / folder / "answers.jsonl", "".join(json.dumps(line) + "\n" for line in asked))
    results = read_results([out])
    gain = {"gain": 0.6667, "low": 0.6667, "high": 0.6667, "n": 3}
    assert summarize(results)["recall"]["mrl_gain"] == {"2": gain, "mean": gain}
    write_report(results, out)
    assert "| 2 | +66.7 (66.7 to 66.7) | 3 |" in (out / "report.md").read_text()
    put(out / "retention_mrl" / "answers.jsonl", "")
    assert "mrl_gain" not in summarize(read_results([out]))["recall"], "no question in common"


def test_markdown_shows_every_figure_with_its_error(out):
    harness(
        out / "lm_eval" / "stage_3" / "__somewhere__final",
        {
            "local_gsm8k": task(0.0259, 0.0044, 400, "exact_match,strict-match"),
            "arc_challenge": task(0.25, 0.0125, 100, "acc_norm,none"),
            "local_ifeval": {"sample_len": 400, "prompt_level_strict_acc,none": 0.2, "inst_level_strict_acc,none": 0.3,
                             "prompt_level_strict_acc_stderr,none": 0.02, "inst_level_strict_acc_stderr,none": "N/A"},
        },
        stamp="2026-02-02T00-00-00.000000",
    )  # fmt: skip
    write_report(read_results([out]), out)
    text = (out / "report.md").read_text()
    assert "| stage_2 | 20.5 | 900 | 4,000 | 0.5 |" in text
    assert "stage_3: eval_loss 0.41" in text
    assert "| chain | 10.00 ± 2.00 (300 of 400) | 80.00 ± 2.00 (300 of 400) | 80.00 ± 2.00 (300 of 400) |" in text
    assert "| **all items** | 12.50 ± 1.80 | 82.50 ± 1.80 | 82.50 ± 1.80 |" in text
    # the older results of stage_3 stay beside the newer ones, and only stage_3 has a column here
    assert "| benchmark | stage_3 | trlm-135M | SmolLM2-135M-Instruct | published difference |" in text
    assert "| gsm8k (strict) | 2.59 ± 0.44 | 2.59 (5-shot) | 1.4 (5-shot) |" in text
    assert "| arc_challenge (acc_norm) | 25.00 ± 1.25 (100 of 400) | 40.61 (avg) | 37.3 (ARC average) |" in text
    assert "strict) | 25.00 | 35.49 (avg) |" in text  # mean of 20 and 30, no error
    assert "local_files.py" in text
    # samples: right ones first, the fence can't be broken from inside
    assert text.index("quickstart_chain, right") < text.index("quickstart_chain, wrong")
    assert "[answered]\n'''8\n[wanted]\n7\n```" in text


def test_an_unfinished_stage_is_called_that(tmp_path):
    stage(tmp_path, status="failed", wall_s=3.0)
    results = read_results([tmp_path])
    write_report(results, tmp_path)
    assert f"**{tmp_path.name} is failed**" in (tmp_path / "report.md").read_text()


def test_reading_again_changes_nothing(out):
    first = read_results([out])
    write_report(first, out)
    second = read_results([out])
    assert second.files == first.files
    assert {**summarize(second), "date": ""} == {**summarize(first), "date": ""}


def test_plots_hold_something(out):
    write_report(read_results([out]), out)
    for name, colours in (("loss.png", 2), ("accuracy.png", 3)):
        pixels = matplotlib.image.imread(out / "plots" / name)
        assert pixels.shape[0] > 300
        assert pixels.shape[1] > 500
        # saturated pixels come from lines and bars, never from axes and text
        saturated = pixels[(pixels[..., :3].max(-1) - pixels[..., :3].min(-1)) > 0.3][:, :3]
        assert len(saturated) > 1000
        assert len({tuple(p) for p in (saturated * 5).round().tolist()}) >= colours


def test_a_study_stands_in_the_report_and_its_runs_do_not(tmp_path):
    by = {"2": 0.5, "4": 0.7, "all": 0.6}
    row = {
        "seed": 1, "recall": by, "mean": 0.6, "sampled": {"all": 0.4}, "explained_variance": 0.25, "train_s": 7.0,
    }  # fmt: skip
    study = {
        "start": {"recall": by, "mean": 0.6, "sampled": None}, "starts": {"critics": {"name": "weak", **row}},
        "mrl_seeds": [{**row, "start": 0.6, "end": 0.6}], "mrl_ablation": {"critics": {"classic": [row]}},
    }  # fmt: skip
    put(tmp_path / "study" / "study.json", study)
    stage(tmp_path / "study" / "runs" / "critics" / "classic-seed1", wall_s=5.0)
    put(tmp_path / "study" / "start" / "retention.json", {"recall": {"recall": by}})
    stage(tmp_path / "stage_1", wall_s=3.0)
    results = read_results([tmp_path])
    assert list(results.stages) == ["stage_1"]
    assert results.retention == {}
    write_report(results, tmp_path / "out")
    page = (tmp_path / "out" / "report.md").read_text()
    assert "| start: weak | – | 50.0 | 70.0 | – | – | – | 60.0 | 60.0 | 40.0 | – | – | – | – |" in page
    assert "| classic | – | 50.0 | 70.0 | – | – | – | 60.0 | 60.0 | 40.0 | – | – | 0.25 | 7 |" in page
    assert (tmp_path / "out" / "plots" / "study" / "critics.png").exists()


def test_the_command_line(out, tmp_path):
    run = subprocess.run([sys.executable, SCRIPT, out], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout) == (0, f"{out / 'report.md'}\n{out / 'report.html'}\n"), run.stderr
    assert json.loads((out / "report.json").read_text())["peak_mb"] == 900.0
    several = [sys.executable, SCRIPT, out / "stage_1", out / "stage_2"]
    run = subprocess.run(several, capture_output=True, text=True, timeout=120)
    assert run.returncode == 2
    assert run.stderr == "error: several RESULTS, or a file: name the folder of the report with --output-dir\n"


def test_answers_from_memory_are_shown(tmp_path):
    asked = {"query": "Where | does Ann live?", "answer": "Wien", "wanted": "Graz", "distance": 8, "recalled": False}
    put(tmp_path / "in" / "retention.json", {"recall": {"memory_sft": {"8": 0.5}}, "retention_samples": [asked]})
    write_report(read_results([tmp_path / "in"]), tmp_path / "out")
    assert "| Where \\| does Ann live? | Wien | Graz | 8 |" in (tmp_path / "out" / "report.md").read_text()


def test_what_each_model_says_where_nothing_was_told(tmp_path):
    for name, untold in (("memory_sft", 0.25), ("mrl", 0.5)):
        found = {"untold": untold, "told": 0.8, "told_abstained": 0.05, "n": {"untold": 40, "told": 1200}}
        figures = {"recall": {name: {"1": 0.8}}, "abstention": found, "abstention_by_model": {name: found}}
        put(tmp_path / "in" / name / "retention.json", figures)
    put(tmp_path / "in" / "third" / "retention.json", {"recall": {"third": {"1": 0.8}}, "abstention_by_model": {}})
    write_report(read_results([tmp_path / "in"]), tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| model | untold, said so | told, recalled | told, called untold | untold | told |" in text
    assert "| memory sft | 25.0 | 80.0 | 5.0 | 40 | 1,200 |" in text
    assert "| mrl | 50.0 | 80.0 | 5.0 | 40 | 1,200 |" in text
    assert list(json.loads((tmp_path / "out" / "report.json").read_text())["abstention_by_model"]) == [
        "memory_sft",
        "mrl",
    ]


def test_rows_that_were_made_are_counted(tmp_path):
    made = {"dialogues": 2000, "counts": {"copies with other names": 6000}, "untold_answer": "“Nobody told me.” (own)"}
    put(tmp_path / "in" / "derived.json", made)
    write_report(read_results([tmp_path / "in"]), tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| dialogues to learn from | 2,000 |\n| copies with other names | 6,000 |" in text
    assert "Asked for what was never told, these copies answer “Nobody told me.” (own)." in text
    assert json.loads((tmp_path / "out" / "report.json").read_text())["derived"] == made
