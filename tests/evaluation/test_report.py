"""The report from folders made by hand: each figure in it can be worked out on paper."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest

from evaluation.report import BENCHMARKS, PUBLISHED, percent, pooled, preference, summary, write_report
from evaluation.reporting.results_reader import Figure, merge, natural, read
from pipeline.errors import InputError

SCRIPT = Path(__file__).parents[2] / "evaluation" / "report.py"
STAMP = "2026-01-02T03-04-05.678901"


def put(path: Path, value) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def stage(folder: Path, **facts) -> None:
    put(folder / "metrics.json", {"stage": "sft", "status": "complete", "seed": 1, **facts})
    lines = [{"step": s, "loss": 4.0 / s} for s in range(1, 30)] + [
        {"step": 29, "eval_loss": 0.3},
        {"step": 29, "lr": 0},
    ]
    put(folder / "metrics.jsonl", "\n".join(json.dumps(line) for line in lines) + '\n{"step": 30, "lo')


def task(value: float, stderr: float | str, n: int, key: str = "exact_match,none") -> dict:
    metric, name = key.split(",")
    return {"alias": "x", "name": "x", "sample_len": n, key: value, f"{metric}_stderr,{name}": stderr}


def harness(folder: Path, results: dict, groups: dict | None = None, stamp: str = STAMP, **more) -> None:
    sizes = {
        name: {"original": 400, "effective": r["sample_len"]}
        for name, r in results.items()
        if name not in (groups or {})
    }
    put(
        folder / f"results_{stamp}.json",
        {
            "results": results,
            "groups": {g: {} for g in groups or {}},
            "group_subtasks": groups or {},
            "n-samples": sizes,
            "model_name": "/somewhere/final",
            **more,
        },
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The layout of `make quickstart OUT=...`, two reasoning tasks of unequal size."""
    stage(tmp_path / "stage_1", wall_s=10.0, peak_mb=700.0, tokens_per_s=5000.0, final_loss=2.0)
    stage(tmp_path / "stage_2", wall_s=20.5, peak_mb=900.0, tokens_per_s=4000.0, final_loss=0.5)
    stage(tmp_path / "stage_3", wall_s=5.0, peak_mb=800.0, tokens_per_s=3000.0, final_loss=0.4,
          preference_accuracy=0.95, preference_accuracy_before=0.55, eval_loss=0.41)  # fmt: skip
    stage(tmp_path / "stage_3" / "checkpoint-30", wall_s=99.0)  # never read
    for name, chain, where in (("stage_1", 0.1, 0.2), ("stage_2", 0.8, 0.9), ("stage_3", 0.8, 0.9)):
        results = {
            "quickstart_chain": task(chain, 0.02, 300),
            "quickstart_where": task(where, 0.04, 100),
            "quickstart_reasoning": task((chain + where) / 2, "N/A", 400),
        }
        folder = tmp_path / "lm_eval" / name / "__somewhere__final"
        harness(folder, results, {"quickstart_reasoning": ["quickstart_chain", "quickstart_where"]})
        samples = [
            {
                "target": "7",
                "arguments": {"gen_args_0": {"arg_0": "user: 3 + 4 | 0?"}},
                "exact_match": float(right),
                "resps": [["<think>3 + 4 is 7</think>\n7" if right else "```8"]],
            }
            for right in (0, 1)
        ]
        put(folder / f"samples_quickstart_chain_{STAMP}.jsonl", "\n".join(map(json.dumps, samples)))
    return tmp_path


def test_report_json_has_the_names_others_read(out):
    report = summary(read([out]))
    assert report["wall_s"] == 35.5
    assert report["peak_mb"] == 900.0
    assert list(report["stages"]) == ["stage_1", "stage_2", "stage_3"]
    assert report["stages"]["stage_2"] == {
        "wall_s": 20.5, "peak_mb": 900.0, "tokens_per_s": 4000.0, "final_loss": 0.5, "status": "complete",
    }  # fmt: skip
    # 300 items at 0.1 and 100 at 0.2: 50 of 400. The group's own unweighted 0.15 is not used.
    assert report["reasoning_accuracy"] == pytest.approx({"stage_1": 0.125, "stage_2": 0.825, "stage_3": 0.825})
    # sqrt((3/4 * 0.02)^2 + (1/4 * 0.04)^2)
    assert report["reasoning_stderr"]["stage_1"] == pytest.approx(math.sqrt(0.015**2 + 0.01**2))
    assert report["preference_accuracy"] == {"stage_2": 0.55, "stage_3": 0.95}
    json.dumps(report)


