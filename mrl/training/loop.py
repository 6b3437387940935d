"""What the loop of a stage needs: processes, precision, gradients, figures, checkpoints. The loop itself stands in the
scripts.

Every process holds the whole model and takes its rows of each global batch; losses are shares of the global mean, so
gradients are summed, not averaged, and one process or several, one slice or many, give the same step.
"""

import logging
import math
import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object

from mrl.dialogues.collation import share
from mrl.losses.output import LossOutput
from mrl.model import ReactiveForCausalLM, ReactiveForSequenceClassification
from mrl.recipes.stage import TrainerConfig
from mrl.training.checkpoint import (
    Part,
    cut_logs,
    find_checkpoint,
    load_state,
    load_weights,
    resume_from,
    save_checkpoint,
)
from mrl.training.distributed import choose_precision, fsdp_asked_for, join_processes
from mrl.training.model_io import save_reactive
from mrl.training.optimizer import Optimizer, OptimizerConfig
from mrl.training.progress import Best, LoopState, Means, MetricsLog, mean
from pipeline.device import describe_device
from pipeline.errors import InputError
from pipeline.exits import Terminated
from pipeline.run import Run

logger = logging.getLogger(__name__)


class Training:
    """One run: the model, what it learns with, and where it stands. Use:

    with Training(...) as training:
        for step in training.steps():
            sums = training.step(batch, loss, tokens)
            training.log(means)
            if training.evaluation_due:
                training.record_evaluation(metrics, score)
        training.restore_best()
    """

    def __init__(
        self,
        config: TrainerConfig,
        optimizer: OptimizerConfig,
        model: ReactiveForCausalLM | ReactiveForSequenceClassification,
        tokenizer: Any,
        run: Run,
        parts: Mapping[str, Part],
        fingerprint: str,
        beside: Mapping[str, torch.nn.Module] = {},
    ) -> None:
        """parts: what a checkpoint holds beside the loop's own state, by name. fingerprint: of the data. beside:
        further modules that learn in the same steps (a critic), by their part's name in `optimizer`."""
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
        self.state = LoopState(precision=None if config.precision == "auto" else config.precision)
        self.best, self.metrics = Best(), MetricsLog(run, self.accelerator, self.state)
        self.parts: dict[str, Any] = {"loop": self.state, "best": self.best, **beside, **parts}
        self.interrupted = False
        self.saved = -1
        self.rate = self.norm = 0.0
        self.started = self.before = 0.0

    def __enter__(self) -> "Training":
        self.state.elsewhere = 0.0  # what was evaluated before the clock starts isn't to be taken off it
        self._resume()
        self.run.begin()  # whatever could be refused has been
        self.started, self.before = time.monotonic(), self.state.seconds
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
    def done(self) -> int:
        """Optimizer steps so far."""
        return self.state.done

    @property
    def precision(self) -> str | None:
        """fp32 or bf16; None before it is settled."""
        return self.state.precision

    @property
    def progress(self) -> float:
        """Share of the run that is done, by steps or by the clock, whichever is further."""
        by_clock = self.state.seconds / (60 * self.config.max_minutes) if self.config.max_minutes else 0.0
        return max(self.done / self.config.max_steps, by_clock)

    @property
    def ended(self) -> bool:
        """Whether the step just done is the last one."""
        patience = self.config.patience
        return self.state.stopped or self.progress >= 1 or (patience is not None and self.best.bad >= patience)

    def stop(self) -> None:
        """Make the present step the last one: what was aimed at is reached."""
        self.state.stopped = True

    def steps(self) -> Iterator[int]:
        """Numbers of the steps to do, from the checkpoint's on; saves where it is due."""
        self.run.report(first_step=self.done)
        with self.run.progress(total=self.config.max_steps, initial=self.done, unit="step") as bar:
            bar.count = self.done
            while not self.ended:
                before = self.done
                yield self.done
                if self.done == before:
                    raise RuntimeError("a step of the loop called no Training.step")
                bar.update(1, **{k: v for k, v in self.metrics.shown.items() if isinstance(v, float)})
                due = self.done % self.config.save_every == 0 or self.interrupted
                if self.ended or (due and self.saved != self.done):
                    self.save()
                if self.interrupted:
                    logger.warning("asked to stop: checkpoint-%d is saved; run again to go on", self.done)
                    raise Terminated

    def settle_precision(self) -> str:
        """The number format, decided before there is a batch to time: on a CPU `auto` is then fp32."""
        self.state.precision = self.state.precision or choose_precision(self.accelerator, [])
        return self.state.precision

    def step(
        self, batch: Any, loss: Callable[[Any], LossOutput], tokens: int, slices: int | None = None
    ) -> dict[str, float]:
        """One optimizer step on a global batch of `tokens` real tokens, each process's part of it in `slices` (default:
        `accumulation`). Returns the sums over all its rows. Raises InputError where the loss or the gradient is not a
        number: weights and checkpoints stay as they were."""
        self.rate = self.optimizer.prepare(self.done, self.progress, self.config.max_steps)
        pieces = share(batch, self.rank, self.world, slices or self.config.accumulation)
        pieces = [piece.to(self.device) for piece in pieces]
        if self.precision is None:
            self.state.precision = choose_precision(self.accelerator, [partial(loss, piece) for piece in pieces])
            self.model.zero_grad()
        totals = self.total(self._backward(pieces, loss))
        if self.world > 1:
            self.optimizer.sum_gradients()
        self.norm = float(self.optimizer.clip())
        self._refuse_nonfinite(totals["loss"])
        self.optimizer.step()
        self.metrics.add(totals)
        self.state.done, self.state.tokens = self.done + 1, self.state.tokens + tokens
        self.state.seconds = self.total({"s": self._clock() if self.rank == 0 else 0.0})["s"]
        return totals

    def _clock(self) -> float:
        """Seconds of all starts of this run."""
        return self.before + time.monotonic() - self.started

    def _backward(self, pieces: Iterable[Any], loss: Callable[[Any], LossOutput]) -> dict[str, float]:
        """Add up gradients and sums over this process's slices."""
        sums: dict[str, Any] = {"loss": 0.0}
        for piece in pieces:
            with self.autocast():
                output = loss(piece)
            if output.loss.requires_grad:
                output.loss.backward()
            sums["loss"] += output.loss.detach()
            for name, value in output.metrics.items():
                sums[name] = sums.get(name, 0) + value
        return {name: float(value) for name, value in sums.items()}

    def _refuse_nonfinite(self, loss: float) -> None:
        if math.isfinite(loss) and math.isfinite(self.norm):
            return
        what = "loss" if not math.isfinite(loss) else "gradient"
        raise InputError(
            f"step {self.done}: the {what} is not a number; the weights were not touched and earlier checkpoints in "
            f"{self.run.dir} are whole: lower optimizer.learning_rate (now {self.rate:.2g}) and run again"
        )

    def total(self, sums: dict[str, float]) -> dict[str, float]:
        """Sums over processes by name; each process may know other names."""
        if self.world == 1:
            return sums
        total: dict[str, float] = {}
        for other in gather_object([sums]):
            for name, value in other.items():
                total[name] = total.get(name, 0.0) + value
        return total

    def autocast(self) -> torch.autocast:
        """This run's number format."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def log(self, means: Means, **more: float) -> None:
        """Every `log_every` steps: figures over the steps since the last time, to metrics.jsonl and the tracker."""
        if self.done % self.config.log_every == 0 or self.ended:
            own = {"learning_rate": self.rate, "gradient_norm": self.norm, "tokens": self.state.tokens}
            self.metrics.write(means, own | more)

    def record(self, metrics: Mapping[str, Any]) -> None:
        """Figures of the present step."""
        self.metrics.record(metrics)

    @property
    def evaluation_due(self) -> bool:
        """Whether held-out figures are due after the step just done."""
        return self.done % self.config.eval_every == 0 or self.ended

    @contextmanager
    def evaluating(self) -> Generator[None]:
        """Around an evaluation: no dropout, no gradients, this run's precision; its time isn't training time."""
        started, learning = time.monotonic(), self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), self.autocast():
                yield
        finally:
            self.model.train(learning)
            self.state.elsewhere += time.monotonic() - started

    def mine(self, batch: Any) -> list[Any]:
        """This process's rows of an evaluation batch, on the device; [] or [rows]."""
        return [piece.to(self.device) for piece in share(batch, self.rank, self.world, 1)]

    def sums(self, batches: Iterable[Any], loss: Callable[[Any], Callable[[Any], LossOutput]]) -> dict[str, float]:
        """What the losses of evaluation batches say, summed over all rows of all processes. loss: of a global batch,
        the loss of a part of it."""
        sums: dict[str, float] = {}
        with self.evaluating():
            for batch in batches:
                of_part = loss(batch)
                for piece in self.mine(batch):
                    for name, value in of_part(piece).metrics.items():
                        sums[name] = sums.get(name, 0.0) + float(value)
        return self.total(sums)

    def record_evaluation(self, metrics: Mapping[str, Any], score: float) -> None:
        """Record held-out figures; `score` (more is better) decides about the best weights and early stopping."""
        self.metrics.record_evaluation(metrics)
        if self.best.observe(score, self.done) and self.config.restore_best:
            self.save()

    def save(self) -> None:
        """Write a checkpoint of this step."""
        self.saved, started = self.done, time.monotonic()
        random = {"torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        random = gather_object([random]) if self.world > 1 else [random]
        optimizer = self.optimizer.state_dict()  # of which every process may hold a share
        if self.rank == 0:
            self.state.seconds = self._clock()
            state: dict[str, Any] = {name: part.state_dict() for name, part in self.parts.items()}
            state |= {"optimizer": optimizer, "random": random, "fingerprint": self.fingerprint}
            save_checkpoint(
                self.run, self.done, partial(save_reactive, self.model, self.tokenizer), state,
                keep=self.config.keep, protect=self.best.step if self.config.restore_best else None,
                data_fingerprint=self.fingerprint,
            )  # fmt: skip
        self.accelerator.wait_for_everyone()
        self.state.elsewhere += time.monotonic() - started

    def _resume(self) -> None:
        checkpoint = find_checkpoint(self.run) if self.rank == 0 else None
        if self.world > 1:
            found = [checkpoint]
            broadcast_object_list(found)
            checkpoint = found[0]
        if checkpoint is None:
            return
        state = load_state(checkpoint, self.fingerprint)
        load_weights(self.model, checkpoint)
        resume_from(checkpoint, {**self.parts, "optimizer": self.optimizer}, state)
        if len(state["random"]) == self.world:
            own = state["random"][self.rank]
            torch.set_rng_state(own["torch"])
            if "cuda" in own and self.device.type == "cuda":
                torch.cuda.set_rng_state(own["cuda"], self.device)
        if self.rank == 0:
            cut_logs(self.run.dir, state["logs"])
        self.run.report(resumed_from=checkpoint.name)
        logger.info("going on from %s", checkpoint)

    def restore_best(self) -> None:
        """Bring back the weights of the best evaluation, where they aren't the present ones."""
        folder = self.run.dir / f"checkpoint-{self.best.step}"
        if self.config.restore_best and self.best.value is not None and self.best.step != self.done:
            load_weights(self.model, folder)
            logger.info("the best evaluation was at step %d: its weights are the result", self.best.step)

    def report(self, **facts: Any) -> None:
        """Put what this run did, over all its starts, into metrics.json."""
        state, spent = self.state, max(1e-9, self._clock() - self.state.elsewhere)
        self.run.report(
            steps=self.done,
            tokens=state.tokens,
            tokens_per_s=round(state.tokens / spent, 1),
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


__all__ = ["Training", "mean"]
