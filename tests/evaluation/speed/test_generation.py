"""The generation benchmark prints one JSON line with the names that others read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_the_benchmark_prints_one_line_for_all_three_models():
    sizes = {"batch": 2, "tokens": 4, "width": 32, "layers": 2, "slots": 4, "prompt": 4, "vocab": 64, "repeats": 1}
    arguments = [part for name, value in sizes.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, str(ROOT / "evaluation" / "speed" / "generation.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    for prefix in ("", "plain_", "stateless_"):
        for name in (
            "tokens_per_s",
            "single_tokens_per_s",
            "first_token_ms",
            "latency_ratio_64_1",
            "peak_mb",
            "floor_share",
        ):
            assert report[prefix + name] > 0
        assert report[f"{prefix}peak_mb"] >= report[f"{prefix}start_mb"]
    assert report["memory_update_ms"] > 0
    # The same width, depth and feed-forward width: without memory, the two decoders have the same parameters.
    assert report["plain_decoder_parameters"] == pytest.approx(report["stateless_decoder_parameters"], rel=0.01)
    assert report["settings"]["slots"] == 4
