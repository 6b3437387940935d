"""Direct preference optimisation with a memory: what mrl/dpo.py does."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from mrl.dialogues.corpus import load_corpus
from mrl.dialogues.sampler import BucketBatchSampler
from mrl.losses.output import LossOutput
from mrl.preferences.accuracy import share_interval
from mrl.preferences.pairs import PairBatch, PairData, encode_pairs
from mrl.preferences.scoring import batches, preference_counts, preference_loss, reference_log_probs
from mrl.recipes.preference import DPOStage
from mrl.training.export import finish
from mrl.training.loop import Training, mean
from mrl.training.model_io import load_reactive
from mrl.training.recall import measure_recall
from pipeline.run import Run


def means(sums: Mapping[str, float]) -> dict[str, float]:
    """TRL's figures, a mean over pairs each."""
    named = ("chosen", "rejected", "accuracies", "margins")
    metrics = {name: mean(sums, name, "pairs_n") for name in (*(f"rewards/{n}" for n in named), "logps/chosen")}
    return metrics | {"logps/rejected": mean(sums, "logps/rejected", "pairs_n")}


def run_stage(stage: DPOStage, run: Run) -> None:
    """Train, evaluate, save."""
    model, tokenizer = load_reactive(stage.model, needs_memory=True)
    limit = model.config.max_interaction_length
    corpus = load_corpus(stage.data, tokenizer, limit, run)
    train, held_out = (
        encode_pairs(encoded, corpus.words[name], tokenizer, limit, stage.seed, f"data.{name}")
        for name, encoded in (("train", corpus.train), ("held_out", corpus.held_out))
    )
    run.report(pairs=train.pairs, held_out_pairs=held_out.pairs)
    lengths = train.chosen.turns * 1000 + train.chosen.longest()
    sampler = BucketBatchSampler(lengths, stage.trainer.batch_size, stage.seed)

    def loss_of(batch: PairBatch) -> Callable[[PairBatch], LossOutput]:
        return partial(preference_loss, model, counts=preference_counts(batch), config=stage.preference)

    parts = {"sampler": sampler}
    training = Training(stage.trainer, stage.optimizer, model, tokenizer, run, parts, corpus.fingerprint)
    # Dropout is off, as in TRL: an answer's log-probs are compared with those that the reference gave it.
    model.eval()
    training.settle_precision()
    for data in (train, held_out):  # before a checkpoint is read: the reference is what the run started from
        with training.evaluating():
            data.reference = reference_log_probs(model, data, training.device, training.rank, training.world)

    def evaluate(dialogues: int | None) -> dict[str, float]:
        return evaluate_pairs(training, held_out, loss_of, dialogues, stage.seed)

    with training:
        for _ in training.steps():
            batch = train.batch(sampler.next())
            training.step(batch, loss_of(batch), tokens=int(batch.mask.sum() + batch.rejected_mask.sum()))
            training.log(means)
            if training.evaluation_due:
                metrics = evaluate(stage.held_out_dialogues)
                training.record_evaluation(metrics, score=-metrics["loss"])
        training.restore_best()
        metrics = evaluate(None)
        accuracy = share_interval(metrics["rewards/accuracies"], held_out.pairs)
        run.report(margin_accuracy=metrics["rewards/accuracies"], margin_accuracy_interval=accuracy)
        finish(training, stage, metrics)


def evaluate_pairs(
    training: Training,
    data: PairData,
    loss_of: Callable[[PairBatch], Callable[[PairBatch], LossOutput]],
    dialogues: int | None,
    seed: int,
) -> dict[str, float]:
    """TRL's figures over dialogues (None: all), on how many pairs the chosen answer is the likelier one by its tokens'
    mean (`preferred`), and what is still recalled where the rows say what has to be."""
    chosen = list(batches(data, dialogues))
    sums = training.sums((data.batch(index) for index in chosen), loss_of)
    metrics = means(sums) | {
        name: mean(sums, of, "pairs_n") for name, of in (("loss", "pair_loss"), ("preferred",) * 2)
    }
    if bool(np.any(data.chosen.asks & (data.chosen.distance > 0))):
        with training.evaluating():
            recall: dict[str, Any] = measure_recall(training.model, data.chosen, training, dialogues, seed).metrics()
        metrics |= recall
    return metrics
