"""Joint language modelling of encoder and decoder, and (another YAML) the same on interactions.

    uv run mrl/pretrain.py --config-path mrl/config/quickstart/pretrain.yaml
    uv run mrl/pretrain.py --config-path mrl/config/quickstart/interaction_sft.yaml

The encoder fills masked tokens; the decoder predicts the next token while it reads the encoder's layer outputs of the
same text as if they were its memory (detached; noised and masked if the YAML says so). Padding is never scored, and
with `objective.scored: answer` neither is the query. The result lies in output_dir/model.
"""

from mrl.recipes.stage import default_config
from mrl.recipes.supervised import PretrainStage
from pipeline.run import Run, stage_main


def main(stage: PretrainStage, run: Run) -> None:
    """Refuse what is missing, then train."""
    stage.check_upload()
    stage.refuse_missing()
    with run.loading():
        from mrl.stages.pretrain import run_stage
    run_stage(stage, run)


if __name__ == "__main__":
    stage_main(PretrainStage, main, default_config=default_config("pretrain"), description=__doc__)
