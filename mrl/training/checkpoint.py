"""Checkpoints of a training run: named parts, whole or absent, and the way back to the newest sound one.

A part is anything with `state_dict()` and `load_state_dict()`: optimizer, order of the data, curriculum. Its state is
made of tensors and plain values, so that reading a checkpoint can't run code. The model's weights lie beside it in
Hugging Face's form: each checkpoint can be used as it is. Which settings may differ between a checkpoint and the run
that goes on from it is declared beside the settings (`pipeline.resumable`).
"""

import logging
import os
import pickle
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipeline.artifact import atomic_dir, checkpoints, latest_complete, read_manifest, remove_partial, rotate
from pipeline.config import config_hash, to_dict
from pipeline.errors import InputError
from pipeline.provenance import git_commit, versions
from pipeline.redaction import redact
from pipeline.resumable import differing_keys
from pipeline.run import Run

logger = logging.getLogger(__name__)
STATE = "training_state.pt"
WEIGHTS = "model.safetensors"
LOGS = ("metrics.jsonl", "samples.jsonl")
"""Files of a run that grow line by line; a checkpoint knows how long they were."""
START_OVER = "give the old values, another output_dir, or resume: never to start over"


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
    """Write `checkpoint-STEP` (weights, state), then drop the oldest beyond `keep`; `protect` names a step to keep.
    Raises OSError naming what can't be written; the older checkpoints stay."""
    folder = run.dir / f"checkpoint-{step}"
    state = {**state, "logs": {name: _size(run.dir / name) for name in LOGS}}
    refuse_objects(state)
    with atomic_dir(folder, run_manifest(run, step=step, **facts)) as temporary:
        save_weights(temporary)
        with (temporary / STATE).open("wb") as file:  # a file of Python's says why it can't be written, torch's doesn't
            torch.save(state, file)
    guarded = [] if protect is None else [run.dir / f"checkpoint-{protect}"]
    rotate(run.dir, keep=keep, protect=guarded)
    return folder


def refuse_objects(state: Any, where: str = "state") -> None:
    """Raise TypeError where a state holds anything but tensors and plain values: it couldn't be read again."""
    if isinstance(state, Mapping):
        for key, value in state.items():
            refuse_objects(key, where)
            refuse_objects(value, f"{where}[{key!r}]")
    elif type(state) in (list, tuple):
        for i, value in enumerate(state):
            refuse_objects(value, f"{where}[{i}]")
    elif state is not None and type(state) not in (bool, int, float, str, torch.Tensor, torch.nn.Parameter):
        raise TypeError(f"{where} is a {type(state).__name__}; checkpoints hold tensors and plain values")


def find_checkpoint(run: Run) -> Path | None:
    """The newest sound checkpoint to go on from; with `resume: never` the old ones are removed. Raises InputError where
    the configuration says something else than the checkpoint's."""
    remove_partial(run.dir)
    if not run.resume:
        for old in checkpoints(run.dir):
            logger.info("resume is never: removing %s", old)
            shutil.rmtree(old)
    newest = latest_complete(run.dir)
    if newest is None:
        cut_logs(run.dir, {})
        return None
    manifest = read_manifest(newest) or {}
    changed = differing_keys(type(run.config), manifest.get("config") or {}, redact(to_dict(run.config)))
    if changed:
        raise InputError(f"{newest} was made with another {', '.join(changed[:4])}; {START_OVER}")
    return newest


def load_state(checkpoint: Path, fingerprint: str | None = None) -> dict[str, Any]:
    """The saved parts of a checkpoint. Raises InputError where the file is damaged, holds more than tensors and plain
    values, or belongs to data of another fingerprint."""
    file = checkpoint / STATE
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{file} holds objects that could run code when they are read; it wasn't written by this version: delete "
            f"{checkpoint} to go on from an older one, or set resume: never"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"{file} can't be read ({error}); delete {checkpoint} to go on from an older one") from None
    made_with = state.get("fingerprint") if isinstance(state, dict) else None
    if fingerprint is not None and made_with != fingerprint:
        raise InputError(
            f"{checkpoint} was trained on other data (fingerprint {made_with}, now {fingerprint}); give the old data, "
            "another output_dir, or resume: never to start over"
        )
    return state


def resume_from(checkpoint: Path, parts: Mapping[str, Part], state: Mapping[str, Any]) -> None:
    """Give every part its state back. Raises InputError where they don't belong together."""
    for name, part in parts.items():
        if name not in state:
            raise InputError(f"{checkpoint} has no state of {name}: another version or recipe made it; {START_OVER}")
        try:
            part.load_state_dict(state[name])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            why = " ".join(str(error).split())[:200]
            raise InputError(f"{checkpoint}: state of {name}: {why}; {START_OVER}") from None


def cut_logs(folder: Path, sizes: Mapping[str, int]) -> None:
    """Take from the run's logs what was written after a checkpoint, at which they had so many bytes."""
    for name in LOGS:
        size, wanted = _size(folder / name), sizes.get(name, 0)
        if size > wanted:
            os.truncate(folder / name, wanted)
        elif size < wanted:
            logger.warning("%s: %d bytes that stood there at the checkpoint are gone", folder / name, wanted - size)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def load_weights(model: torch.nn.Module, checkpoint: Path) -> None:
    """Copy a checkpoint's weights into the model. Raises InputError where shapes or names differ."""
    try:
        weights = load_file(checkpoint / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{checkpoint / WEIGHTS} can't be read ({error}); delete {checkpoint}") from None
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


__all__ = [
    "Part",
    "cut_logs",
    "find_checkpoint",
    "load_state",
    "load_weights",
    "resume_from",
    "run_manifest",
    "save_checkpoint",
]