def test_wall_time_runs_from_the_recorded_start(out):
    newest = max(path.stat().st_mtime for path in out.rglob("*.json"))
    put(out / "started_at", f"{newest - 100}\n")
    assert summary(read([out]), seconds=2.0)["wall_s"] == pytest.approx(102.0, abs=0.1)
    put(out / "started_at", "yesterday")
    assert summary(read([out]))["wall_s"] == 35.5


def test_retention_figures_keep_their_names_and_merge(out):
    recall = {"memory_sft": {"1": 0.98, "8": 0.9}, "reset_control": {"1": 0.1}}
    put(out / "retention" / "memory_sft.json", {"recall": recall, "latency_ratio_64_1": 1.02})
    latency = {"reactive": {"1": 4.0, "64": 4.1}}
    put(out / "retention" / "mrl.json", {"recall": {"mrl": {"1": 0.99}}, "latency": latency})
    put(out / "retention" / "unrelated.json", {"vocab": {"a": 1}})
    found = read([out])
    report = summary(found)
    assert report["recall"] == {
        "memory_sft": {"1": 0.98, "8": 0.9}, "reset_control": {"1": 0.1}, "mrl": {"1": 0.99},
    }  # fmt: skip
    assert report["latency_ratio_64_1"] == 1.02
    write_report(found, out)
    text = (out / "report.md").read_text()
    assert "| 1 | 98.0 | 10.0 | 99.0 |" in text
    assert "| 8 | 90.0 | – | – |" in text
    assert sorted(path.name for path in (out / "plots").glob("*.png")) == [
        "accuracy.png", "latency.png", "loss.png", "recall.png",
    ]  # fmt: skip


def test_stages_in_folders_of_their_own_follow_in_the_order_they_ran(out):
    for age, name in ((300, "pretrain"), (200, "memory_pretrain"), (100, "memory_sft")):
        stage(out / "mrl" / name, wall_s=1.0)
        written = (out / "stage_1" / "metrics.json").stat().st_mtime - age
        os.utime(out / "mrl" / name / "metrics.json", (written, written))
    found = read([out])
    assert list(found.stages)[3:] == ["mrl/pretrain", "mrl/memory_pretrain", "mrl/memory_sft"]
    assert preference(found)["stage_2"] == 0.55


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
    write_report(read([out]), out)
    text = (out / "report.md").read_text()
    assert "| stage_2 | 20.5 | 900 | 4,000 | 0.5 |" in text
    assert "stage_3: eval_loss 0.41" in text
    assert "| chain | 10.00 ± 2.00 (300 of 400) | 80.00 ± 2.00 (300 of 400) | 80.00 ± 2.00 (300 of 400) |" in text
    assert "| **all items** | 12.50 ± 1.80 | 82.50 ± 1.80 | 82.50 ± 1.80 |" in text
    # the older results of stage_3 stay beside the newer ones, and only stage_3 has a column here
    assert "| benchmark | stage_3 | trlm-135M | SmolLM2-135M-Instruct |" in text
    assert "| gsm8k (strict) | 2.59 ± 0.44 | 2.59 (5-shot) | 1.4 (5-shot) |" in text
    assert "| arc_challenge (acc_norm) | 25.00 ± 1.25 (100 of 400) | 40.61 (avg) | 37.3 (ARC average) |" in text
    assert "strict) | 25.00 | 35.49 (avg) |" in text  # mean of 20 and 30, no error
    assert "local_files.py" in text
    # samples: right ones first, the fence can't be broken from inside
    assert text.index("quickstart_chain, right") < text.index("quickstart_chain, wrong")
    assert "[answered]\n'''8\n[wanted]\n7\n```" in text


def test_an_unfinished_stage_is_called_that(tmp_path):
    stage(tmp_path, status="failed", wall_s=3.0)
    found = read([tmp_path])
    write_report(found, tmp_path)
    assert f"**{tmp_path.name} is failed**" in (tmp_path / "report.md").read_text()


def test_reading_again_changes_nothing(out):
    first = read([out])
    write_report(first, out)
    second = read([out])
    assert second.files == first.files
    assert {**summary(second), "date": ""} == {**summary(first), "date": ""}


