"""The benchmark of memory reinforcement learning prints one JSON line with the names that others read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_the_benchmark_does_the_work_it_names():
    sizes = {
        "episodes": 3, "steps": 2, "batch": 2, "tokens": 6, "prompt": 4, "width": 32, "layers": 2, "slots": 4,
        "vocab": 64, "repeats": 1,
    }  # fmt: skip
    arguments = [part for name, value in sizes.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, str(ROOT / "evaluation" / "speed" / "memory_rl.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    for name in (
        "episodes_per_s",
        "rollout_s",
        "reward_s",
        "update_s",
        "generated_tokens_per_s",
        "peak_mb",
        "floor_s",
        "floor_share",
    ):
        assert report[name] > 0
    assert report["gflop"] == pytest.approx(report["floor_s"] * report["matmul_gflop_per_s"], rel=0.1, abs=0.002)
    # Every answer runs to its limit, of which the first token is forced: 3 dialogues, 2 turns, 5 tokens.
    assert report["generated_tokens_per_s"] * report["rollout_s"] == pytest.approx(30, rel=0.2)
