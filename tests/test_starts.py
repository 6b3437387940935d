"""Every script answers `--help`, a wrong key and a missing file before it has loaded torch and its kin."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("data", "post_training", "mrl", "evaluation", "evaluation/quickstart", "evaluation/speed", "evaluation/study")
SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix()
    for room in ROOMS
    for path in (ROOT / room).glob("*.py")
    if '__name__ == "__main__"' in path.read_text("utf-8")
)
HEAVY = {
    "torch", "transformers", "trl", "peft", "accelerate", "datasets", "pandas", "scipy", "sklearn", "matplotlib",
    "wandb", "lm_eval", "gradio",
}  # fmt: skip
"""Each takes from half a second to many. A script imports what it works with inside its `main`, in
`with run.loading():` where it has a run; its configuration classes stand in modules that import none of these."""

# Forks for each start: no child pays for an interpreter of its own, and none sees another's modules.
FORKING = """
import contextlib, io, json, os, runpy, sys
import pipeline.run
for script, arguments in json.load(sys.stdin):
    back, there = os.pipe()
    if not os.fork():
        said, status = io.StringIO(), None
        sys.argv = [script, *arguments]
        sys.path[0] = os.path.dirname(os.path.abspath(script))
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            status = end.code
        except BaseException as error:
            said.write(repr(error))
        whole = json.dumps([script, status, said.getvalue(), sorted({name.partition(".")[0] for name in sys.modules})])
        os.write(there, whole.encode())
        os._exit(0)
    os.close(there)
    with os.fdopen(back) as file:
        print(file.read(), flush=True)
    os.wait()
"""


def starts(cases: list[tuple[str, list[str]]]) -> dict[str, tuple[int | None, str, set[str]]]:
    """Exit status, what was said and the modules that were there at the end, by script."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING], input=json.dumps(cases), cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {script: (status, said, set(modules)) for script, status, said, modules in found}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help"], 0),
        (["--config-path", "nowhere/recipe.yaml"], 2),
        (["--set", "traner.max_steps=1"], 2),
    ],
)
def test_a_start_that_comes_to_nothing_loads_nothing_heavy(arguments, expected):
    assert len(SCRIPTS) >= 4
    configured = {s for s in SCRIPTS if arguments == ["--help"] or takes_a_recipe(s)}
    for script, (status, said, modules) in starts([(s, arguments) for s in sorted(configured)]).items():
        assert status == expected, (script, said)
        assert not modules & HEAVY, (script, sorted(modules & HEAVY))
        if expected == 2:
            assert said.startswith("error: "), (script, said)
            assert said.count("\n") == 1, (script, said)


REFUSED = [
    ("post_training/sft.py", ["--set", "trainer.max_stps=1"], "did you mean max_steps?"),
    ("post_training/dpo.py", ["--set", "model.name=./nowhere"], "there is no folder ./nowhere"),
    ("post_training/grpo.py", ["--set", "model.name=.", "--set", "dataset.name=./nowhere.jsonl"], "no file matches"),
    ("evaluation/retention.py", ["--model", "./nowhere", "--data", "x"], "there is no folder ./nowhere"),
    ("evaluation/benchmarks.py", ["--model", "./nowhere"], "there is no folder ./nowhere"),
    ("evaluation/babi.py", ["--model", "./nowhere"], "there is no folder ./nowhere"),
    ("evaluation/quickstart/run.py", ["--output-dir", "README.md/out"], "can't be written: Not a directory"),
    ("data/check_dialogues.py", ["x.jsonl", "--tokenizer", "./nowhere"], "there is no folder nowhere"),
    ("evaluation/preferences.py", ["--start", ".", "--model", "./nowhere", "--data", "x"], "holds no"),
]  # fmt: skip


@pytest.mark.slow
def test_a_wrong_option_of_a_trainer_and_a_missing_model_are_refused_as_early():
    found = starts([(script, arguments) for script, arguments, _ in REFUSED])
    for script, _, words in REFUSED:
        status, said, modules = found[script]
        assert (status, words in said) == (2, True), (script, said)
        assert not modules & HEAVY, (script, sorted(modules & HEAVY))


UNREACHABLE = [
    ("post_training/sft.py", ["--set", "model.name=org/none"], "model.name"),
    ("post_training/sft.py", ["--set", "model.name=.", "--set", "dataset.name=org/none"], "dataset.name"),
    ("post_training/dpo.py", ["--set", "model.name=org/none"], "model.name"),
    ("post_training/grpo.py", ["--set", "model.name=.", "--set", "dataset.name=org/none"], "dataset.name"),
    ("post_training/initialise.py", ["--set", "tokenizer=org/none"], "tokenizer"),
    ("mrl/convert.py", ["--from", "org/none"], "model.name"),
    ("mrl/memory_sft.py", ["--set", "model.path=org/none"], "model.path"),
    ("mrl/chat.py", ["--model", "org/none", "--cli"], "--model"),
    ("evaluation/retention.py", ["--model", "org/none", "--data", "x"], "model.path"),
]


@pytest.mark.slow
def test_a_hub_that_refuses_connections_ends_a_script_before_it_loads_anything_heavy(monkeypatch, tmp_path):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "TRLM_HUB_UNREACHABLE", "http_proxy"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening: connections are refused
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        for script, arguments, key in UNREACHABLE:
            if takes_a_recipe(script):
                arguments = [*arguments, "--log-level", "WARNING", "--output-dir", str(tmp_path / "out")]
            status, said, modules = starts([(script, arguments)])[script]
            assert (status, said.count("\n")) == (2, 1), (script, said)
            assert f"{key}: org/none is nothing on this disk, the Hub can't be reached (127.0.0.1:" in said
            assert not modules & HEAVY, (script, sorted(modules & HEAVY))
    assert not (tmp_path / "out").exists()


def takes_a_recipe(script: str) -> bool:
    text = (ROOT / script).read_text("utf-8")
    return "stage_main" in text or '"--set"' in text
