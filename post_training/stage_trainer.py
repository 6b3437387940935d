"""What both trainers of this room have before TRL's own: sealed checkpoints, retried pushes, a stop that saves.

The Trainer writes straight into `checkpoint-N` and takes the highest number for the latest. Here a manifest with the
digest of each file is written after everything else and older checkpoints go only then. A save also logs, so that a
resumed run's loss curve has the points of an unbroken one, and looks for numbers that aren't finite, so that no
checkpoint holds any.
"""

import errno
import logging
import math
import os
import shutil
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback

from pipeline.artifact import rotate, seal
from pipeline.errors import InputError
from pipeline.hub import check_push, push_folder
from pipeline.run import Run, is_main_process
from post_training.checkpoint import barrier, manifest_of, world_size
from post_training.sampler import begin_epoch, order_seed

logger = logging.getLogger(__name__)
_NOT_THE_MODEL = ["optimizer*", "scheduler*", "rng_state*", "scaler*", "trainer_state.json", "manifest.json"]


class LogOnSave(TrainerCallback):
    """Log whenever a checkpoint is due, and at the last step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if control.should_save or state.global_step >= state.max_steps:
            control.should_log = True
        return control


class SaveOnSignal(TrainerCallback):
    """SIGTERM or Ctrl-C: the step is finished and saved, then training ends. A second Ctrl-C ends it at once.

    With several processes the signal keeps its usual effect, since they would stop at different steps.
    """

    def __init__(self) -> None:
        self.caught = False
        self._earlier: dict[int, Any] = {}

    def _catch(self, number: int, _: Any) -> None:
        if self.caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.caught = True
        logger.warning("%s: saving after this step", signal.Signals(number).name)

    @contextmanager
    def listening(self) -> Generator[None]:
        """Catch the signals inside; raise KeyboardInterrupt at the end when one came."""
        if world_size() == 1:
            self._earlier = {n: signal.signal(n, self._catch) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in self._earlier.items():
                signal.signal(number, handler)
        if self.caught:
            raise KeyboardInterrupt

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        control.should_save = control.should_save or self.caught
        return control

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        # Only now: the checkpoint also keeps `should_training_stop`, by which a resume knows a finished run.
        control.should_training_stop = control.should_training_stop or self.caught
        return control


def require_finite(model: torch.nn.Module, where: str) -> None:
    """Raise InputError naming the first parameter of `model` that holds a NaN or an infinity."""
    for name, parameter in model.named_parameters():
        finite: Any = torch.isfinite(parameter.detach()).all()
        if not (finite.full_tensor() if hasattr(finite, "full_tensor") else finite):  # sharded: every process's part
            raise InputError(
                f"{where}: {name} holds numbers that aren't finite, so nothing is kept of it; lower "
                "trainer.learning_rate or trainer.max_grad_norm"
            )


@contextmanager
def full_disk_named(folder: Path) -> Generator[None]:
    """Turn what torch and safetensors raise on a full disk into the OSError that names the folder."""
    try:
        yield
    except Exception as error:
        free = shutil.disk_usage(folder.parent).free
        told = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        if told or (free < 2**20 and isinstance(error, OSError | RuntimeError)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise


class StageTrainer(Trainer):
    """Base of the room's trainers, to stand before TRL's in a class's list of bases."""

    def __init__(self, run: Run, *args: Any, **kwargs: Any) -> None:
        self.run = run
        self.seconds_elsewhere = 0.0
        """Time of this run spent in evaluation and saving, so that tokens/s counts training alone."""
        self.seconds_before = 0.0
        """Training time of the runs that this one continues."""
        self.training_since = time.monotonic()
        self.ended_before = False
        """Whether the checkpoint that was continued is the end of the run."""
        self.failed_pushes = 0
        super().__init__(*args, **kwargs)

    @property
    def train_seconds(self) -> float:
        """Seconds of training so far, over all starts of this run."""
        return self.seconds_before + time.monotonic() - self.training_since - self.seconds_elsewhere

    @property
    def trained(self) -> Any:
        """What is trained: a PreTrainedModel, or a PeftModel around one."""
        return self.model

    @property
    def plain_model(self) -> PreTrainedModel:
        """The model itself, without an adapter's shell around it."""
        return self.trained.get_base_model() if hasattr(self.trained, "peft_config") else self.trained

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """The card is written by results.py, with figures."""

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "train_runtime" in logs and self.ended_before:
            return  # a finished run that was started again has no new times
        if not math.isfinite(logs.get("loss", 0.0)):
            raise InputError(
                f"step {self.state.global_step}: the loss is {logs['loss']}; earlier checkpoints are whole: lower "
                "trainer.learning_rate or trainer.max_grad_norm and start again"
            )
        if getattr(self.plain_model, "_ragged", False):
            for metrics in getattr(self, "_metrics", {}).values():
                for unmeasured in ("entropy", "logits/chosen", "logits/rejected"):
                    metrics.pop(unmeasured, None)
        super().log(logs, *args, **kwargs)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.ended_before or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True  # the Trainer asks only after it has done a step
            return
        begin_epoch(kwargs["train_dataloader"], kwargs["epoch"], order_seed(self.args))
        super()._run_epoch(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        started = time.monotonic()
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self.seconds_elsewhere += time.monotonic() - started

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        try:
            return super()._determine_best_metric(metrics, trial)
        except KeyError:
            there = ", ".join(sorted(k.removeprefix("eval_") for k in metrics if k.startswith("eval_")))
            raise InputError(
                f"trainer.metric_for_best_model: nothing is called {self.args.metric_for_best_model}; valid: {there}"
            ) from None

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        # A pickle; config.json of the run says the same readably.
        (Path(output_dir or self.run.dir) / "training_args.bin").unlink(missing_ok=True)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        started = time.monotonic()
        step = self.state.global_step
        folder = self.run.dir / f"checkpoint-{step}"
        require_finite(self.trained, f"step {step}")
        train_seconds = self.train_seconds
        if is_main_process():
            shutil.rmtree(folder, ignore_errors=True)  # remains of a killed save
        barrier()
        args = self.args
        limit, push = args.save_total_limit, args.push_to_hub
        args.save_total_limit, args.push_to_hub = None, False  # both happen below, once the checkpoint is whole
        try:
            with full_disk_named(folder):
                super()._save_checkpoint(model, trial)
        finally:
            args.save_total_limit, args.push_to_hub = limit, push
        barrier()
        if is_main_process():
            progress = {"tokens": self.tokens_seen, "train_s": round(train_seconds, 2)}
            with full_disk_named(folder):
                seal(folder, manifest_of(self.run, step) | progress)
            best = self.state.best_model_checkpoint
            if limit:
                rotate(self.run.dir, keep=limit, protect=[Path(best)] if best else [])
            if push and args.hub_strategy == "every_save":
                self._push_checkpoint(folder, step)
        barrier()
        self.seconds_elsewhere += time.monotonic() - started

    @property
    def tokens_seen(self) -> int:
        """Real tokens trained on so far, over all starts of this run; TRL counts them and saves no count."""
        return int(self._total_train_tokens)

    @tokens_seen.setter
    def tokens_seen(self, tokens: int) -> None:
        self._total_train_tokens = tokens

    def _push_checkpoint(self, folder: Path, step: int) -> None:
        """A Hub that stays away must not cost the training: the failure is counted and the final push decides."""
        try:
            self.push(folder, f"Training in progress, step {step}")
        except Exception as error:
            self.failed_pushes += 1
            logger.error("pushing %s failed and training goes on: %s", folder.name, error)

    def push(self, folder: Path, message: str) -> str:
        """Push the model files of `folder` (not the optimizer's state). Returns the commit's address."""
        return push_folder(
            folder,
            str(self.hub_model_id),
            repo_type="model",
            private=self.args.hub_private_repo is not False,
            message=message,
            ignore_patterns=_NOT_THE_MODEL,
        )

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """See to it before any training that the pushes will be let in. Raises InputError."""
        if not is_main_process():
            return
        name = self.args.hub_model_id or self.run.dir.name
        private = self.args.hub_private_repo is not False if private is None else private
        self.hub_model_id = check_push(name, repo_type="model", key="trainer.push_to_hub", private=private)
        self.push_in_progress = None


__all__ = ["LogOnSave", "SaveOnSignal", "StageTrainer", "full_disk_named", "require_finite"]
