"""Reinforcement learning with rewards that can be verified: GRPO after stage 2 or 3.

    uv run post_training/grpo.py --config-path post_training/config/quickstart/grpo.yaml

TRL's GRPOTrainer does the training (Z. Shao et al., "DeepSeekMath", 2024); Dr. GRPO, DAPO and the other variants are
its options loss_type, scale_rewards, epsilon_high, mask_truncated_completions. Different from it: the YAML names the
rewards; checkpoints are complete or don't count. Held-out questions are answered greedily before and after.
"""

from pipeline.run import Run, stage_main
from post_training.recipes.stages import GRPOStage, default_config


def main(stage: GRPOStage, run: Run) -> None:
    """Refuse what is missing, then work."""
    stage.refuse_missing()
    with run.loading():
        from post_training.stages.grpo import run_stage
    run_stage(stage, run)


if __name__ == "__main__":
    stage_main(GRPOStage, main, default_config=default_config("grpo"), description=__doc__)
