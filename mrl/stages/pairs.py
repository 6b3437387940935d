"""What the two stages that learn from pairs share: their data, and the loop over it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mrl.dialogues.corpus import load_corpus
from mrl.dialogues.sampler import BucketBatchSampler
from mrl.losses.output import LossOutput
from mrl.preferences.pairs import PairBatch, PairData, encode_pairs
from mrl.recipes.preference import DPOStage, RewardModelStage
from mrl.training.loop import Training
from mrl.training.progress import Means
from pipeline.run import Run

LossOf = Callable[[PairBatch], Callable[[PairBatch], LossOutput]]
"""Of a global batch, the loss of a part of it."""


@dataclass(frozen=True, eq=False)
class PairCorpus:
    """Pairs to learn from and held-out ones; the sampler goes into the checkpoint."""

    train: PairData
    held_out: PairData
    sampler: BucketBatchSampler
    fingerprint: str


def read_pairs(stage: DPOStage | RewardModelStage, tokenizer: Any, limit: int, run: Run) -> PairCorpus:
    """The pairs of a recipe, interactions cut to `limit` tokens. Raises InputError where there is none."""
    corpus = load_corpus(stage.data, tokenizer, limit, run)
    train, held_out = (
        encode_pairs(encoded, corpus.words[name], tokenizer, limit, stage.seed, f"data.{name}")
        for name, encoded in (("train", corpus.train), ("held_out", corpus.held_out))
    )
    run.report(pairs=train.pairs, held_out_pairs=held_out.pairs)
    lengths = train.chosen.turns * 1000 + train.chosen.longest()
    sampler = BucketBatchSampler(lengths, stage.trainer.batch_size, stage.seed)
    return PairCorpus(train, held_out, sampler, corpus.fingerprint)


def learn_from_pairs(
    training: Training,
    corpus: PairCorpus,
    loss_of: LossOf,
    means: Means,
    evaluate: Callable[[int | None], dict[str, float]],
    dialogues: int,
) -> dict[str, float]:
    """All steps of an entered `training`. evaluate: held-out figures, `loss` among them, over so many dialogues (None:
    all). Returns those of the result over all."""
    for _ in training.steps():
        batch = corpus.train.batch(corpus.sampler.next())
        training.step(batch, loss_of(batch), tokens=int(batch.mask.sum() + batch.rejected_mask.sum()))
        training.log(means)
        if training.evaluation_due:
            metrics = evaluate(dialogues)
            training.record_evaluation(metrics, score=-metrics["loss"])
    training.restore_best()
    return evaluate(None)
