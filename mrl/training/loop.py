"""What the loop of a supervised stage needs: processes, precision, gradients, figures, checkpoints. The loop itself
stands in the scripts.

Every process holds the whole model and takes its rows of each global batch; losses are shares of the global mean, so
gradients are summed, not averaged, and one process or several, one slice or many, give the same step.
"""

import logging
import math
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor

from mrl.dialogues.collation import share
from mrl.losses.output import LossOutput
from mrl.model import ReactiveForCausalLM
from mrl.training.checkpoint import Part, find_checkpoint, load_state, load_weights, save_checkpoint
from mrl.training.distributed import fsdp_asked_for, join_processes
from mrl.training.model_io import save_reactive
from mrl.training.optimizer import Optimizer, OptimizerConfig
from mrl.training.precision import choose_precision
from mrl.training.stage_config import TrainerConfig
from pipeline.device import describe_device
from pipeline.errors import InputError
from pipeline.run import Run

logger = logging.getLogger(__name__)


@dataclass
class Best:
    """The best evaluation so far; a part of the checkpoint."""

    value: float | None = None
    step: int = 0
    bad: int = 0
    """Evaluations since."""

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class Training:
    """One run's loop state. Use:

    with Training(...) as training:
        for step in training.steps():
            sums = training.step(batch, loss)
            ...
            if training.evaluation_due: training.judge(figures, value)
        training.finish(figures)
    """

    def __init__(
        self,
        config: TrainerConfig,
        optimizer: OptimizerConfig,
        model: ReactiveForCausalLM,
        tokenizer: Any,
        run: Run,
        parts: Mapping[str, Part],
        fingerprint: str,
        beside: Mapping[str, torch.nn.Module] = {},
    ) -> None:
        """beside: further modules that learn in the same steps (a critic), by their part's name in `optimiser`."""
        self.config, self.tokenizer, self.run, self.fingerprint = config, tokenizer, run, fingerprint
        if fsdp_asked_for():
            optimizer = replace(optimizer, shard=True)
        self.accelerator = join_processes(run, config.report_to, config.processes)
        self.device = self.accelerator.device
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.model = model.to(self.device).train()
        for module in beside.values():
            module.to(self.device)
        modules = {name: module.parameters() for name, module in beside.items()}
        self.optimizer = Optimizer(model, optimizer, modules, self.rank, self.world)
        self.best = Best()
        self.parts = {"optimiser": self.optimizer, "best": self.best, **beside, **parts}
        self.precision: str | None = None if config.precision == "auto" else config.precision
        self.done = self.tokens = self.own_steps = 0
        self.seconds = self.before = self.elsewhere = 0.0
        self.interrupted = self.stopped = False
        self.saved = -1
        self.window: dict[str, float] = {}
        self.rate = self.norm = 0.0

    def __enter__(self) -> "Training":
        self._resume()
        self.started = time.monotonic()
        if self.world == 1:
            self._handler = signal.signal(signal.SIGTERM, self._terminate)
        return self

    def __exit__(self, *_: object) -> None:
        if self.world == 1:
            signal.signal(signal.SIGTERM, self._handler)
        self.accelerator.end_training()

    def _terminate(self, *_: object) -> None:
        self.interrupted = True

    @property
    def progress(self) -> float:
        """Share of the run that is done, by steps or by the clock, whichever is further."""
        by_clock = self.seconds / (60 * self.config.max_minutes) if self.config.max_minutes else 0.0
        return max(self.done / max(1, self.config.max_steps), by_clock)

    @property
    def ended(self) -> bool:
        patience = self.config.patience
        return self.stopped or self.progress >= 1 or (patience is not None and self.best.bad >= patience)

    def steps(self) -> Iterator[int]:
        """Numbers of the steps to do, from the checkpoint's on; saves where it is due."""
        self.run.report(first_step=self.done)
        total = self.config.max_steps
        with self.run.progress(total=total, initial=self.done, unit="step") as bar:
            bar.count = self.done
            while not self.ended:
                before = self.done
                yield self.done
                if self.done == before:
                    raise RuntimeError("a step of the loop called no Training.step")
                bar.update(1, **{k: v for k, v in self.shown.items() if isinstance(v, float)})
                due = self.done % self.config.save_every == 0 or self.interrupted
                if self.ended or (due and self.saved != self.done):
                    self.save()
                if self.interrupted:
                    logger.warning("asked to stop: checkpoint-%d is saved; run again to go on", self.done)
                    raise KeyboardInterrupt

    def settle_precision(self) -> str:
        """The number format, decided before there is a batch to time: on a CPU `auto` is then fp32."""
        self.precision = self.precision or choose_precision(self.accelerator, [])
        return self.precision

    def stop(self) -> None:
        """Make the present step the last one: what was aimed at is reached."""
        self.stopped = True

    shown: Mapping[str, float] = {}

    def step(
        self, batch: Any, loss: Callable[[Any], LossOutput], tokens: int, slices: int | None = None
    ) -> dict[str, float]:
        """One optimiser step on a global batch of `tokens` real tokens, each process's part of it in `slices` (default:
        `accumulation`). Returns the sums over all its rows. Raises InputError where the loss or the gradient is not a
        number: weights and checkpoints stay as they were."""
        self.rate = self.optimizer.prepare(self.done, self.progress, self.config.max_steps)
        slices = slices or self.config.accumulation
        pieces = [piece.to(self.device) for piece in share(batch, self.rank, self.world, slices)]
        if self.precision is None:
            self.precision = choose_precision(self.accelerator, [partial(loss, piece) for piece in pieces])
            self.model.zero_grad()
        metrics: dict[str, Any] = {"loss": 0.0}
        for piece in pieces:
            with self.autocast():
                sums = loss(piece)
            if sums.loss.requires_grad:
                sums.loss.backward()
            metrics["loss"] += sums.loss.detach()
            for name, value in sums.metrics.items():
                metrics[name] = metrics.get(name, 0) + value
        totals = self.total({name: float(value) for name, value in metrics.items()})
        if self.world > 1:
            self.optimizer.sum_gradients()
        self.norm = float(self.optimizer.clip())
        self._refuse_nonsense(totals["loss"])
        self.optimizer.step()
        self.done, self.own_steps, self.tokens = self.done + 1, self.own_steps + 1, self.tokens + tokens
        self.seconds = self.total({"s": self.before + time.monotonic() - self.started if self.rank == 0 else 0.0})["s"]
        for name, value in totals.items():
            self.window[name] = self.window.get(name, 0.0) + value
        self.window["steps"] = self.window.get("steps", 0.0) + 1
        return totals

    def _refuse_nonsense(self, loss: float) -> None:
        if math.isfinite(loss) and math.isfinite(self.norm):
            return
        what = "loss" if not math.isfinite(loss) else "gradient"
        raise InputError(
            f"step {self.done}: the {what} is not a number; the weights were not touched and earlier checkpoints in "
            f"{self.run.dir} are whole: lower optimiser.learning_rate (now {self.rate:.2g}) and run again"
        )

    def total(self, metrics: dict[str, float]) -> dict[str, float]:
        """Sums over processes of metrics by name; each process may know other names."""
        if self.world == 1:
            return metrics
        total: dict[str, float] = {}
        for other in gather_object([metrics]):
            for name, value in other.items():
                total[name] = total.get(name, 0.0) + value
        return total

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def log(self, means: Callable[[Mapping[str, float]], dict[str, float]], **more: float) -> None:
        """Every `log_every` steps: figures over the steps since the last time, to metrics.jsonl and the tracker."""
        if self.done % self.config.log_every and not self.ended:
            return
        sums, self.window = self.window, {}
        if not sums:
            return
        figures = {"loss": sums["loss"] / sums["steps"], **means(sums), "learning_rate": self.rate}
        figures |= {"gradient_norm": self.norm, "tokens": self.tokens, **more}
        self.shown = {"loss": figures["loss"], **{k: v for k, v in figures.items() if k in ("recall", "ar_accuracy")}}
        self.record(figures)

    def record(self, figures: Mapping[str, Any]) -> None:
        """Figures of the present step."""
        self.run.log(step=self.done, **figures)
        self.accelerator.log({k: v for k, v in figures.items() if isinstance(v, int | float)}, step=self.done)

    @property
    def evaluation_due(self) -> bool:
        """Whether held-out figures are due after the step just done."""
        return self.done % self.config.eval_every == 0 or self.ended

    @contextmanager
    def judging(self) -> Generator[None]:
        """Around an evaluation: no dropout, no gradients, this run's precision; its time isn't training time."""
        started, learning = time.monotonic(), self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), self.autocast():
                yield
        finally:
            self.model.train(learning)
            self.elsewhere += time.monotonic() - started

    def mine(self, batch: Any) -> list[Any]:
        """This process's rows of an evaluation batch, on the device; [] or [rows]."""
        return [piece.to(self.device) for piece in share(batch, self.rank, self.world, 1)]

    def judge(self, figures: Mapping[str, Any], value: float) -> None:
        """Record held-out figures; `value` (more is better) decides about the best weights and early stopping."""
        self.record({f"eval_{k}": v for k, v in figures.items()})
        shown = " ".join(f"{k} {v:.4g}" for k, v in figures.items() if isinstance(v, float))
        logger.info("step %d: held out: %s", self.done, shown)
        if self.best.value is None or value > self.best.value:
            self.best.value, self.best.step, self.best.bad = value, self.done, 0
            if self.config.restore_best:
                self.save()
        else:
            self.best.bad += 1

    def save(self) -> None:
        """Write a checkpoint of this step."""
        self.saved = self.done
        started = time.monotonic()
        random = {"torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        random = gather_object([random]) if self.world > 1 else [random]
        optimiser = self.optimizer.state_dict()  # of which every process may hold a share
        if self.rank == 0:
            state = {name: part.state_dict() for name, part in self.parts.items() if part is not self.optimizer}
            state["optimiser"] = optimiser
            state["loop"] = {
                "done": self.done, "tokens": self.tokens, "precision": self.precision, "random": random,
                "seconds": self.before + time.monotonic() - self.started, "fingerprint": self.fingerprint,
                "window": self.window, "stopped": self.stopped,
            }  # fmt: skip
            save_checkpoint(
                self.run, self.done, self._save_weights, state,
                keep=self.config.keep, protect=self.best.step if self.config.restore_best else None,
                data_fingerprint=self.fingerprint,
            )  # fmt: skip
        self.accelerator.wait_for_everyone()
        self.elsewhere += time.monotonic() - started

    def _save_weights(self, folder: Path) -> None:
        save_reactive(self.model, self.tokenizer, folder)

    def _resume(self) -> None:
        checkpoint = find_checkpoint(self.run) if self.rank == 0 else None
        if self.world > 1:
            found = [checkpoint]
            broadcast_object_list(found)
            checkpoint = found[0]
        if checkpoint is None:
            return
        load_weights(self.model, checkpoint)
        state = load_state(checkpoint)
        loop = state["loop"]
        if loop["fingerprint"] != self.fingerprint:
            raise InputError(
                f"{checkpoint} was trained on other data (fingerprint {loop['fingerprint']}, now {self.fingerprint}); "
                "give the old data, another output_dir, or resume: never to start over"
            )
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.done, self.tokens, self.before = loop["done"], loop["tokens"], loop["seconds"]
        self.seconds, self.window = loop["seconds"], dict(loop["window"])
        self.precision = self.precision or loop["precision"]
        self.stopped = loop["stopped"]
        if len(loop["random"]) == self.world:
            own = loop["random"][self.rank]
            torch.set_rng_state(own["torch"])
            if "cuda" in own and self.device.type == "cuda":
                torch.cuda.set_rng_state(own["cuda"], self.device)
        self.run.forget_after(self.done)
        self.run.report(resumed_from=checkpoint.name)
        logger.info("going on from %s", checkpoint)

    def restore_best(self) -> None:
        """Bring back the weights of the best evaluation, where they aren't the present ones."""
        folder = self.run.dir / f"checkpoint-{self.best.step}"
        if self.config.restore_best and self.best.value is not None and self.best.step != self.done:
            load_weights(self.model, folder)
            logger.info("the best evaluation was at step %d: its weights are the result", self.best.step)

    def report(self, **facts: Any) -> None:
        """Put what this run did into metrics.json."""
        spent = max(1e-9, time.monotonic() - self.started - self.elsewhere)
        own = self.tokens * self.own_steps / max(1, self.done)
        self.run.report(
            steps=self.done,
            tokens=self.tokens,
            tokens_per_s=round(own / spent, 1),
            train_s=round(spent, 2),
            parameters=sum(p.numel() for p in self.model.parameters()),
            parameters_by_part={k: sum(p.numel() for p in v) for k, v in self.model.parts().items()},
            device=describe_device(self.device),
            precision=self.precision,
            processes=self.world,
            data_fingerprint=self.fingerprint,
            best_step=self.best.step,
            stopped_early=self.done < self.config.max_steps,
            **facts,
        )


def mean(sums: Mapping[str, float | Tensor], name: str, count: str) -> float:
    """sums[name] / sums[count]; 0 where nothing was counted."""
    return float(sums.get(name, 0.0)) / max(1.0, float(sums.get(count, 0.0)))
