"""Preference tuning with DPO: stage 3.

    uv run post_training/dpo.py --config-path post_training/config/stage_3.yaml

TRL's DPOTrainer does the training. Different from it: the YAML's chat template is applied; both answers end with
exactly one EOS; reference log-probabilities are computed once, before training, so that no second model is kept; a
batch's documents are laid end to end. Preference accuracy on held-out pairs is measured before and after.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trl import DPOConfig, DPOTrainer

from pipeline.run import Run, stage_main
from pipeline.stage_config import TrainingStageConfig
from post_training.arguments import modernise_dpo, settle_process, training_arguments
from post_training.chat import preview
from post_training.checkpoint import StageTrainer, resume_point
from post_training.dataset import DatasetConfig, encode_preferences, load_splits
from post_training.policy import PolicyConfig, load_policy
from post_training.preferences import preference_accuracy
from post_training.ragged import lay_end_to_end
from post_training.results import finish, train

DEFAULT_CONFIG = Path(__file__).parent / "config" / "quickstart" / "stage_3.yaml"


@dataclass(kw_only=True, frozen=True)
class DPOStage(TrainingStageConfig):
    """A DPO recipe."""

    model: PolicyConfig
    dataset: DatasetConfig
    chat_template: str | None = None
    """Jinja. Default: the template that comes with the model."""
    trainer: dict[str, Any] = field(default_factory=dict)
    """Any field of TRL's DPOConfig."""


class PackedDPOTrainer(StageTrainer, DPOTrainer):
    """DPOTrainer over encoded pairs without padding."""


def main(stage: DPOStage, run: Run) -> None:
    """Load, measure, train, measure again, save."""
    settle_process()
    section, longest_prompt = modernise_dpo(stage.trainer, stage.dataset.max_prompt_length)
    args = training_arguments(
        DPOConfig, section, run, evaluates=stage.dataset.held_out is not None, precompute_ref_log_probs=True
    )
    model, tokenizer = load_policy(stage.model, stage.chat_template)
    splits = encode_preferences(
        load_splits(stage.dataset, columns="preferences", seed=stage.seed),
        tokenizer,
        max_length=args.max_length,
        max_prompt_length=longest_prompt,
        workers=args.dataset_num_proc,
    )
    run.report(data_fingerprint=splits.fingerprint, rows=len(splits.train))
    first = splits.train[0]
    for answer in ("chosen_ids", "rejected_ids"):
        ids = first["prompt_ids"] + first[answer]
        run.preview(f"{answer}: " + preview(tokenizer, ids, [-100] * len(first["prompt_ids"]) + first[answer]))
    resume_from = resume_point(run)
    PackedDPOTrainer.run = run
    trainer = PackedDPOTrainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=splits.train,
        eval_dataset=splits.held_out,
    )
    lay_end_to_end(model)
    before = preference_accuracy(model, splits.held_out, max_length=args.max_length) if splits.held_out else None
    train(trainer, run, resume_from)
    if before is not None:
        after = preference_accuracy(model, splits.held_out, max_length=args.max_length)
        run.report(
            preference_accuracy=after["mean"],
            preference_accuracy_before=before["mean"],
            preference_accuracy_sum={"before": before["sum"], "after": after["sum"]},
            preference_pairs=after["pairs"],
            preference_accuracy_before_after={"before": before["mean"], "after": after["mean"]},
        )
    finish(trainer, run, splits)


if __name__ == "__main__":
    stage_main(DPOStage, main, default_config=DEFAULT_CONFIG, description=__doc__)
