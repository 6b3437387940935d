"""The quickstart's lists of commands: they are real ones, run side by side, and say what they show."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evaluation.quickstart.plan import Plan, Step
from evaluation.quickstart.progress import about, clock, shown_so_far
from evaluation.quickstart.run import Row, Walk, rest, start_seconds
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


@pytest.mark.parametrize("name", ["quickstart.yaml", "tour.yaml"])
def test_the_commands_name_scripts_recipes_and_rooms_that_exist(name):
    plan = load_config(Plan, ROOT / name)
    for listed in (*plan.lists.values(), plan.report):
        for each in listed:
            words = each.words({"OUT": "out"}, quick=True)
            assert words[2] == "lm_eval" or (ROOT / words[2]).is_file()
            assert "--config-path" not in words or (ROOT / words[words.index("--config-path") + 1]).is_file()
            assert not any("$" in word for word in words)


@pytest.mark.slow
def test_lists_run_side_by_side_and_leave_logs_and_times(tmp_path, script):
    plan = {
        "lists": {
            "reasoning": [step("one", script, "0.1", "$OUT"), step("two", script, "0")],
            "memory": [step("three", script, "0.2")],
        },
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


@pytest.fixture
def finished(tmp_path) -> Path:
    """The folder of a quickstart that is over."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "started_at").write_text("100\n")
    os.utime(out / "started_at", (100, 100))
    (out / "report.json").write_text("{}")
    return out


@pytest.mark.slow
def test_what_goes_on_runs_two_lists_at_a_time_and_not_again_what_is_there(tmp_path, script, finished):
    there, absent = finished / "there_7.json", finished / "absent_*.json"
    there.write_text("{}")
    lists = {
        "asked": [step("over", script, "0", "over") | {"leaves": "$OUT/there_*.json"}],
        "again": [
            step("first", script, "0.6", "first") | {"leaves": str(absent)},
            step("after it", script, "0", "after") | {"leaves": str(there)},
        ],
        "beside": [step("beside", script, "0.6", "beside")],
        "later": [step("later", script, "0", "later")],
    }
    (finished / "tour").mkdir()
    former = {"command": f"uv run {script} 0 over", "wall_s": 7.5, "start_s": None}
    (finished / "tour/commands.json").write_text(json.dumps({"commands": [former]}))
    done = quickstart(tmp_path, {"goes_on": True, "lists": lists, "report": [step("last", script, "0")]})
    assert done.returncode == 0, done.stderr
    begun = [line.split("] ")[1].split(":")[0] for line in done.stdout.splitlines() if ": " in line and "/" in line]
    assert begun[:2] == ["again 1/2", "beside 1/1"]
    assert set(begun[2:4]) == {"again 2/2", "later 1/1"}, "once a list before it has ended or its own command has"
    assert "asked 1/1" not in begun
    entries = json.loads((finished / "tour/commands.json").read_text())["commands"]
    assert entries[0] == former, "the time of what is over stays what it was"
    assert len(entries) == 6
    assert (finished / "started_at").read_text() == "100\n"
    assert not (finished / "logs").exists()


def test_what_goes_on_refuses_a_folder_without_a_finished_quickstart(tmp_path, script, finished):
    plan = {"goes_on": True, "lists": {"one": [step("one", script, "0")]}, "report": [step("last", script, "0")]}
    os.utime(finished / "started_at")  # a second quickstart is under way
    os.utime(finished / "report.json", (100, 100))
    for name in ("report.json", "started_at"):
        refused = quickstart(tmp_path, plan)
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"error: {finished} holds no finished quickstart")
        assert refused.stderr.count("\n") == 1
        (finished / name).unlink()


