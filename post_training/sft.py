"""Supervised fine-tuning: stage 1 (answers at once) and stage 2 (thinks inside <think>…</think>).

    uv run post_training/sft.py --config-path post_training/config/stage_1.yaml

TRL's SFTTrainer does the training. Different from it: rows are encoded in batches and each ends with exactly one
trained EOS; a batch's documents are laid end to end instead of padded; checkpoints are complete or don't count.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trl import SFTConfig, SFTTrainer

from pipeline.run import Run, stage_main
from pipeline.stage_config import TrainingStageConfig
from post_training.arguments import settle_process, training_arguments
from post_training.chat import preview
from post_training.checkpoint import StageTrainer, resume_point
from post_training.dataset import DatasetConfig, encode_messages, load_splits
from post_training.policy import PolicyConfig, load_policy
from post_training.ragged import lay_end_to_end
from post_training.results import finish, train

DEFAULT_CONFIG = Path(__file__).parent / "config" / "quickstart" / "stage_1.yaml"


@dataclass(kw_only=True, frozen=True)
class SFTStage(TrainingStageConfig):
    """An SFT recipe."""

    model: PolicyConfig
    dataset: DatasetConfig
    chat_template: str | None = None
    """Jinja. Default: the template that comes with the model."""
    trainer: dict[str, Any] = field(default_factory=dict)
    """Any field of TRL's SFTConfig."""


class PackedSFTTrainer(StageTrainer, SFTTrainer):
    """SFTTrainer over encoded rows without padding."""


def main(stage: SFTStage, run: Run) -> None:
    """Load, train, evaluate, save."""
    settle_process()
    args = training_arguments(SFTConfig, stage.trainer, run, evaluates=stage.dataset.held_out is not None)
    model, tokenizer = load_policy(stage.model, stage.chat_template)
    splits = encode_messages(
        load_splits(stage.dataset, columns="messages", seed=stage.seed),
        tokenizer,
        assistant_only=args.assistant_only_loss,
        max_length=args.max_length if not args.packing else None,
        workers=args.dataset_num_proc,
    )
    args.assistant_only_loss = False  # the labels say it already, and TRL takes the option for rows of messages only
    run.report(data_fingerprint=splits.fingerprint, rows=len(splits.train))
    run.preview(preview(tokenizer, splits.train[0]["input_ids"], splits.train[0]["labels"]))
    resume_from = resume_point(run)
    PackedSFTTrainer.run = run
    trainer = PackedSFTTrainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=splits.train,
        eval_dataset=splits.held_out,
    )
    lay_end_to_end(model)
    train(trainer, run, resume_from)
    finish(trainer, run, splits)


if __name__ == "__main__":
    stage_main(SFTStage, main, default_config=DEFAULT_CONFIG, description=__doc__)
