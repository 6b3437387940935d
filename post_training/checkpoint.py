"""The way back to the newest sound checkpoint, if the run that continues it is the same run."""

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from pipeline.artifact import is_complete, latest_complete, read_manifest
from pipeline.config import to_dict
from pipeline.errors import InputError
from pipeline.redaction import redact
from pipeline.run import Run, is_main_process

logger = logging.getLogger(__name__)
_HARMLESS = {
    "output_dir", "resume", "name", "description",
    "trainer.logging_steps", "trainer.save_steps", "trainer.save_total_limit", "trainer.report_to", "trainer.run_name",
    "trainer.push_to_hub", "trainer.hub_model_id", "trainer.hub_strategy", "trainer.hub_private_repo",
    "trainer.hub_token", "trainer.dataset_num_proc", "trainer.dataloader_num_workers",
}  # fmt: skip
"""Keys that may differ between a checkpoint and the run that continues it, since no weight depends on them."""
_OF_EVALUATION = {"trainer.eval_steps", "trainer.eval_strategy"}
"""Likewise, where no evaluation decides which weights are kept."""
_IDENTITIES = {
    "data_fingerprint": "trained on other data",
    "examples_fingerprint": "trained on other data (rows, template or tokenizer have changed)",
    "start_fingerprint": "started from other weights",
}
"""Facts of a run that its checkpoints carry, and what it means when they differ."""


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait for the other processes, if there are any."""
    if dist.is_initialized():
        dist.barrier()


def manifest_of(run: Run, step: int) -> dict[str, Any]:
    """What a checkpoint says of itself: step, settings, processes, and what was trained from what."""
    return {
        "step": step,
        "stage": run.stage,
        "config": redact(to_dict(run.config)),
        "config_hash": run.config_hash,
        "world_size": world_size(),
        **{name: run.facts.get(name) for name in _IDENTITIES},
    }


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint to continue. tokens, train_s: what was trained until then; ended: whether the run was over there."""

    folder: Path
    tokens: int
    train_s: float
    ended: bool


def differing_keys(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Dotted keys whose values differ between two configurations."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            key_in_both
            for key in sorted({*old, *new})
            for key_in_both in differing_keys(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else str(key))
        ]
    return [] if old == new else [prefix]


def resume_point(run: Run) -> ResumePoint | None:
    """The checkpoint to continue from under `resume: auto`, or None for a fresh start.

    Passes over broken ones. Raises InputError when the newest sound one was made by other settings, other data or
    another number of processes, since the result would be neither run's.
    """
    if not run.resume:
        if is_main_process():
            for stale in run.dir.glob("checkpoint-*"):
                logger.warning("resume: never starts afresh; removing %s", stale)
                shutil.rmtree(stale, ignore_errors=True)
            run.forget_after(-1)
        barrier()
        return None
    if is_main_process():
        for half in run.dir.glob("checkpoint-*[0-9]"):
            if not is_complete(half):
                logger.warning("passing over %s: it is incomplete", half)
                shutil.rmtree(half, ignore_errors=True)
    barrier()
    newest = latest_complete(run.dir)
    if newest is None:
        run.forget_after(-1)
        return None
    manifest = read_manifest(newest) or {}
    _require_same_run(manifest, run, newest)
    logger.info("continuing from %s", newest)
    run.forget_after(int(manifest["step"]))
    return ResumePoint(newest, int(manifest.get("tokens", 0)), float(manifest.get("train_s", 0)), _has_ended(newest))


def _has_ended(folder: Path) -> bool:
    """Whether the Trainer was told to stop at this checkpoint: the last step was done, or it had stopped early."""
    try:
        state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        stop = state["stateful_callbacks"]["TrainerControl"]["args"]["should_training_stop"]
        return bool(stop) or state["global_step"] >= state["max_steps"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"resume: {folder}/trainer_state.json can't be read; remove that checkpoint, or set resume: never"
        ) from None


def _require_same_run(manifest: dict[str, Any], run: Run, folder: Path) -> None:
    remedy = "set resume: never (removes the old checkpoints) or choose another output_dir"
    try:
        config, processes = manifest["config"], int(manifest["world_size"])
        if not int(manifest["step"]) >= 0:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise InputError(f"resume: {folder} wasn't made by this script; {remedy}") from None
    now = redact(to_dict(run.config))
    decisive = now.get("early_stopping") or now["trainer"].get("load_best_model_at_end")
    harmless = _HARMLESS if decisive else _HARMLESS | _OF_EVALUATION
    changed = [k for k in differing_keys(config, now) if k not in harmless]
    if changed:
        raise InputError(f"resume: {folder} was made with other settings ({', '.join(changed[:6])}); {remedy}")
    if processes != world_size():
        raise InputError(
            f"resume: {folder} was made by {processes} processes, not {world_size()}: the data would be "
            f"read from another place; use as many again, or {remedy}"
        )
    for name, meaning in _IDENTITIES.items():
        before, now = manifest.get(name), run.facts.get(name)
        if before != now:
            raise InputError(f"resume: {folder} was {meaning}: {name} {before}, now {now}; {remedy}")


__all__ = ["ResumePoint", "barrier", "differing_keys", "manifest_of", "resume_point", "world_size"]
