"""Self-supervised memory attention: after each write the memory should be a weighted mean of what it was and what came.

    uv run mrl/memory_pretrain.py --config-path mrl/config/quickstart/memory_pretrain.yaml

Target of write i: (1 - w_i) * state before + w_i * encoder outputs, w_0 = 0.9, w_i = 0.5 - 0.05 * i. Encoder and
decoder stay as they are. An interaction has more or fewer tokens than the memory has slots: its outputs are pooled
(`mrl.losses.memory_alignment.pool_to_slots`). The result lies in output_dir/model.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

from mrl.dialogues.collation import Episodes, collate_episodes
from mrl.dialogues.corpus import load_corpus, require_questions
from mrl.dialogues.sampler import BucketBatchSampler, in_order
from mrl.dialogues.seeding import Purpose, derive_seed
from mrl.losses.memory_alignment import MemoryTargetConfig, memory_target_loss, write_counts
from mrl.losses.output import LossOutput
from mrl.training.export import check_upload, finish
from mrl.training.loop import Training, mean
from mrl.training.model_io import load_reactive
from mrl.training.optimizer import PARTS
from mrl.training.stage_config import ReactiveStageConfig, default_config
from pipeline.errors import SettingError
from pipeline.ranges import PositiveInt
from pipeline.run import Run, stage_main

FROZEN = {part: 0.0 for part in PARTS if part != "memory_attention"}
"""Learning rate multipliers that leave memory attention alone to learn."""


@dataclass(kw_only=True, frozen=True)
class MemoryPretrainStage(ReactiveStageConfig):
    """A recipe for self-supervised memory attention. The parts other than memory_attention stay frozen."""

    RENAMED: ClassVar[Mapping[str, str]] = {"turns": "max_turns"}

    objective: MemoryTargetConfig = field(default_factory=MemoryTargetConfig)
    max_turns: PositiveInt | None = 8
    """Writes of a dialogue, from its start; null: all."""
    held_out_dialogues: PositiveInt = 256
    """Dialogues that an evaluation looks at."""

    def __post_init__(self) -> None:
        """Refuse rates of parts that don't learn here."""
        for part, rate in self.optimizer.lr_multipliers.items():
            if rate and part in FROZEN:
                raise SettingError(f"optimizer.lr_multipliers.{part}", f"{part} stays frozen here; leave it out")


def means(sums: Mapping[str, float]) -> dict[str, float]:
    """Distances between states and targets, and how far a write moves the memory, each per write."""
    return {name: mean(sums, name, "writes_n") for name in ("cosine_gap", "squared_distance", "moved")}


def main(stage: MemoryPretrainStage, run: Run) -> None:
    """Train, evaluate, save."""
    check_upload(stage)
    model, tokenizer = load_reactive(stage.model, needs_memory=True)
    corpus = load_corpus(stage.data, tokenizer, model.config.max_interaction_length, run)
    require_questions(corpus.train, "data.train")
    sampler = BucketBatchSampler(corpus.train.longest(stage.max_turns), stage.trainer.batch_size, stage.seed)
    optimizer = replace(stage.optimizer, lr_multipliers={**stage.optimizer.lr_multipliers, **FROZEN})

    def next_batch(step: int) -> Episodes:
        seed = derive_seed(stage.seed, Purpose.BATCH, step)
        return collate_episodes(corpus.train, sampler.next(), stage.max_turns, seed)

    def held_out() -> Iterator[Episodes]:
        lengths = corpus.held_out.longest(stage.max_turns)[: stage.held_out_dialogues]
        return (collate_episodes(corpus.held_out, i, stage.max_turns, stage.seed) for i in in_order(lengths, 64))

    def loss_of(batch: Episodes) -> Callable[[Episodes], LossOutput]:
        return partial(memory_target_loss, model, counts=write_counts(batch), config=stage.objective)

    def score(metrics: Mapping[str, float]) -> float:
        return -metrics["cosine_gap"] - stage.objective.mse_weight * metrics["squared_distance"]

    parts = {"sampler": sampler}
    with Training(stage.trainer, optimizer, model, tokenizer, run, parts, corpus.fingerprint) as training:
        for step in training.steps():
            batch = next_batch(step)
            training.step(batch, loss_of(batch), tokens=int(batch.mask.sum()))
            training.log(means)
            if training.evaluation_due:
                metrics = means(training.sums(held_out(), loss_of))
                training.record_evaluation(metrics, score(metrics))
        training.restore_best()
        finish(training, stage, means(training.sums(held_out(), loss_of)))


if __name__ == "__main__":
    stage_main(MemoryPretrainStage, main, default_config=default_config("memory_pretrain"), description=__doc__)
