"""What a training run leaves: figures, the finished weights with their card, the last push."""

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback

from pipeline.artifact import atomic_dir, write_text
from pipeline.card import model_card
from pipeline.config import config_hash, to_dict
from pipeline.device import describe_device
from pipeline.hub import redact
from pipeline.provenance import git_commit, versions
from pipeline.run import Run, is_main_process
from post_training.checkpoint import LogOnSave, StageTrainer
from post_training.dataset import Splits
from post_training.policy import MODEL_FOLDER

logger = logging.getLogger(__name__)


class LineForPeople(TrainerCallback):
    """One log line per logging step where no progress bar is shown."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        if not state.is_world_process_zero or not args.disable_tqdm:
            return
        shown = " ".join(f"{k} {v:.4g}" for k, v in (logs or {}).items() if isinstance(v, int | float) and k != "epoch")
        logger.info("step %d/%d %s", state.global_step, state.max_steps, shown)


def train(trainer: Any, run: Run, resume_from: str | None) -> None:
    """Train, evaluate what is held out, and report losses, tokens/s and evaluation figures to `run`."""
    trainer.remove_callback(PrinterCallback)
    for callback in (run.callback(), LineForPeople(), LogOnSave()):
        trainer.add_callback(callback)
    trainer.seconds_elsewhere = 0.0
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=resume_from)
    seconds = time.monotonic() - started - trainer.seconds_elsewhere
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    tokens = int(trainer._total_train_tokens)
    run.report(
        final_loss=losses[-1] if losses else None,
        last_losses=losses[-5:],
        steps=trainer.state.global_step,
        epochs=round(trainer.state.epoch or 0, 3),
        tokens=tokens,
        tokens_per_s=round(tokens / seconds, 1) if tokens else 0.0,
        train_s=round(seconds, 2),
        parameters=sum(p.numel() for p in trainer.model.parameters()),
        device=describe_device(),
        precision="bf16" if trainer.args.bf16 else "fp16" if trainer.args.fp16 else "fp32",
        laid_end_to_end=bool(getattr(trainer.model, "_ragged", False)),
    )
    if losses and not math.isfinite(losses[-1]):
        logger.error("the last loss is not a number; lower trainer.learning_rate or trainer.max_grad_norm")
    if trainer.eval_dataset is not None:
        current = [e for e in history if "eval_loss" in e and e["step"] == trainer.state.global_step]
        figures = current[-1] if current else trainer.evaluate()
        skipped = ("per_second", "runtime", "step", "epoch", "num_tokens")
        run.report(
            evaluation={k: v for k, v in figures.items() if isinstance(v, int | float) and not k.endswith(skipped)}
        )


def finish(trainer: Any, run: Run, splits: Splits) -> None:
    """Write `output_dir/model` (weights, tokenizer, card, manifest last) and push it when the YAML says so."""
    folder = run.dir / MODEL_FOLDER
    config = to_dict(run.config)
    manifest = {
        "stage": run.stage,
        "config": redact(config),
        "config_hash": config_hash(run.config),
        "git_commit": git_commit(),
        "versions": versions(),
        "data_fingerprint": splits.fingerprint,
        "seed": run.seed,
    }
    run.report(model_dir=str(folder))
    if is_main_process():
        with atomic_dir(folder, manifest) as temporary:
            _save(trainer, temporary)
            write_text(temporary / "README.md", card(run, splits, config))
    else:
        _save(trainer, run.dir)  # sharded models need every process to take part; only the first one writes
    trainer.accelerator.wait_for_everyone()
    if trainer.args.push_to_hub and is_main_process():
        where = StageTrainer.push(trainer, folder, "End of training")
        run.report(hub=trainer.hub_model_id, hub_commit=where, failed_pushes=trainer.failed_pushes)


def _save(trainer: Any, folder: Path) -> None:
    trainer.save_model(str(folder), _internal_call=True)
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; config.json of the run says the same readably


def card(run: Run, splits: Splits, config: Mapping[str, Any]) -> str:
    """The model card: stage, data, recipe and the figures reported so far."""
    figures = {k: run.facts[k] for k in ("final_loss", "tokens", "tokens_per_s", "steps") if k in run.facts}
    figures |= run.facts.get("evaluation") or {}
    for name, value in (run.facts.get("preference_accuracy_before_after") or {}).items():
        figures[f"preference accuracy {name}"] = value
    recipe = {k: v for k, v in redact(config)["trainer"].items() if not isinstance(v, dict)}
    return model_card(
        name=config.get("name") or run.dir.name,
        stage=run.stage,
        summary=config.get("description") or f"A language model after {run.stage} with trlm.",
        base_model=config["model"]["name"],
        datasets=[f"{splits.source} (fingerprint {splits.fingerprint})"],
        hub_datasets=[splits.source] if splits.source.count("/") == 1 and not Path(splits.source).exists() else [],
        recipe={**recipe, "rows": len(splits.train), "seed": run.seed},
        figures=figures,
        command=f"uv run post_training/{run.stage}.py --config-path CONFIG.yaml",
    )
