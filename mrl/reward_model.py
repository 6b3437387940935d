"""Trains a reward model on pairs: the chosen answer is to score above the rejected one.

    uv run mrl/reward_model.py --config-path mrl/config/quickstart/reward_model.yaml

Rows are those of mrl/dpo.py. The scorer starts as the encoder of the model in `model.path` and is told of earlier turns
as `reward.context` says (mrl/preferences/reward_model.py). The loss is that of TRL's RewardTrainer, and so are the
names of the figures. The result lies in output_dir/model, for `rewards.models` of mrl/train.py and mrl/rlhf.py.
"""

from mrl.recipes.preference import RewardModelStage
from mrl.recipes.stage import default_config
from pipeline.run import Run, stage_main


def main(stage: RewardModelStage, run: Run) -> None:
    """Refuse what is missing, then train."""
    stage.check_upload()
    stage.refuse_missing()
    with run.loading():
        from mrl.stages.reward_model import run_stage
    run_stage(stage, run)


if __name__ == "__main__":
    stage_main(RewardModelStage, main, default_config=default_config("reward_model"), description=__doc__)
