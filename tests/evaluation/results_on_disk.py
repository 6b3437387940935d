"""What stages and lm_eval leave on disk, with figures that can be worked out on paper."""

import json
from pathlib import Path

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
