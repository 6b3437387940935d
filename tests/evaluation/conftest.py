"""The folder of a small quickstart, made by hand; the small model and tokenizer of mrl's tests."""

import json
from pathlib import Path

import pytest

from tests.evaluation.results_on_disk import STAMP, harness, put, stage, task
from tests.mrl.conftest import model, tokenizer

__all__ = ["model", "tokenizer"]


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
