"""A causal checkpoint with its tokenizer, and what mrl/convert.py makes of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mrl.conversion.weights import reactive_from_causal
from mrl.recipes.conversion import ConvertStage
from mrl.stages.convert import run_stage
from pipeline.config import parse_config
from pipeline.run import open_run
from tests.mrl.conversion.toy import MEMORY, READERS, causal, causal_checkpoint, chat_tokenizer, opened


@pytest.fixture
def tokenizer():
    return chat_tokenizer()


@pytest.fixture
def source(tmp_path, tokenizer) -> Path:
    return causal_checkpoint(tmp_path / "source", tokenizer)


@pytest.fixture
def convert(tmp_path, source) -> Callable[..., Path]:
    """Converts the checkpoint, with other settings of `memory` where any are given, and returns the output_dir."""

    def made(**memory) -> Path:
        recipe = {"model": {"name": str(source)}, "memory": {"slots": 8, **memory}, "output_dir": str(tmp_path / "out")}
        stage = parse_config(ConvertStage, recipe)
        with open_run(stage, stage="convert", output_dir=stage.output_dir, seed=1) as run:
            run_stage(stage, run)
        return stage.output_dir

    return made


@pytest.fixture(scope="module", params=READERS)
def pair(request):
    """A causal model and what it becomes with each reader, gates open."""
    model = causal(rope_theta=5000.0, attention_bias=True)
    return model, opened(reactive_from_causal(model, **MEMORY, **READERS[request.param]).eval())
