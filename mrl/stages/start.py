"""How mrl/train.py and mrl/rlhf.py start; nothing here loads torch before it is needed."""

from dataclasses import replace

from mrl.recipes.prerequisites import build_missing, needed_by
from mrl.recipes.reinforcement import MRLStage
from pipeline.run import Run


def main(stage: MRLStage, run: Run) -> None:
    """Build or refuse what is missing, then train."""
    stage.check_upload()
    build_missing(needed_by(replace(stage, prerequisites=[]), stage.prerequisites))
    stage.refuse_missing()
    with run.loading():
        from mrl.stages.train import run_stage
    run_stage(stage, run)
