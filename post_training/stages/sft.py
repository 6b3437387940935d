"""Supervised fine-tuning: what post_training/sft.py does."""

from typing import Any

from trl import SFTConfig, SFTTrainer

from pipeline.run import Run
from post_training.arguments import settle_process, training_arguments
from post_training.chat import ChatEncoder, preview
from post_training.checkpoint import resume_point
from post_training.conversations import encode_conversations
from post_training.dataset import load_splits
from post_training.policy import load_policy
from post_training.ragged import lay_end_to_end
from post_training.recipe import build_trainer, report_inputs
from post_training.recipes.stages import SFTStage
from post_training.results import finish, train
from post_training.stage_trainer import StageTrainer


class PackedSFTTrainer(StageTrainer, SFTTrainer):
    """SFTTrainer over encoded rows without padding."""

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: Any, packing: bool, formatting_func: Any, dataset_name: str
    ) -> Any:
        """Rows come encoded and cut; only TRL's packing and shuffling are left to do."""
        if packing:
            return super()._prepare_dataset(dataset, processing_class, args, packing, formatting_func, dataset_name)
        return dataset.shuffle(seed=args.seed) if args.shuffle_dataset else dataset


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
    trainer = build_trainer(PackedSFTTrainer, run, stage, policy, args, examples)
    packed: Any = trainer.train_dataset
    run.preview(preview(policy.tokenizer, packed[0]["input_ids"], packed[0]["labels"]))
    lay_end_to_end(trainer.plain_model)
    train(trainer, run, resume)
    finish(trainer, run, examples, stage.peft)
