"""Supervised fine-tuning: stage 1 (answers at once) and stage 2 (thinks inside <think>…</think>).

    uv run post_training/sft.py --config-path post_training/config/stage_1.yaml

TRL's SFTTrainer does the training. Different from it: rows are encoded in batches and each ends with exactly one
trained EOS; a batch's documents are laid end to end instead of padded; checkpoints are complete or don't count.
"""

from pipeline.run import Run, stage_main
from post_training.recipes.stages import SFTStage, default_config


def main(stage: SFTStage, run: Run) -> None:
    """Refuse what is missing, then work."""
    stage.refuse_missing()
    with run.loading():
        from post_training.stages.sft import run_stage
    run_stage(stage, run)


if __name__ == "__main__":
    stage_main(SFTStage, main, default_config=default_config("stage_1"), description=__doc__)
