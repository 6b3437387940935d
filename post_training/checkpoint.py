"""Checkpoints that are complete or don't count, pushed when they are complete, and the way back to the newest one.

The Trainer writes straight into `checkpoint-N` and takes the highest number for the latest. Here a manifest with the
digest of each file is written after everything else, older checkpoints go only then, and a resume takes the newest
folder whose manifest holds. A save also logs, so that a resumed run's loss curve has the points of an unbroken one.
"""

import logging
import shutil
import time
from pathlib import Path
from typing import Any

import torch.distributed as dist
from transformers import TrainerCallback

from pipeline.artifact import checkpoints, latest_complete, read_manifest, remove_partial, rotate, seal
from pipeline.config import config_hash, to_dict
from pipeline.errors import InputError
from pipeline.hub import push_folder, redact, retrying
from pipeline.run import Run, is_main_process
from post_training.ragged import lay_end_to_end

logger = logging.getLogger(__name__)
_TRAINING_STATE = ["optimizer*", "scheduler*", "rng_state*", "scaler*", "trainer_state.json", "training_args.bin"]
_HARMLESS = {
    "output_dir", "resume", "name", "description",
    "trainer.logging_steps", "trainer.save_steps", "trainer.save_total_limit", "trainer.report_to", "trainer.run_name",
    "trainer.push_to_hub", "trainer.hub_model_id", "trainer.hub_strategy", "trainer.hub_private_repo",
    "trainer.dataset_num_proc", "trainer.dataloader_num_workers", "trainer.eval_steps", "trainer.eval_strategy",
}  # fmt: skip
"""Keys that may differ between a checkpoint and the run that continues it, since no weight depends on them."""


def _world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _barrier() -> None:
    if dist.is_initialized():
        dist.barrier()


class LogOnSave(TrainerCallback):
    """Log whenever a checkpoint is due, and at the last step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if control.should_save or state.global_step >= state.max_steps:
            control.should_log = True
        return control


class StageTrainer:
    """Mixin before a TRL trainer: sealed checkpoints, retried pushes, encoded rows, documents laid end to end."""

    run: Run
    seconds_elsewhere = 0.0
    """Time of this run spent in evaluation and saving, so that tokens/s counts training alone."""
    failed_pushes = 0

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, *rest: Any) -> Any:
        """Rows come encoded from dataset.py; only TRL's packing is left to do."""
        encoded = {"input_ids", "prompt_ids"} & set(dataset.column_names)
        if encoded and not (rest and rest[0] is True):
            return dataset
        return super()._prepare_dataset(dataset, processing_class, args, *rest)  # ty: ignore

    def _precompute_ref_logps(self, *args: Any, **kwargs: Any) -> Any:
        lay_end_to_end(self.model)  # ty: ignore
        return super()._precompute_ref_logps(*args, **kwargs)  # ty: ignore

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """The card is written by results.py, with figures."""

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if getattr(self.model, "_ragged", False):  # ty: ignore
            for metrics in self._metrics.values():  # ty: ignore
                for unmeasured in ("entropy", "logits/chosen", "logits/rejected"):
                    metrics.pop(unmeasured, None)
        super().log(logs, *args, **kwargs)  # ty: ignore

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        started = time.monotonic()
        try:
            return super().evaluate(*args, **kwargs)  # ty: ignore
        finally:
            self.seconds_elsewhere += time.monotonic() - started

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        started = time.monotonic()
        step = self.state.global_step  # ty: ignore
        folder = self.run.dir / f"checkpoint-{step}"
        main = is_main_process()
        if main:
            shutil.rmtree(folder, ignore_errors=True)  # remains of a killed save
        _barrier()
        args = self.args  # ty: ignore
        limit, push = args.save_total_limit, args.push_to_hub
        args.save_total_limit, args.push_to_hub = None, False  # both happen below, once the checkpoint is whole
        try:
            super()._save_checkpoint(model, trial)  # ty: ignore
        finally:
            args.save_total_limit, args.push_to_hub = limit, push
        _barrier()
        if main:
            seal(folder, _manifest(self.run, step))
            best = self.state.best_model_checkpoint  # ty: ignore
            if limit:
                rotate(self.run.dir, keep=limit, protect=[Path(best)] if best else [])
            if push and str(args.hub_strategy) in ("every_save", "HubStrategy.EVERY_SAVE"):
                self._push_checkpoint(folder, step)
        _barrier()
        self.seconds_elsewhere += time.monotonic() - started

    def _push_checkpoint(self, folder: Path, step: int) -> None:
        """A Hub that stays away must not cost the training: the failure is counted and the final push decides."""
        try:
            self.push(folder, f"Training in progress, step {step}")
        except Exception as error:
            self.failed_pushes += 1
            logger.error("pushing %s failed and training goes on: %s", folder.name, error)

    def push(self, folder: Path, message: str) -> str:
        """Push the model files of `folder` (not the optimizer's state)."""
        args = self.args  # ty: ignore
        return push_folder(
            folder,
            self.hub_model_id,  # ty: ignore
            repo_type="model",
            private=args.hub_private_repo is not False,
            message=message,
            ignore_patterns=[*_TRAINING_STATE, "manifest.json"],
        )

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Create the repository before any training, with retries. Raises InputError when the Hub refuses."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

        if not is_main_process():
            return
        args = self.args  # ty: ignore
        name = args.hub_model_id or self.run.dir.name
        private = args.hub_private_repo is not False if private is None else private
        try:
            made = retrying(
                lambda: HfApi(token=token or args.hub_token).create_repo(name, private=private, exist_ok=True),
                what=f"creating {name}",
            )
        except (LocalTokenNotFoundError, HfHubHTTPError) as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status is None or status in (400, 401, 403):
                raise InputError(
                    f"trainer.hub_model_id: the Hub refuses {name}; run `hf auth login`, or set "
                    "trainer.push_to_hub: false"
                ) from None
            raise
        self.hub_model_id = made.repo_id
        self.push_in_progress = None


