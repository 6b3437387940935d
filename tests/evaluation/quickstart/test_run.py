"""The quickstart's lists of commands: they are real ones, run side by side, and say what they show."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evaluation.quickstart.plan import Plan
from evaluation.quickstart.progress import about, clock, shown_so_far
from evaluation.quickstart.run import Row, Walk, start_seconds
from pipeline.config import load_config, parse_config
from pipeline.errors import InputError

ROOT = Path(__file__).parents[3]
SCRIPT = """
import os, sys, time
print("said", *sys.argv[1:], os.environ["OMP_NUM_THREADS"])
if "fails" in sys.argv:
    sys.exit("error: it doesn't work")
time.sleep(float(sys.argv[1]))
"""


def step(does: str, script: Path, *arguments: str) -> dict:
    return {"does": does, "seconds": 1, "command": f"uv run {script} {' '.join(arguments)}", "quick": "quickly"}


def quickstart(tmp_path: Path, plan: dict, *options: str) -> subprocess.CompletedProcess:
    path = tmp_path / "plan.yaml"
    path.write_text(json.dumps(plan))
    command = [sys.executable, "evaluation/quickstart/run.py", "--config-path", path, "--output-dir", tmp_path / "out"]
    return subprocess.run([*map(str, command), *options], cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.fixture
def script(tmp_path) -> Path:
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path / "script.py"


def test_the_commands_name_scripts_recipes_and_rooms_that_exist():
    plan = load_config(Plan, ROOT / "quickstart.yaml")
    for listed in (*plan.lists.values(), plan.report):
        for each in listed:
            words = each.words({"OUT": "out"}, quick=True)
            assert words[2] == "lm_eval" or (ROOT / words[2]).is_file()
            assert "--config-path" not in words or (ROOT / words[words.index("--config-path") + 1]).is_file()
            assert not any("$" in word for word in words)


@pytest.mark.slow
def test_lists_run_side_by_side_and_leave_logs_and_times(tmp_path, script):
    plan = {
        "reasoning": [step("one", script, "0.1", "$OUT"), step("two", script, "0")],
        "memory": [step("three", script, "0.2")],
        "report": [step("last", script, "0")],
    }
    done = quickstart(tmp_path, plan, "--quick")
    assert done.returncode == 0, done.stderr
    assert "reasoning 2/2: two" in done.stdout
    log = (tmp_path / "out/logs/reasoning_01.log").read_text()
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert log.split() == ["said", "0.1", str(tmp_path / "out"), "quickly", str(share)]
    commands = json.loads((tmp_path / "out/commands.json").read_text())["commands"]
    assert [set(c) for c in commands] == [{"command", "wall_s", "start_s"}] * 4
    assert sum(c["wall_s"] for c in commands) > 0.3
    assert done.stdout.splitlines()[-1].startswith("said 0 quickly")


@pytest.mark.slow
def test_a_command_that_fails_ends_the_other_list_and_shows_its_words(tmp_path, script):
    plan = {
        "reasoning": [step("one", script, "0", "fails")],
        "memory": [step("two", script, "50")],
        "report": [step("last", script, "0")],
    }
    done = quickstart(tmp_path, plan)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert "error: it doesn't work" in lines[-2]
    assert "ended with status 1; its output is" in lines[-1]


def test_what_is_shown_so_far_is_read_off_the_figures(tmp_path):
    assert shown_so_far(tmp_path) == []
    table = {"recall": {"mrl": {"1": 0.9, "16": 0.75, "all": 0.8}, "mrl_reset_control": {"16": 0.02}}}
    (tmp_path / "retention.json").write_text(json.dumps(table))
    assert shown_so_far(tmp_path) == [
        "mrl recalls 75.0 % of what was said 16 turns ago (2.0 % when its memory is reset)"
    ]


def test_the_rest_is_estimated_by_what_commands_took():
    steps = parse_config(Plan, {name: [step("x", Path("a.py"))] for name in ("reasoning", "memory", "report")}).memory
    walk = Walk(Path("out"), quick=False, fork=False, cores=2, expected=30.0, taken=60.0)
    assert (walk.pace(), Row("memory", steps * 5).left(now=0.0)) == (2.0, 5.0)
    assert (clock(425), about(41.7), about(150)) == ("7:05", "about 42 s", "about 2 min")


def test_a_command_that_nobody_could_type_is_refused():
    plan = {"does": "x", "seconds": 1, "command": "rm -r $OUT"}
    with pytest.raises(InputError, match="should begin with `uv run SCRIPT`"):
        parse_config(Plan, {"reasoning": [plan], "memory": [], "report": []}).reasoning[0].words({"OUT": "out"}, False)


def test_the_seconds_of_a_start_are_those_that_the_command_itself_has_written(tmp_path):
    command = f"uv run x.py --output-dir {tmp_path}"
    assert start_seconds(command, 0.0) is None, "nothing is written yet"
    (tmp_path / "dataset_metadata.json").write_text('{"start_s": 0.5}')
    assert start_seconds(command, 0.0) == 0.5
    (tmp_path / "retention.json").write_text('{"start_s": 1.5}')
    assert start_seconds(command, 0.0) == 1.5
    (tmp_path / "metrics.json").write_text('{"start_s": 2.5}')
    assert start_seconds(command, 0.0) == 2.5
    assert start_seconds(command, time.time() + 60) is None, "left by an earlier run"
    assert start_seconds("uv run lm_eval run --output_path x", 0.0) is None
