"""Makes a small Llama with random weights, together with its tokenizer: what stage 1 of the quickstart starts from.

    uv run post_training/initialise.py --config-path post_training/config/quickstart/model.yaml

Random, but not structureless. What a tiny model needs longest for is to copy: to find an earlier token and say it. Two
parts of that circuit are laid into the weights, after A. Trockman and J. Z. Kolter, "Mimetic Initialization of
Self-Attention Layers" (2023), who set the products of attention matrices to what trained models have there: every head
hands on what it reads unchanged (its output matrix is the transpose of an orthogonal value matrix, and the output
embedding is the input embedding), and a few heads of the first layer look a fixed number of tokens back (a bias of
query and key whose rotations agree at that distance). Everything stays trainable and is an ordinary Llama.
"""

from pipeline.run import Run, stage_main
from post_training.recipes.stages import InitialiseConfig, default_config


def main(stage: InitialiseConfig, run: Run) -> None:
    """Refuse what is missing, then work."""
    stage.refuse_missing()
    with run.loading():
        from post_training.stages.initialise import run_stage
    run_stage(stage, run)


if __name__ == "__main__":
    stage_main(InitialiseConfig, main, default_config=default_config("model"), description=__doc__)
