"""Checkpoints of a training run: named parts, whole or absent, and the way back to the newest one.

A part is anything with `state_dict()` and `load_state_dict()`: optimiser, order of the data, curriculum. The model's
weights lie beside them in Hugging Face's form, so that each checkpoint can be used as it is.
"""

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file

from pipeline.artifact import atomic_dir, checkpoints, latest_complete, read_manifest, remove_partial, rotate
from pipeline.config import config_hash, to_dict
from pipeline.errors import InputError
from pipeline.hub import redact
from pipeline.provenance import git_commit, versions
from pipeline.run import Run

logger = logging.getLogger(__name__)
STATE = "training_state.pt"
HARMLESS = {"output_dir", "resume", "name", "description", "log_every", "eval_every", "save_every", "keep",
            "report_to", "push_to_hub", "max_steps", "max_minutes", "patience", "precision",
            "prerequisites", "processes", "shard"}  # fmt: skip
"""Keys (by their last name) that may differ between a checkpoint and the run that continues it."""

NAMED = {"", "data.", "trainer.", "objective.", "curriculum.", "optimiser.", "rollout.", "ppo.", "replay.", "critic."}
"""Sections whose keys are fixed by a dataclass; in others any key may be absent with a meaning."""


class Part(Protocol):
    """Something whose state belongs to a run."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


def run_manifest(run: Run, **facts: Any) -> dict[str, Any]:
    """Where weights come from: stage, configuration, commit, versions and whatever the stage adds."""
    return {
        "stage": run.stage,
        "config": redact(to_dict(run.config)),
        "config_hash": config_hash(run.config),
        "git_commit": git_commit(),
        "versions": versions(),
        "seed": run.seed,
        **facts,
    }


def save_checkpoint(
    run: Run,
    step: int,
    save_weights: Callable[[Path], None],
    state: Mapping[str, Any],
    *,
    keep: int,
    protect: int | None = None,
    **facts: Any,
) -> Path:
    """Write `checkpoint-STEP` (weights, state), then drop the oldest beyond `keep`; `protect` names a step to keep."""
    folder = run.dir / f"checkpoint-{step}"
    with atomic_dir(folder, run_manifest(run, step=step, **facts)) as temporary:
        save_weights(temporary)
        torch.save(dict(state), temporary / STATE)
    guarded = [] if protect is None else [run.dir / f"checkpoint-{protect}"]
    rotate(run.dir, keep=keep, protect=guarded)
    return folder


def find_checkpoint(run: Run) -> Path | None:
    """The newest complete checkpoint to continue from; with `resume: never` the old ones are removed. Raises
    InputError where the configuration says something else than the checkpoint's."""
    remove_partial(run.dir)
    if not run.resume:
        for old in checkpoints(run.dir):
            logger.info("resume is never: removing %s", old)
            shutil.rmtree(old)
        run.forget_after(-1)
        return None
    newest = latest_complete(run.dir)
    if newest is None:
        run.forget_after(-1)
        return None
    manifest = read_manifest(newest) or {}
    changed = differing(manifest.get("config") or {}, redact(to_dict(run.config)))
    if changed:
        raise InputError(
            f"{newest} was made with another {', '.join(changed[:4])}; give the old values, another output_dir, or "
            "resume: never to start over"
        )
    return newest


def differing(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys on which a result depends and whose values differ."""
    found = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if key in HARMLESS or a == b:
            continue
        if key not in old and prefix in NAMED:
            continue  # a setting that is younger than the checkpoint
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differing(a, b, f"{prefix}{key}.")
        else:
            found.append(f"{prefix}{key}")
    return found


def load_state(checkpoint: Path) -> dict[str, Any]:
    """The saved parts of a checkpoint. Raises InputError where the file is damaged."""
    try:
        return torch.load(checkpoint / STATE, map_location="cpu", weights_only=False)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(
            f"{checkpoint / STATE} can't be read ({error}); delete {checkpoint} to go on from an older one"
        ) from None


def load_weights(model: torch.nn.Module, checkpoint: Path) -> None:
    """Copy a checkpoint's weights into the model. Raises InputError where shapes or names differ."""
    weights = load_file(checkpoint / "model.safetensors")
    own = dict(model.named_parameters())
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    for name, parameter in own.items():
        if name not in weights:
            if name in tied:
                continue
            raise InputError(f"{checkpoint} has no weight {name}: it belongs to another model; use another output_dir")
        if weights[name].shape != parameter.shape:
            raise InputError(
                f"{checkpoint}: {name} has shape {list(weights[name].shape)}, the model {list(parameter.shape)}; "
                "use another output_dir, or resume: never to start over"
            )
    with torch.no_grad():
        for name, parameter in own.items():
            if name in weights:
                parameter.copy_(weights[name])


__all__ = ["Part", "differing", "find_checkpoint", "load_state", "load_weights", "run_manifest", "save_checkpoint"]