def test_plots_hold_something(out):
    write_report(read([out]), out)
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
    found = {
        "start": {"recall": by, "mean": 0.6, "sampled": None}, "starts": {"critics": {"name": "weak", **row}},
        "mrl_seeds": [{**row, "start": 0.6, "end": 0.6}], "mrl_ablation": {"critics": {"classic": [row]}},
    }  # fmt: skip
    put(tmp_path / "study" / "study.json", found)
    stage(tmp_path / "study" / "runs" / "critics" / "classic-seed1", wall_s=5.0)
    put(tmp_path / "study" / "start" / "retention.json", {"recall": {"recall": by}})
    stage(tmp_path / "stage_1", wall_s=3.0)
    read_back = read([tmp_path])
    assert list(read_back.stages) == ["stage_1"]
    assert read_back.retention == {}
    write_report(read_back, tmp_path / "out")
    page = (tmp_path / "out" / "report.md").read_text()
    assert "| start: weak | – | 50.0 | 70.0 | – | – | – | 60.0 | 60.0 | 40.0 | – | – |" in page
    assert "| classic | – | 50.0 | 70.0 | – | – | – | 60.0 | 60.0 | 40.0 | 0.25 | 7 |" in page
    assert (tmp_path / "out" / "plots" / "study" / "critics.png").exists()


def test_the_command_line(out, tmp_path):
    run = subprocess.run([sys.executable, SCRIPT, out], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout) == (0, f"{out / 'report.md'}\n"), run.stderr
    assert json.loads((out / "report.json").read_text())["peak_mb"] == 900.0
    several = [sys.executable, SCRIPT, out / "stage_1", out / "stage_2"]
    run = subprocess.run(several, capture_output=True, text=True, timeout=120)
    assert run.returncode == 2
    assert run.stderr == "error: several RESULTS, or a file: name the folder of the report with --output-dir\n"


def test_bad_input_is_named(tmp_path, caplog):
    with pytest.raises(InputError, match="missing does not exist"):
        read([tmp_path / "missing"])
    with pytest.raises(InputError, match=r"no metrics\.json, results_\*\.json"):
        read([tmp_path])
    put(tmp_path / "a" / "metrics.json", '{"wall_s": 1')
    stage(tmp_path / "b", wall_s=2.0)
    assert summary(read([tmp_path]))["stages"]["b"]["wall_s"] == 2.0
    assert "a/metrics.json can't be read" in caplog.text


def test_models_outside_lm_eval_folders_go_by_their_name(tmp_path):
    for model in ("org/one", "org/two"):
        folder = tmp_path / "results" / model.replace("/", "__")
        harness(folder, {"piqa": task(0.6, 0.01, 400, "acc,none")}, model_name=model)
    assert list(read([tmp_path]).evaluations) == ["one", "two"]


def test_pooling_without_errors_or_sizes():
    assert pooled([Figure(0.5, None, 10), Figure(1.0, 0.1, 30)]) == Figure(0.875, None, 40)
    assert pooled([Figure(0.0), Figure(1.0)]) == Figure(0.5)
    assert percent(Figure(0.5, 0.01, 5, 10)) == "50.00 ± 1.00 (5 of 10)"
    assert percent(None) == "–"


def test_answers_from_memory_are_shown(tmp_path):
    asked = {"query": "Where | does Ann live?", "answer": "Wien", "wanted": "Graz", "distance": 8, "recalled": False}
    put(tmp_path / "in" / "retention.json", {"recall": {"memory_sft": {"8": 0.5}}, "retention_samples": [asked]})
    write_report(read([tmp_path / "in"]), tmp_path / "out")
    assert "| Where \\| does Ann live? | Wien | Graz | 8 |" in (tmp_path / "out" / "report.md").read_text()


def test_small_things():
    assert sorted(["stage_10", "stage_2"], key=natural) == ["stage_2", "stage_10"]
    table = {"a": {"x": 1}}
    merge(table, {"a": {"y": 2}, "b": 3})
    assert table == {"a": {"x": 1, "y": 2}, "b": 3}


def test_published_figures_have_sources_and_rows():
    published = json.loads(PUBLISHED.read_text())["models"]
    rows = {row for _, row, _ in BENCHMARKS}
    for model in published.values():
        assert model["source"].startswith("https://")
        assert set(model["figures"]) <= rows
    assert rows == set(published["trlm-135M"]["figures"])
