"""A stage's life: refused, run, interrupted, failed; and what it leaves behind."""

import errno
import json
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from pipeline.config import config_hash
from pipeline.errors import InputError
from pipeline.run import ProgressBar, Run, open_run

SCRIPT = """
import time
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
    if config.fail == "wait":
        run.begin()
        print("waiting", flush=True)
        time.sleep(60)
    run.log(step=0, loss=0.7)
    if config.fail == "key":
        raise InputError("hub_token: the Hub refuses hf_abcdefghijklmnopqrst")
    if config.fail == "bug":
        raise ZeroDivisionError("with hf_abcdefghijklmnopqrst")
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
    lines = (tmp_path / "out/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [0.7, 0.5]
    assert not (tmp_path / "out/.lock").exists()
    everything = done.stdout + done.stderr + "".join(p.read_text() for p in (tmp_path / "out").iterdir())
    assert "very-secret" not in everything


@pytest.mark.parametrize(("fault", "status", "line", "left"), [
    ("input", 2, "error: rows.jsonl:3: no answer; add one", None),
    ("key", 2, "error: c.yaml:2: hub_token: the Hub refuses ***", "failed"),
    ("interrupt", 130, "interrupted", "interrupted"),
    ("disk", 1, "error: the disk is full (weights); earlier checkpoints are untouched", "failed"),
])  # fmt: skip
def test_faults_are_one_line_and_a_status(script, tmp_path, fault, status, line, left):
    done = script("--set", f"fail={fault}", "--log-level", "ERROR")
    assert (done.returncode, done.stderr.strip()) == (status, line)
    if left is None:
        assert not (tmp_path / "out").exists()  # it never began
    else:
        assert json.loads((tmp_path / "out/metrics.json").read_text())["status"] == left


def test_a_bug_is_a_traceback_without_secrets(script):
    done = script("--set", "fail=bug")
    assert done.returncode == 1
    assert "ZeroDivisionError: with ***" in done.stderr
    assert "hf_abc" not in done.stderr


def test_a_folder_in_use_is_refused_and_sigterm_ends_cleanly(script, tmp_path):
    command = [sys.executable, "toy_stage.py", "--config-path", "c.yaml", "--set", "fail=wait"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "waiting\n"
        assert json.loads((tmp_path / "out/metrics.json").read_text())["status"] == "running"
        second = script("--log-level", "ERROR")
        assert second.returncode == 2
        assert f"output_dir: out is in use by process {first.pid} on " in second.stderr
        assert "(toy_stage.py, since 2" in second.stderr
        first.send_signal(signal.SIGTERM)
        assert (first.wait(30), first.stderr.read().splitlines()[-1]) == (143, "interrupted")
    assert json.loads((tmp_path / "out/metrics.json").read_text())["status"] == "interrupted"
    assert script().returncode == 0


def test_a_killed_run_leaves_no_lock(script, tmp_path):
    command = [sys.executable, "toy_stage.py", "--config-path", "c.yaml", "--set", "fail=wait"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "waiting\n"
        (tmp_path / "out/.metrics.json.x1.tmp").write_text("{")
        (tmp_path / "out/.model.x1.partial").mkdir()
        first.kill()
    assert script().returncode == 0
    left = {p.name for p in (tmp_path / "out").iterdir()}
    assert left == {"config.json", "metrics.json", "metrics.jsonl"}


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
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'\n[1]\n3\n"x"\n{"loss": 1}\n{"step": "2"}\n\xff\xfe\n' + b"[" * 100_000 + b"\n")
        file.write(b'{"step": 4, "lo')  # cut by a kill
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


def opened(path, stage="s", **keys):
    return open_run(Config(**keys), stage=stage, output_dir=path, seed=0)


def facts(path):
    return json.loads((path / "metrics.json").read_text())


def test_a_refused_start_leaves_a_finished_run_as_it_was(tmp_path):
    with opened(tmp_path, names=["a"]) as run:
        run.preview("first")
        run.report(loss=1.0)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert set(before) == {"config.json", "metrics.json", "preview.txt"}

    def refused():
        with opened(tmp_path, names=["b"]) as run:
            run.preview("second")
            run.report(loss=2.0)
            raise InputError("resume: checkpoint-3 was made with other settings")

    pytest.raises(InputError, refused)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_torch_is_seeded_when_it_is_loaded_late(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")  # as in a script that has parsed and checked, and loaded nothing yet
    with open_run(Config(), stage="s", output_dir=tmp_path / "right", seed=3) as run:
        with run.loading():
            monkeypatch.setitem(sys.modules, "torch", torch)
        drawn = float(torch.rand(()))
    torch.manual_seed(3)
    assert drawn == float(torch.rand(()))
    assert json.loads((tmp_path / "right" / "metrics.json").read_text())["start_s"] > 0

    monkeypatch.delitem(sys.modules, "torch")
    with (
        pytest.raises(RuntimeError, match=r"import it in `with run\.loading"),
        open_run(Config(), stage="s", output_dir=tmp_path / "wrong", seed=3),
    ):
        monkeypatch.setitem(sys.modules, "torch", torch)


def test_a_sample_file_holds_this_runs_samples(tmp_path):
    for text in ("first", "second hf_abcdefghijklmnopqrst"):
        with opened(tmp_path) as run:
            run.preview(text)
            run.begin()
            run.preview("more")
    assert (tmp_path / "preview.txt").read_text() == "second ***\nmore\n"


@pytest.mark.parametrize(
    ("name", "content", "holds"),
    [
        ("metrics.json", '{"stage": "sft", "status": "complete"}', "holds a run of sft"),
        ("config.json", '{"model_type": "llama"}', "holds a model"),
        ("dataset_metadata.json", "{}", "holds a dataset"),
        (".git", "gitdir: x", "is a source tree"),
    ],
)
def test_a_folder_of_something_else_is_refused(tmp_path, name, content, holds):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=f"output_dir: .* {holds}; choose another folder"), opened(tmp_path, "dpo"):
        pass
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_figures_that_are_no_numbers_are_null_and_named(tmp_path):
    with opened(tmp_path) as run:
        run.log(step=1, loss=float("nan"), rate=0.1, parts=[1.0, float("inf")])
        run.report(final_loss=float("inf"), kept=1)
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert (line["loss"], line["rate"], line["parts"]) == (None, 0.1, [1.0, None])
    assert line["not_finite"] == ["loss", "parts"]
    assert (facts(tmp_path)["final_loss"], facts(tmp_path)["not_finite"]) == (None, ["final_loss"])


def test_seconds_add_up_over_resumes(tmp_path):
    with opened(tmp_path) as run:
        run.started -= 100
        run.log(step=1)
        run.started -= 50
        run.log(step=2)
    with opened(tmp_path) as run:
        run.forget_after(1)
        assert 100 <= run.seconds_before < 110
        run.log(step=2)
    assert 100 <= facts(tmp_path)["wall_s"] < 110
    assert 100 <= json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["elapsed_s"] < 110
    with opened(tmp_path) as run:
        run.forget_after(-1)
    assert facts(tmp_path)["wall_s"] < 10


def test_the_configuration_can_not_change_under_way(tmp_path):
    def changes():
        with opened(tmp_path) as run:
            run.begin()
            run.config.names.append("x")

    with pytest.raises(RuntimeError, match="the configuration was changed"):
        changes()
    assert facts(tmp_path)["status"] == "running"
    with opened(tmp_path, names=["a"]):
        pass
    assert facts(tmp_path)["config_hash"] == config_hash(json.loads((tmp_path / "config.json").read_text()))


def test_a_disk_that_stops_the_run_doesnt_hide_what_it_said_first(tmp_path, monkeypatch, caplog):
    def fails():
        with opened(tmp_path) as run:
            run.begin()
            monkeypatch.setattr("pipeline.run.write_json", lambda *_: (_ for _ in ()).throw(OSError(30, "Read-only")))
            raise ValueError("the first")

    with pytest.raises(ValueError, match="the first"):
        fails()
    assert "metrics.json can't be written: Read-only" in caplog.text


def test_other_processes_of_a_launch_neither_lock_nor_write(tmp_path, monkeypatch):
    with opened(tmp_path) as first:
        first.begin()
        before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        monkeypatch.setenv("RANK", "1")
        with opened(tmp_path) as second:
            second.log(step=1, loss=1.0)
            second.preview("x")
            second.forget_after(0)
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
        monkeypatch.setenv("RANK", "0")


def test_a_file_system_without_locks_is_worth_a_warning(tmp_path, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("pipeline.folder_lock.fcntl.lockf", no_locks)
    with opened(tmp_path) as run:
        run.begin()
    assert facts(tmp_path)["status"] == "complete"
    assert "no locks here (No locks available)" in caplog.text
