"""Self-supervised memory attention: after each write the memory should be a weighted mean of what it was and what came.

    uv run mrl/memory_pretrain.py --config-path mrl/config/quickstart/memory_pretrain.yaml

Target of write i: (1 - w_i) * state before + w_i * encoder outputs, w_0 = 0.9, w_i = 0.5 - 0.05 * i. Encoder and
decoder stay as they are. An interaction has more or fewer tokens than the memory has slots: its outputs are pooled
(`mrl.losses.memory_alignment.pool_to_slots`). The result lies in output_dir/model.
"""

from mrl.recipes.stage import default_config
from mrl.recipes.supervised import MemoryPretrainStage
from pipeline.run import Run, stage_main


def main(stage: MemoryPretrainStage, run: Run) -> None:
    """Refuse what is missing, then train."""
    stage.check_upload()
    stage.refuse_missing()
    with run.loading():
        from mrl.stages.memory_pretrain import run_stage
    run_stage(stage, run)


if __name__ == "__main__":
    stage_main(MemoryPretrainStage, main, default_config=default_config("memory_pretrain"), description=__doc__)