def _manifest(run: Run, step: int) -> dict[str, Any]:
    return {
        "step": step,
        "stage": run.stage,
        "config": redact(to_dict(run.config)),
        "config_hash": config_hash(run.config),
        "world_size": _world_size(),
        "data_fingerprint": run.facts.get("data_fingerprint"),
    }


def differing_keys(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Dotted keys whose values differ between two configurations."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            found
            for key in sorted({*old, *new})
            for found in differing_keys(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else str(key))
        ]
    return [] if old == new else [prefix]


def resume_point(run: Run) -> str | None:
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
        _barrier()
        return None
    if is_main_process():
        remove_partial(run.dir)
    _barrier()
    sound = latest_complete(run.dir)
    for folder in set(run.dir.glob("checkpoint-*[0-9]")) - set(checkpoints(run.dir)):
        logger.warning("passing over %s: it is incomplete", folder)
    if sound is None:
        run.forget_after(-1)
        return None
    manifest = read_manifest(sound) or {}
    _require_same_run(manifest, run, sound)
    logger.info("continuing from %s", sound)
    run.forget_after(int(manifest["step"]))
    return str(sound)


def _require_same_run(manifest: dict[str, Any], run: Run, folder: Path) -> None:
    remedy = "set resume: never (removes the old checkpoints) or choose another output_dir"
    changed = [k for k in differing_keys(manifest["config"], redact(to_dict(run.config))) if k not in _HARMLESS]
    if changed:
        raise InputError(f"resume: {folder} was made with other settings ({', '.join(changed[:6])}); {remedy}")
    if manifest["world_size"] != _world_size():
        raise InputError(
            f"resume: {folder} was made by {manifest['world_size']} processes, not {_world_size()}: the data would be "
            f"read from another place; use as many again, or {remedy}"
        )
    data = run.facts.get("data_fingerprint")
    if manifest["data_fingerprint"] != data:
        raise InputError(
            f"resume: {folder} was trained on other data ({manifest['data_fingerprint']}, now {data}); {remedy}"
        )
