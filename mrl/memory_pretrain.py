"""Self-supervised memory attention: after each write the memory should be a weighted mean of what it was and what came.

    uv run mrl/memory_pretrain.py --config-path mrl/config/quickstart/memory_pretrain.yaml

Target of write i: (1 - w_i) * state before + w_i * encoder outputs, w_0 = 0.9, w_i = 0.5 - 0.05 * i. Encoder and
decoder stay as they are. An interaction has more or fewer tokens than the memory has slots: its outputs are pooled
(`mrl.losses.memory_alignment.pool_to_slots`). The result lies in output_dir/model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from mrl.dialogues.collation import Episodes, collate_episodes
from mrl.dialogues.corpus import CorpusConfig, load_corpus, require_questions
from mrl.dialogues.sampler import BucketBatchSampler, in_order
from mrl.losses.memory_alignment import MemoryTargetConfig, memory_target_loss, write_counts
from mrl.training.export import finish
from mrl.training.loop import Training, mean
from mrl.training.model_io import ModelConfig, load_reactive
from mrl.training.optimizer import PARTS, OptimizerConfig
from mrl.training.stage_config import TrainerConfig, default_config
from pipeline.errors import InputError
from pipeline.run import Run, stage_main

ONLY_MEMORY = {part: 0.0 for part in PARTS if part != "memory_attention"}


@dataclass(kw_only=True)
class MemoryPretrainStage:
    """A recipe for self-supervised memory attention."""

    output_dir: Path
    model: ModelConfig
    data: CorpusConfig
    trainer: TrainerConfig
    objective: MemoryTargetConfig = field(default_factory=MemoryTargetConfig)
    optimiser: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The parts other than memory_attention stay frozen, whatever `rates` says of them."""
    turns: int | None = 8
    """Writes of a dialogue, from its start; null: all."""
    held_out_dialogues: int = 256
    """Dialogues that an evaluation looks at."""
    name: str | None = None
    """Name of the model in its card."""
    description: str | None = None
    push_to_hub: str | None = None
    """Repository on the Hub for the result."""
    seed: int = 42
    resume: Literal["auto", "never"] = "auto"


def means(sums: Mapping[str, float]) -> dict[str, float]:
    """Distances between states and targets, and how far a write moves the memory, each per write."""
    return {name: mean(sums, name, "writes_n") for name in ("cosine_gap", "squared_distance", "moved")}


def main(stage: MemoryPretrainStage, run: Run) -> None:
    """Train, evaluate, save."""
    model, tokenizer = load_reactive(stage.model)
    if not model.config.memory_slots:
        raise InputError(f"model.path: {stage.model.path} has no memory (memory_slots 0); nothing to train here")
    corpus = load_corpus(stage.data, tokenizer, model.config.max_interaction_length, run)
    require_questions(corpus.train, "data.train")
    order = BucketBatchSampler(corpus.train.longest(stage.turns), stage.trainer.batch_size, stage.seed)
    stage.optimiser.rates = stage.optimiser.rates | ONLY_MEMORY

    def batch_of(step: int) -> Episodes:
        return collate_episodes(corpus.train, order.next(), stage.turns, (stage.seed * 1_000_003 + step) % 2**62)

    def evaluate(training: Training) -> dict[str, float]:
        sums: dict[str, float] = {}
        some = np.arange(len(corpus.held_out))[: stage.held_out_dialogues]
        with training.judging():
            for index in in_order(corpus.held_out.longest(stage.turns)[some], 64):
                batch = collate_episodes(corpus.held_out, some[index], stage.turns, stage.seed)
                loss = partial(memory_target_loss, model, counts=write_counts(batch), config=stage.objective)
                for piece in training.mine(batch):
                    for name, value in loss(piece).metrics.items():
                        sums[name] = sums.get(name, 0.0) + float(value)
        return means(training.total(sums))

    parts = {"order": order}
    with Training(stage.trainer, stage.optimiser, model, tokenizer, run, parts, corpus.fingerprint) as training:
        for step in training.steps():
            batch = batch_of(step)
            loss = partial(memory_target_loss, model, counts=write_counts(batch), config=stage.objective)
            training.step(batch, loss, tokens=int(batch.mask.sum()))
            training.log(means)
            if training.evaluation_due:
                figures = evaluate(training)
                weight = stage.objective.mse_weight
                training.judge(figures, -figures["cosine_gap"] - weight * figures["squared_distance"])
        training.restore_best()
        finish(training, stage, evaluate(training))


if __name__ == "__main__":
    stage_main(MemoryPretrainStage, main, default_config=default_config("memory_pretrain"), description=__doc__)
