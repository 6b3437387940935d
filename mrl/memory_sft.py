"""Supervised memory-aware training: every answer of a dialogue is decoded from the memory that the turns before left.

    uv run mrl/memory_sft.py --config-path mrl/config/quickstart/memory_sft.yaml

The gradient of an answer flows back through `objective.bptt_steps` memory writes (null, the default: the whole episode;
1: only the write just before, as others train). Dialogues start short and grow with what is recalled (`curriculum`);
parts can be unfrozen one after another (`optimizer.unfreeze`). The result lies in output_dir/model.
"""

from mrl.recipes.stage import default_config
from mrl.recipes.supervised import MemorySFTStage
from pipeline.run import Run, stage_main


def main(stage: MemorySFTStage, run: Run) -> None:
    """Refuse what is missing, then train."""
    stage.check_upload()
    stage.refuse_missing()
    with run.loading():
        from mrl.stages.memory_sft import run_stage
    run_stage(stage, run)


if __name__ == "__main__":
    stage_main(MemorySFTStage, main, default_config=default_config("memory_sft"), description=__doc__)
