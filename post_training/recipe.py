"""What the stages of this room have in common: what is said of a start, and the trainer."""

from typing import Any

from transformers import EarlyStoppingCallback, PreTrainedModel, TrainerCallback, TrainingArguments

from pipeline.errors import InputError
from pipeline.run import Run
from post_training.arguments import trl_refusals
from post_training.examples import Examples
from post_training.policy import Policy, weights_fingerprint
from post_training.recipes.stages import EarlyStoppingConfig, PostTrainingConfig
from post_training.stage_trainer import StageTrainer


def report_inputs(run: Run, examples: Examples, model: PreTrainedModel) -> None:
    """Report what is trained from what: rows by their fate, and the fingerprints that a resume compares."""
    run.report(
        data_fingerprint=examples.fingerprint,
        examples_fingerprint=examples.examples_fingerprint,
        start_fingerprint=weights_fingerprint(model),
        **examples.counts,
    )
    if examples.held_out_counts:
        run.report(held_out_rows=examples.held_out_counts)


def stopping(config: EarlyStoppingConfig | None) -> list[TrainerCallback]:
    """The callback for the section `early_stopping`, if there is one."""
    return [EarlyStoppingCallback(config.patience, config.min_improvement)] if config is not None else []


def build_trainer[T: StageTrainer](
    cls: type[T],
    run: Run,
    stage: PostTrainingConfig,
    policy: Policy,
    args: TrainingArguments,
    examples: Examples,
    **more: Any,
) -> T:
    """The stage's trainer over its examples. Raises InputError with what TRL refuses."""
    if args.metric_for_best_model in ("loss", "eval_loss") and isinstance(examples.evaluated, dict):
        args.metric_for_best_model = f"{next(iter(examples.evaluated))}_loss"  # the first of several sets: `held_out`
    with trl_refusals():
        trainer = cls(
            run,
            model=policy.model,
            args=args,
            processing_class=policy.tokenizer,
            train_dataset=examples.train,
            eval_dataset=examples.evaluated,
            peft_config=policy.adapter,
            callbacks=stopping(stage.early_stopping),
            **more,
        )
    with trl_refusals("trainer.optim"):  # now, and not after everything has been measured for the first time
        trainer.get_optimizer_cls_and_kwargs(args, trainer.plain_model)
    rows: Any = trainer.train_dataset
    batch = args.per_device_train_batch_size * args.world_size
    if args.dataloader_drop_last and len(rows) < batch:
        raise InputError(
            f"trainer.dataloader_drop_last: {len(rows)} examples fill no batch of {batch}, so nothing is trained; "
            "lower trainer.per_device_train_batch_size"
        )
    return trainer


__all__ = ["build_trainer", "report_inputs", "stopping"]
