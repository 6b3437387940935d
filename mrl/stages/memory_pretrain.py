"""Self-supervised memory attention: what mrl/memory_pretrain.py does."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from mrl.dialogues.collation import Episodes, collate_episodes
from mrl.dialogues.corpus import load_corpus, require_questions
from mrl.dialogues.sampler import BucketBatchSampler, in_order
from mrl.dialogues.seeding import Purpose, derive_seed
from mrl.losses.memory_alignment import memory_target_loss, write_counts
from mrl.losses.output import LossOutput
from mrl.recipes.supervised import FROZEN, MemoryPretrainStage
from mrl.training.export import finish
from mrl.training.loop import Training, mean
from mrl.training.model_io import load_reactive
from pipeline.run import Run


def means(sums: Mapping[str, float]) -> dict[str, float]:
    """Distances between states and targets, and how far a write moves the memory, each per write."""
    return {name: mean(sums, name, "writes_n") for name in ("cosine_gap", "squared_distance", "moved")}


def run_stage(stage: MemoryPretrainStage, run: Run) -> None:
    """Train, evaluate, save."""
    model, tokenizer = load_reactive(stage.model, needs_memory=True, needs_encoder=True)
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
