"""What a training run leaves: figures, the finished weights with their card, the last push."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback

from pipeline.artifact import atomic_dir, write_text
from pipeline.card import model_card
from pipeline.config import to_dict
from pipeline.device import describe_device
from pipeline.hub import redact
from pipeline.provenance import git_commit, versions
from pipeline.run import Run, is_main_process
from post_training.adapter import AdapterConfig, merged
from post_training.checkpoint import ResumePoint
from post_training.examples import Examples
from post_training.policy import MODEL_FOLDER
from post_training.stage_trainer import LogOnSave, SaveOnSignal, StageTrainer, full_disk_named, require_finite

logger = logging.getLogger(__name__)


class LineForPeople(TrainerCallback):
    """One log line per logging step where no progress bar is shown."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        if not state.is_world_process_zero or not args.disable_tqdm:
            return
        shown = " ".join(f"{k} {v:.4g}" for k, v in (logs or {}).items() if isinstance(v, int | float) and k != "epoch")
        logger.info("step %d/%d %s", state.global_step, state.max_steps, shown)


def train(trainer: StageTrainer, run: Run, resume: ResumePoint | None) -> None:
    """Train, evaluate what is held out, and report losses, tokens/s and evaluation figures to `run`."""
    trainer.remove_callback(PrinterCallback)
    on_signal = SaveOnSignal()
    for callback in (run.callback(), LineForPeople(), LogOnSave(), on_signal):
        trainer.add_callback(callback)
    if resume is not None:
        trainer.tokens_seen, trainer.seconds_before, trainer.ended_before = resume.tokens, resume.train_s, resume.ended
    trainer.seconds_elsewhere = 0.0
    trainer.training_since = time.monotonic()
    with on_signal.listening():
        trainer.train(resume_from_checkpoint=str(resume.folder) if resume is not None else None)
    seconds = resume.train_s if resume is not None and resume.ended else trainer.train_seconds
    require_finite(trainer.trained, f"step {trainer.state.global_step}")
    _report(trainer, run, seconds)
    if trainer.eval_dataset is not None:
        run.report(evaluation=_evaluation(trainer))


def _report(trainer: StageTrainer, run: Run, seconds: float) -> None:
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    tokens = trainer.tokens_seen
    run.report(
        final_loss=losses[-1] if losses else None,
        last_losses=losses[-5:],
        steps=trainer.state.global_step,
        epochs=round(trainer.state.epoch or 0, 3),
        tokens=tokens,
        tokens_per_s=round(tokens / seconds, 1) if seconds > 0 else 0.0,
        train_s=round(seconds, 2),
        parameters=sum(p.numel() for p in trainer.trained.parameters()),
        trained_parameters=sum(p.numel() for p in trainer.trained.parameters() if p.requires_grad),
        device=describe_device(),
        precision="bf16" if trainer.args.bf16 else "fp16" if trainer.args.fp16 else "fp32",
        laid_end_to_end=bool(getattr(trainer.plain_model, "_ragged", False)),
    )
    if trainer.state.best_metric is not None:
        run.report(best_metric=trainer.state.best_metric, best_step=trainer.state.best_global_step)


def _evaluation(trainer: StageTrainer) -> dict[str, float]:
    """Figures of the held-out rows under the final weights, measured now unless the last step's evaluation is it."""
    at_end = [
        entry
        for entry in trainer.state.log_history
        if entry["step"] == trainer.state.global_step and any(k.startswith("eval_") for k in entry)
    ]
    if not at_end or trainer.args.load_best_model_at_end:
        at_end = [trainer.evaluate()]
    skipped = ("per_second", "runtime", "step", "epoch", "num_tokens")
    figures = {k: v for entry in at_end for k, v in entry.items() if k.startswith("eval_")}
    return {k: v for k, v in figures.items() if isinstance(v, int | float) and not k.endswith(skipped)}


def finish(trainer: StageTrainer, run: Run, examples: Examples, adapter: AdapterConfig | None) -> None:
    """Write `output_dir/model` (weights, tokenizer, card, manifest last) and push it when the YAML says so."""
    folder = run.dir / MODEL_FOLDER
    config = to_dict(run.config)
    manifest = {
        "stage": run.stage,
        "config": redact(config),
        "config_hash": run.config_hash,
        "git_commit": git_commit(),
        "versions": versions(),
        "data_fingerprint": examples.fingerprint,
        "examples_fingerprint": examples.examples_fingerprint,
        "seed": run.seed,
    }
    run.report(model_dir=str(folder))
    if adapter is not None and adapter.output == "merged":
        trainer.model = merged(trainer.trained)
    if getattr(trainer.plain_model.config, "output_router_logits", False):
        # TRL asks for them while it trains; with them transformers can't generate for prompts of different lengths.
        trainer.plain_model.config.output_router_logits = False
    if is_main_process():
        with full_disk_named(folder), atomic_dir(folder, manifest) as temporary:
            trainer.save_model(str(temporary), _internal_call=True)
            write_text(temporary / "README.md", card(run, examples, config))
    else:
        trainer.save_model(
            str(run.dir), _internal_call=True
        )  # sharded models need every process; only the first writes
    trainer.accelerator.wait_for_everyone()
    if trainer.args.push_to_hub and is_main_process():
        where = trainer.push(folder, "End of training")
        run.report(hub=trainer.hub_model_id, hub_commit=where, failed_pushes=trainer.failed_pushes)


def card(run: Run, examples: Examples, config: Mapping[str, Any]) -> str:
    """The model card: stage, data, recipe, what became of the rows, and the figures reported so far."""
    figures = {k: run.facts[k] for k in ("final_loss", "tokens", "tokens_per_s", "steps") if k in run.facts}
    figures |= {name: value for name, value in examples.counts.items() if value}
    figures |= run.facts.get("evaluation") or {}
    if preferences := run.facts.get("preference_accuracy_before_after"):
        figures |= {f"preference accuracy {name}": preferences[name] for name in ("before", "after")}
        figures |= {f"its change, 95 % {name}": preferences[name] for name in ("low", "high")}
    recipe = {k: v for k, v in redact(config)["trainer"].items() if not isinstance(v, dict)}
    source = examples.source
    return model_card(
        name=config.get("name") or run.dir.name,
        stage=run.stage,
        summary=config.get("description") or f"A language model after {run.stage} with trlm.",
        base_model=config["model"]["name"],
        datasets=[f"{source} (fingerprint {examples.fingerprint})"],
        hub_datasets=[source] if source.count("/") == 1 and not Path(source).exists() else [],
        recipe={**recipe, "rows": len(examples.train), "seed": run.seed},
        figures=figures,
        command=f"uv run post_training/{run.stage}.py --config-path CONFIG.yaml",
    )
