"""Direct preference optimisation with a memory: what mrl/dpo.py does."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from mrl.losses.output import LossOutput
from mrl.preferences.accuracy import share_interval
from mrl.preferences.pairs import PairBatch, PairData
from mrl.preferences.scoring import batches, preference_counts, preference_loss, reference_log_probs
from mrl.recipes.preference import DPOStage
from mrl.stages.pairs import LossOf, learn_from_pairs, read_pairs
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
    corpus = read_pairs(stage, tokenizer, model.config.max_interaction_length, run)

    def loss_of(batch: PairBatch) -> Callable[[PairBatch], LossOutput]:
        return partial(preference_loss, model, counts=preference_counts(batch), config=stage.preference)

    parts = {"sampler": corpus.sampler}
    training = Training(stage.trainer, stage.optimizer, model, tokenizer, run, parts, corpus.fingerprint)
    # Dropout is off, as in TRL: an answer's log-probs are compared with those that the reference gave it.
    model.eval()
    training.settle_precision()
    for data in (
        corpus.train,
        corpus.held_out,
    ):  # before a checkpoint is read: the reference is what the run started from
        with training.evaluating():
            data.reference = reference_log_probs(model, data, training.device, training.rank, training.world)

    def evaluate(dialogues: int | None) -> dict[str, float]:
        return evaluate_pairs(training, corpus.held_out, loss_of, dialogues, stage.seed)

    with training:
        metrics = learn_from_pairs(training, corpus, loss_of, means, evaluate, stage.held_out_dialogues)
        accuracy, preferred = (
            share_interval(metrics[name], corpus.held_out.pairs) for name in ("rewards/accuracies", "preferred")
        )
        run.report(
            margin_accuracy=metrics["rewards/accuracies"], margin_accuracy_interval=accuracy,
            preferred_interval=preferred,
        )  # fmt: skip
        finish(training, stage, metrics)


def evaluate_pairs(
    training: Training, data: PairData, loss_of: LossOf, dialogues: int | None, seed: int
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
