"""Preference tuning with DPO: stage 3.

    uv run post_training/dpo.py --config-path post_training/config/stage_3.yaml

TRL's DPOTrainer does the training. Different from it: both answers end with exactly one EOS and only the assistant's
tokens are scored; reference log-probabilities are computed once, before training, so that no second model is kept; a
batch's documents are laid end to end. Preference accuracy on held-out pairs is measured before and after.
"""

from pipeline.run import Run, stage_main
from post_training.recipes.stages import DPOStage, default_config


def main(stage: DPOStage, run: Run) -> None:
    """Refuse what is missing, then work."""
    stage.refuse_missing()
    with run.loading():
        from post_training.stages.dpo import run_stage
    run_stage(stage, run)


if __name__ == "__main__":
    stage_main(DPOStage, main, default_config=default_config("stage_3"), description=__doc__)
