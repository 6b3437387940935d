"""Supervised fine-tuning: what post_training/sft.py does."""

import logging
from typing import Any

from trl import SFTConfig, SFTTrainer

from pipeline.run import Run
from post_training.arguments import settle_process, training_arguments
from post_training.chat import ChatEncoder, preview
from post_training.checkpoint import resume_point
from post_training.conversations import encode_conversations
from post_training.curriculum import DIFFICULTY, difficulties, pack_neighbours, spread
from post_training.dataset import load_splits
from post_training.policy import load_policy
from post_training.ragged import lay_end_to_end
from post_training.recipe import build_trainer, report_inputs
from post_training.recipes.dataset import RowCurriculumConfig
from post_training.recipes.stages import SFTStage
from post_training.results import finish, train
from post_training.sampler import CurriculumSampler, order_seed
from post_training.stage_trainer import StageTrainer

logger = logging.getLogger(__name__)


class PackedSFTTrainer(StageTrainer, SFTTrainer):
    """SFTTrainer over encoded rows without padding, in the order of a curriculum if there is one."""

    def __init__(self, *args: Any, curriculum: RowCurriculumConfig | None = None, **kwargs: Any) -> None:
        self.curriculum = curriculum
        super().__init__(*args, **kwargs)

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: Any, packing: bool, formatting_func: Any, dataset_name: str
    ) -> Any:
        """Rows come encoded and cut; only TRL's packing and shuffling are left to do."""
        if packing and dataset_name == "train" and DIFFICULTY in dataset.column_names:
            return pack_neighbours(dataset, args.max_length, args.packing_strategy, order_seed(args))
        if packing:
            return super()._prepare_dataset(dataset, processing_class, args, packing, formatting_func, dataset_name)
        return dataset.shuffle(seed=args.seed) if args.shuffle_dataset else dataset

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.curriculum is None:
            return super()._get_train_sampler(train_dataset)
        examples: Any = self.train_dataset
        return CurriculumSampler(difficulties(examples), self.curriculum, order_seed(self.args))


def warn_of_unseen(trainer: PackedSFTTrainer) -> None:
    """Say so where a curriculum ends before its hardest examples come."""
    examples: Any = trainer.train_dataset
    args = trainer.args
    each = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    if trainer.curriculum is not None and 0 < args.max_steps * each < len(examples):
        logger.warning(
            "dataset.curriculum: trainer.max_steps ends after %d of %d examples, so the hardest are hardly seen; raise "
            "it, or lower dataset.rows",
            args.max_steps * each, len(examples),
        )  # fmt: skip


def run_stage(stage: SFTStage, run: Run) -> None:
    """Load, train, evaluate, save."""
    settle_process()
    args = training_arguments(
        SFTConfig, stage.trainer, run, evaluates=stage.dataset.evaluates, early_stopping=stage.early_stopping
    )
    policy = load_policy(stage.model, stage.chat_template, stage.peft)
    encoder = ChatEncoder(policy.tokenizer)
    examples = encode_conversations(load_splits(stage.dataset, seed=stage.seed), encoder, stage.dataset, args)
    args.assistant_only_loss = False  # the labels say it already, and TRL takes the option for rows of messages only
    args.max_length = args.max_length if args.packing or args.eval_packing else None  # they are cut already
    report_inputs(run, examples, policy.model)
    resume = resume_point(run)
    if stage.dataset.curriculum is not None:
        run.report(difficulty=spread(examples.train))
    trainer = build_trainer(PackedSFTTrainer, run, stage, policy, args, examples, curriculum=stage.dataset.curriculum)
    warn_of_unseen(trainer)
    packed: Any = trainer.train_dataset
    run.preview(preview(policy.tokenizer, packed[0]["input_ids"], packed[0]["labels"]))
    lay_end_to_end(trainer.plain_model)
    train(trainer, run, resume)
    finish(trainer, run, examples, stage.peft)