@pytest.mark.slow
def test_a_command_that_fails_ends_the_other_list_and_shows_its_words(tmp_path, script):
    plan = {
        "lists": {"reasoning": [step("one", script, "0", "fails")], "memory": [step("two", script, "50")]},
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


def rows(**lists: list[tuple[str, float, list[str]]]) -> list[Row]:
    """Lists of commands by name, each what it does, its seconds and its needs."""
    return [
        Row(name, [Step(does=does, command="uv run x", seconds=s, needs=needs) for does, s, needs in steps])
        for name, steps in lists.items()
    ]


def test_the_rest_is_estimated_by_what_commands_took():
    walk = Walk(Path("out"), Path("out"), quick=False, fork=False, cores=2, share=1, expected=30.0, taken=60.0)
    assert walk.pace() == 2.0
    assert rest(rows(one=[(str(n), 1.0, []) for n in range(5)]), set(), now=0.0) == 5.0
    four = rows(**{str(n): [(str(n), seconds, [])] for n, seconds in enumerate((5.0, 1.0, 2.0, 4.0))})
    assert rest(four, set(), now=0.0) == 7.0, "two at a time, in their order: 5 beside 1, 2 and 4"
    four[0].pid, four[0].began = 17, 100.0
    assert rest(four, set(), now=102.0) == 7.0, "3 are left of the first"
    assert rest(four, set(), now=200.0) == 5.0, "longer than expected, and over at any moment"
    assert four[0].pid == 17, "nothing is changed by asking"
    assert (clock(425), about(41.7), about(150)) == ("7:05", "about 42 s", "about 2 min")


def test_the_estimate_begins_a_command_once_what_it_needs_is_over():
    lists = rows(long=[("a", 2.0, []), ("b", 5.0, [])], short=[("c", 3.0, [])], aside=[("d", 4.0, ["a"])])
    assert rest(lists, set(), now=0.0) == 7.0, "d from 3, when c leaves its core, to 7"
    lists[1].steps[0].needs.append("b")
    assert rest(lists, set(), now=0.0) == 10.0, "d from 2 to 6, c after b from 7"


def plan_of(*needs: str) -> dict:
    lists = {"one": [step("a", Path("a.py")), step("b", Path("b.py"))], "two": [step("c", Path("c.py"))]}
    lists["one"][0]["needs"] = list(needs)
    return {"lists": lists, "report": [step("last", Path("d.py"))]}


@pytest.mark.parametrize(
    ("needs", "why"),
    [
        ("cc", r"lists.one\[0\].needs: 'cc' is no command; did you mean c\?"),
        ("b", r"lists.one\[0\].needs: 'a' would wait for what comes after it"),
    ],
)
def test_needs_that_cannot_be_met_are_refused_before_anything_begins(needs, why):
    with pytest.raises(InputError, match=why):
        parse_config(Plan, plan_of(needs))
    assert parse_config(Plan, plan_of("c")).lists["one"][0].needs == ["c"]


def test_threads_are_the_same_however_long_the_commands_take():
    plan = load_config(Plan, ROOT / "quickstart.yaml")
    assert (plan.share(1), plan.share(2), plan.share(16)) == (1, 1, 8)
    on_all = [each.does for steps in plan.lists.values() for each in steps if each.cores == "all"]
    assert on_all == ["what is recalled after memory reinforcement learning"], "the last command before the report"
    assert plan.lists["memory"][-1].does == on_all[0]


def test_the_supervised_model_is_asked_when_a_core_is_free_and_none_waits_before():
    plan = load_config(Plan, ROOT / "quickstart.yaml")
    lists = [Row(name, steps) for name, steps in plan.lists.items()]
    seconds = {row.name: sum(step.seconds for step in row.steps) for row in lists}
    # What is left for one core alone is the last command at most.
    assert rest(lists, set(), now=0.0) <= (sum(seconds.values()) + seconds["aside"]) / 2


@pytest.mark.slow
def test_a_command_begins_when_what_it_needs_is_over_on_its_share_of_the_cores(tmp_path, script):
    lists = {
        "main": [step("teach", script, "0.8", "teach"), step("reinforce", script, "1.2", "reinforce")],
        "other": [step("puzzles", script, "0.2", "puzzles")],
        "aside": [step("asked", script, "0", "asked") | {"needs": ["teach"]}],
        "later": [step("free", script, "0", "free") | {"cores": "all"}],
    }
    done = quickstart(tmp_path, {"lists": lists, "report": [step("last", script, "0")]}, "--quick")
    assert done.returncode == 0, done.stderr
    begun = [line.split(": ")[1] for line in done.stdout.splitlines() if "/" in line and ": " in line]
    assert begun == ["teach", "puzzles", "free", "reinforce", "asked", "last"]
    cores = len(os.sched_getaffinity(0))
    threads = {name: (tmp_path / f"out/logs/{name}_01.log").read_text().split()[-1] for name in lists}
    share = str(max(1, cores // 2))
    assert threads == {"main": share, "other": share, "aside": share, "later": str(cores)}
    assert (tmp_path / "out/logs/main_02.log").read_text().split()[-1] == share, "though nothing else is at work"


@pytest.mark.slow
def test_what_is_there_is_made_again_when_what_it_needs_was(tmp_path, script, finished):
    there = finished / "there.json"
    there.write_text("{}")
    lists = {
        "main": [step("teach", script, "0", "teach") | {"leaves": "$OUT/absent.json"}],
        "aside": [step("asked", script, "0", "asked") | {"leaves": str(there), "needs": ["teach"]}],
        "other": [step("over", script, "0", "over") | {"leaves": str(there)}],
        "after": [step("after it", script, "0", "after") | {"needs": ["over"]}],
    }
    done = quickstart(tmp_path, {"goes_on": True, "lists": lists, "report": [step("last", script, "0")]})
    assert done.returncode == 0, done.stderr
    begun = [line.split("] ")[1].split(":")[0] for line in done.stdout.splitlines() if ": " in line and "/" in line]
    assert sorted(begun) == ["after 1/1", "aside 1/1", "main 1/1", "report 1/1"]


def test_a_command_that_nobody_could_type_is_refused():
    plan = {"does": "x", "seconds": 1, "command": "rm -r $OUT"}
    with pytest.raises(InputError, match="should begin with `uv run SCRIPT`"):
        parse_config(Step, plan).words({"OUT": "out"}, False)


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
