"""A stage's life: refused, run, interrupted, failed; and what it leaves behind."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.run import ProgressBar, Run, open_run

SCRIPT = """
from dataclasses import dataclass
from pathlib import Path
from pipeline.errors import InputError
from pipeline.run import stage_main

@dataclass(kw_only=True)
class Config:
    output_dir: Path
    seed: int = 0
    fail: str = ""
    hub_token: str = ""

def main(config, run):
    if config.fail == "input":
        raise InputError("rows.jsonl:3: no answer; add one")
    if config.fail == "interrupt":
        raise KeyboardInterrupt
    if config.fail == "disk":
        raise OSError(28, "No space left on device", "weights")
    run.log(step=1, loss=0.5)
    run.report(final_loss=0.5)

if __name__ == "__main__":
    stage_main(Config, main)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "toy_stage.py"
    path.write_text(SCRIPT)
    (tmp_path / "c.yaml").write_text("output_dir: out\nhub_token: very-secret\n")

    def run(*arguments):
        command = [sys.executable, str(path), "--config-path", "c.yaml", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    return run


def test_a_stage_leaves_its_facts_and_no_secret(script, tmp_path):
    done = script("--set", "seed=3")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["stage"] == "toy_stage"
    assert (metrics["status"], metrics["seed"], metrics["final_loss"]) == ("complete", 3, 0.5)
    assert metrics["wall_s"] >= 0
    assert metrics["peak_mb"] > 5
    assert len(metrics["config_hash"]) == 12
    assert json.loads((tmp_path / "out/metrics.jsonl").read_text())["loss"] == 0.5
    everything = done.stdout + done.stderr + "".join(p.read_text() for p in (tmp_path / "out").iterdir())
    assert "very-secret" not in everything


@pytest.mark.parametrize(("fault", "status", "line"), [
    ("input", 2, "error: rows.jsonl:3: no answer; add one"),
    ("interrupt", 130, "interrupted"),
    ("disk", 1, "error: the disk is full (weights); earlier checkpoints are untouched"),
])  # fmt: skip
def test_faults_are_one_line_and_a_status(script, tmp_path, fault, status, line):
    done = script("--set", f"fail={fault}", "--log-level", "ERROR")
    assert (done.returncode, done.stderr.strip()) == (status, line)
    assert json.loads((tmp_path / "out/metrics.json").read_text())["status"] != "complete"


def test_bad_configuration_is_refused_before_the_folder_exists(script, tmp_path):
    done = script("--set", "sed=3")
    assert done.returncode == 2
    assert done.stderr.strip() == "error: --set sed: sed is not a setting; did you mean seed?"
    assert not (tmp_path / "out").exists()


@dataclass(kw_only=True)
class Config:
    names: list[str] = field(default_factory=list)


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "taken").write_text("")
    with (
        pytest.raises(InputError, match="output_dir"),
        open_run(Config(), stage="s", output_dir=tmp_path / "taken", seed=0),
    ):
        pass


def test_resume_forgets_what_came_after_the_checkpoint(tmp_path):
    run = Run(Config(), stage="s", output_dir=Path(tmp_path), seed=0)
    run.open()
    for step in (1, 2, 3):
        run.log(step=step, loss=float(step))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # cut by a kill
    run.forget_after(2)
    run.log(step=3, loss=9.0)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1.0), (2, 2.0), (3, 9.0)]


def test_without_a_terminal_progress_is_lines_now_and_then(caplog):
    with caplog.at_level("INFO"):
        assert list(ProgressBar(range(5), desc="rows", unit="row", every_s=0)) == [0, 1, 2, 3, 4]
    assert "rows: 5/5 row" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):
        list(ProgressBar(range(1000), desc="rows", every_s=3600))
    assert len(caplog.records) == 1


def test_peak_memory_is_this_processes_own():
    """A child of a process that holds 300 MB reports what it used itself."""
    block = bytearray(300_000_000)
    code = "from pipeline.provenance import peak_memory_mb; print(peak_memory_mb())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 5 < float(done.stdout) < 150
    assert len(block) == 300_000_000
