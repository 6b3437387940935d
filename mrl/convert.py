"""Gives a causal language model a memory: a Llama becomes a reactive model with the same weights.

    uv run mrl/convert.py --from outputs/quickstart/stage_3 --output-dir outputs/converted

While the memory is empty it computes the causal model's logits, and its chat template stays: `generate()` and lm_eval
take rendered conversations as before. Earlier turns don't stand in the prompt, though: of each one the token states
that the model itself predicted worst are kept, `memory.kept_share` of them (with `memory.keep: learned` those that
training finds to be needed later besides), and stand beside the tokens in every layer's attention, or in that of
`memory.layers` (with `memory.memory_read: cross` an attention of their own reads them, once it is trained). Nothing is
trained here. The result lies in output_dir/model.
"""

from mrl.recipes.conversion import ConvertStage
from mrl.recipes.stage import default_config
from pipeline.run import Run, stage_main


def main(stage: ConvertStage, run: Run) -> None:
    """Refuse what is missing, then convert."""
    stage.source()
    with run.loading():
        from mrl.stages.convert import run_stage
    run_stage(stage, run)


if __name__ == "__main__":
    stage_main(
        ConvertStage,
        main,
        default_config=default_config("convert"),
        description=__doc__,
        shorthand={"--from": "model.name"},
    )
