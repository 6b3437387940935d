"""Preference tuning: what post_training/dpo.py does."""

import copy
import logging
from typing import Any

from trl import DPOConfig, DPOTrainer

from pipeline.run import Run
from post_training.arguments import modernise_dpo, settle_process, training_arguments
from post_training.chat import ChatEncoder, preview
from post_training.checkpoint import resume_point
from post_training.dataset import load_splits
from post_training.pairs import COLUMNS, ScoredPairCollator, encode_pairs, labels_of
from post_training.policy import load_policy
from post_training.preferences import report_preferences, score_preferences
from post_training.ragged import lay_end_to_end
from post_training.recipe import build_trainer, report_inputs
from post_training.recipes.stages import DPOStage
from post_training.results import finish, train
from post_training.stage_trainer import StageTrainer

logger = logging.getLogger(__name__)


class PackedDPOTrainer(StageTrainer, DPOTrainer):
    """DPOTrainer over encoded pairs without padding."""

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """Pairs come encoded and cut."""
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = [*COLUMNS, "ref_chosen_logps", "ref_rejected_logps"]

    def _precompute_ref_logps(self, *args: Any, **kwargs: Any) -> Any:
        self.lay_out()
        return super()._precompute_ref_logps(*args, **kwargs)

    def lay_out(self) -> None:
        """Lay documents end to end, unless a figure is asked for that only TRL's own forward has."""
        if not getattr(self.args, "use_weighting", False):
            lay_end_to_end(self.plain_model)


def warn_of_spare_pairs(args: DPOConfig, pairs: int) -> None:
    """Say how many pairs are scored by the start, which takes a forward pass of each, and never trained."""
    read = args.max_steps * args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    if args.precompute_ref_log_probs and 0 < read < pairs:
        logger.warning(
            "the start is asked how likely it finds the answers of %d pairs, and trainer.max_steps reads %d of them;"
            " dataset.rows leaves out the others",
            pairs,
            read,
        )


def run_stage(stage: DPOStage, run: Run) -> None:
    """Load, measure, train, measure again, save."""
    settle_process()
    section, max_prompt_length = modernise_dpo(stage.trainer, stage.dataset.max_prompt_length)
    args = training_arguments(
        DPOConfig,
        section,
        run,
        evaluates=stage.dataset.evaluates,
        early_stopping=stage.early_stopping,
        precompute_ref_log_probs=True,
    )
    model, tokenizer, adapter = policy = load_policy(stage.model, stage.chat_template, stage.peft)
    splits = load_splits(stage.dataset, seed=stage.seed)
    pairs = encode_pairs(splits, ChatEncoder(tokenizer), stage.dataset, args, max_prompt_length)
    args.max_length = None  # they are cut already
    report_inputs(run, pairs, model)
    for answer in ("chosen", "rejected"):
        run.preview(f"{answer}: " + preview(tokenizer, *labels_of(pairs.train[0], answer)))
    continued = resume_point(run)
    padding: Any = args.pad_to_multiple_of
    collator = ScoredPairCollator(tokenizer.pad_token_id, pad_to_multiple_of=padding)
    reference = None if args.precompute_ref_log_probs or adapter is not None else copy.deepcopy(model)
    trainer = build_trainer(
        PackedDPOTrainer, run, stage, policy, args, pairs, data_collator=collator, ref_model=reference
    )
    trainer.lay_out()
    warn_of_spare_pairs(args, len(pairs.train))
    # Training leaves the model in the precision of its products; before it the model has that of its weights.
    with trainer.accelerator.autocast():
        before = score_preferences(trainer.trained, pairs)
    train(trainer, run, continued)
    with trainer.accelerator.autocast():
        after = score_preferences(trainer.trained, pairs)
    report_preferences(run, before, after)
    finish(trainer, run, pairs, stage.peft)
