"""Joint language modelling of encoder and decoder: what mrl/pretrain.py does."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from mrl.dialogues.collation import Interactions, collate_interactions
from mrl.dialogues.corpus import Corpus, load_corpus, preview, turn_numbers
from mrl.dialogues.sampler import BucketBatchSampler, in_order
from mrl.dialogues.seeding import Purpose, derive_seed
from mrl.dialogues.tokenization import EncodedDialogues
from mrl.losses.joint_lm import hide_tokens, joint_counts, joint_loss
from mrl.losses.output import LossOutput
from mrl.recipes.supervised import PretrainStage
from mrl.training.export import finish
from mrl.training.loop import Training, mean
from mrl.training.model_io import load_reactive
from pipeline.errors import InputError
from pipeline.run import Run


def means(sums: Mapping[str, float]) -> dict[str, float]:
    """Losses and accuracies per scored token."""
    return {
        "ar_loss": mean(sums, "ar_loss", "ar_n"),
        "ar_accuracy": mean(sums, "ar_right", "ar_n"),
        "mlm_loss": mean(sums, "mlm_loss", "mlm_n"),
        "mlm_accuracy": mean(sums, "mlm_right", "mlm_n"),
    }


class Batches:
    """Global batches of interactions, with the tokens chosen that the encoder doesn't see."""

    def __init__(self, corpus: Corpus, stage: PretrainStage, tokenizer: Any) -> None:
        self.corpus, self.objective, self.seed = corpus, stage.objective, stage.seed
        self.turns = turn_numbers(corpus.train)
        self.held_out_turns = turn_numbers(corpus.held_out, stage.held_out_turns)
        self.sampler = BucketBatchSampler(corpus.train.lengths[self.turns], stage.trainer.batch_size, stage.seed)
        self.special = torch.tensor(sorted(set(tokenizer.all_special_ids)))

    def train(self, step: int) -> Interactions:
        return self._batch(self.corpus.train, self.turns[self.sampler.next()], Purpose.BATCH, step)

    def held_out(self) -> list[Interactions]:
        lengths = self.corpus.held_out.lengths[self.held_out_turns]
        parts = enumerate(in_order(lengths, 256))
        return [self._batch(self.corpus.held_out, self.held_out_turns[i], Purpose.HELD_OUT, n) for n, i in parts]

    def _batch(self, data: EncodedDialogues, turns: np.ndarray, purpose: Purpose, number: int) -> Interactions:
        seed = derive_seed(self.seed, purpose, number)
        batch = collate_interactions(data, turns, self.objective.scored, seed)
        return hide_tokens(batch, self.objective.mask_share, self.special, seed)


def run_stage(stage: PretrainStage, run: Run) -> None:
    """Train, evaluate, save."""
    model, tokenizer = load_reactive(stage.model)
    corpus = load_corpus(stage.data, tokenizer, model.config.max_interaction_length, run)
    run.preview(preview(tokenizer, corpus.train))
    if (mask_token := corpus.train.frame.mask) is None:
        raise InputError(f"model.path: {stage.model.path} has no mask token; joint pre-training is for new models")
    batches = Batches(corpus, stage, tokenizer)
    run.report(distinct_turns=len(batches.turns))
    parts = {"sampler": batches.sampler}

    def loss_of(batch: Interactions) -> Callable[[Interactions], LossOutput]:
        return partial(joint_loss, model, counts=joint_counts(batch), config=stage.objective, mask_token=mask_token)

    with Training(stage.trainer, stage.optimizer, model, tokenizer, run, parts, corpus.fingerprint) as training:
        for step in training.steps():
            batch = batches.train(step)
            training.step(batch, loss_of(batch), tokens=int(batch.mask.sum()))
            training.log(means)
            if training.evaluation_due:
                metrics = means(training.sums(batches.held_out(), loss_of))
                training.record_evaluation(metrics, score=-metrics["ar_loss"] - metrics["mlm_loss"])
        training.restore_best()
        finish(training, stage, means(training.sums(batches.held_out(), loss_of)))
