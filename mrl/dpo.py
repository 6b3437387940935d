"""Direct preference optimisation with a memory: of two answers the better one becomes likelier.

    uv run mrl/dpo.py --config-path mrl/config/quickstart/dpo.yaml

Rows are dialogues with two answers to some turns: TRL's pairs (`chosen` and `rejected`, the earlier turns before them)
or the MRL format with `rejected` beside `answer` (data/data_collection.py makes both). Earlier turns are written into
memory first; both answers are scored from the memory before that interaction, and memory moves on with the chosen one.
The gradient reaches earlier writes (`preference.bptt_steps`). The reference is the model that the run starts from; its
log-probs are computed once. Losses and figures have TRL's names. The result lies in output_dir/model.
"""

from mrl.recipes.preference import DPOStage
from mrl.recipes.stage import default_config
from pipeline.run import Run, stage_main


def main(stage: DPOStage, run: Run) -> None:
    """Refuse what is missing, then train."""
    stage.check_upload()
    stage.refuse_missing()
    with run.loading():
        from mrl.stages.dpo import run_stage
    run_stage(stage, run)


if __name__ == "__main__":
    stage_main(DPOStage, main, default_config=default_config("dpo"), description=__doc__)
