"""A study of two parts and what its finished runs leave on disk."""

import json
from collections.abc import Sequence
from pathlib import Path

from evaluation.study.config import Job, StudyConfig, Variant


def small(folder: Path) -> StudyConfig:
    settings = ["t.minutes={minutes}", "d=[{path: a}]"]
    return StudyConfig(
        output_dir=folder, start="start", config="mrl.yaml", data_folder="episodes", data="test",
        parts={
            "seeds": {"mrl": Variant(seeds=[1, 2])},
            "more": {
                "mrl": Variant(same_as="seeds/mrl"),
                "sft": Variant(script="sft.py", config="sft.yaml", like="seeds/mrl", settings=settings),
            },
        },
    )  # fmt: skip


def finish(study: StudyConfig, job: Job, recall: float, seconds: float = 90.0) -> None:
    folder = job.folder(study)
    folder.mkdir(parents=True)
    by = dict.fromkeys(("1", "2", "4", "8", "16", "all"), recall)
    table = {"recall": by, "recall_reset_control": {"2": 0.1}, "recall_foreign_control": {"2": 0.2}}
    (folder / "retention.json").write_text(json.dumps({"recall": table}))
    (folder / "metrics.json").write_text(json.dumps({"train_s": seconds, "peak_mb": 9.0, "steps": 3}))
    known = [{"step": n, "rollout_explained_variance": n / 10} for n in range(8)]
    lines = [{"step": 0, "eval_recall": 1.0}, *(known if job.name == "mrl" else [])]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")


def write_answers(folder: Path, hits: Sequence[bool], data: str = "f") -> None:
    """Which of some questions about `data` were answered right, each a dialogue of its own."""
    folder.mkdir(exist_ok=True)
    asked = [{"where": f"{data}:{n}", "turn": 1, "distance": 2, "recall": {"recalled": x}} for n, x in enumerate(hits)]
    (folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))
