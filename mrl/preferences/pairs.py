"""Dialogues with two answers to some turns, as padded tensors.

Symbols: B dialogues, K turns, T tokens of an interaction, R of one with the rejected answer.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from mrl.dialogues.collation import IGNORED, RowTensors, collate_episodes
from mrl.dialogues.dataset import Conversation, Exchange
from mrl.dialogues.seeding import Purpose, derive_seed
from mrl.dialogues.tokenization import MARKER, SCORED, EncodedDialogues, encode_dialogues
from pipeline.errors import InputError

logger = logging.getLogger(__name__)
NOTHING = np.zeros((0, 2), dtype=np.float32)


@dataclass
class PairBatch(RowTensors):
    """What is written and what is scored. ids, mask [B, K, T]: the dialogues with the chosen answers; scored [B, K, T]
    bool: tokens of the chosen answers; rejected, rejected_mask, rejected_scored [B, K, R]: the same interactions with
    the rejected answers, empty where a turn has one answer; paired [B, K] bool; seeds [B]: of the initial states;
    reference [B, K, 2]: log-probs of both answers under the reference, summed over tokens."""

    ids: Tensor
    mask: Tensor
    scored: Tensor
    rejected: Tensor
    rejected_mask: Tensor
    rejected_scored: Tensor
    paired: Tensor
    seeds: Tensor
    reference: Tensor

    def trim(self) -> Self:
        """Without the columns and the turns that are padding in every row."""
        turns = max(1, int((self.mask[:, :, 0] > 0).sum(1).max()))
        longest = max(1, int(self.mask.sum(2).max()))
        other = max(1, int(self.rejected_mask.sum(2).max()))
        cut = {name: getattr(self, name)[:, :turns, :longest] for name in ("ids", "mask", "scored")}
        cut |= {n: getattr(self, n)[:, :turns, :other] for n in ("rejected", "rejected_mask", "rejected_scored")}
        return replace(self, **cut, paired=self.paired[:, :turns], reference=self.reference[:, :turns])

    @property
    def pairs(self) -> int:
        """Turns with two answers."""
        return int(self.paired.sum())


@dataclass
class PairData:
    """Encoded dialogues and the rejected answers of their turns.

    other [turns]: number of the dialogue of one turn in `rejected` that holds a turn's rejected answer, -1 where there
    is none; qualities [turns]: what it lacks; reference [turns, 2]: see `PairBatch`, nothing before it is computed.
    """

    chosen: EncodedDialogues
    rejected: EncodedDialogues
    other: np.ndarray
    qualities: list[str]
    seed: int
    reference: np.ndarray

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def pairs(self) -> int:
        return int((self.other >= 0).sum())

    def batch(self, dialogues: np.ndarray) -> PairBatch:
        """Dialogues by number. A dialogue's initial state is always the same one, that of its reference log-probs."""
        whole = collate_episodes(self.chosen, dialogues, None, 0)
        turns = self.turn_numbers(dialogues)
        other = np.where(turns >= 0, self.other[turns], -1)
        row, turn = np.nonzero(other >= 0)
        alone = collate_episodes(self.rejected, other[row, turn] if len(row) else np.zeros(1, dtype=np.int64), None, 0)
        lead, width = other.shape, alone.ids.shape[2]
        place = torch.from_numpy(row), torch.from_numpy(turn)

        def spread(values: Tensor) -> Tensor:
            found = torch.zeros(*lead, width, dtype=values.dtype)
            found[place] = values[: len(row), 0]
            return found

        reference = torch.zeros(*lead, 2)
        if len(self.reference):
            reference = torch.from_numpy(np.where((other >= 0)[..., None], self.reference[turns], 0.0)).float()
        return PairBatch(
            ids=whole.ids,
            mask=whole.mask,
            scored=_scored(whole.labels),
            rejected=spread(alone.ids),
            rejected_mask=spread(alone.mask),
            rejected_scored=spread(_scored(alone.labels)),
            paired=torch.from_numpy(other >= 0),
            seeds=torch.tensor([derive_seed(self.seed, Purpose.HELD_OUT, int(d)) for d in dialogues]),
            reference=reference,
        )

    def turn_numbers(self, dialogues: np.ndarray) -> np.ndarray:
        """Numbers of the turns of dialogues [B, K], -1 where a dialogue is over."""
        counts = self.chosen.turns[dialogues]
        place = np.arange(int(counts.max()))
        return np.where(place < counts[:, None], self.chosen.first[dialogues][:, None] + place, -1)


def _scored(labels: Tensor) -> Tensor:
    scored = labels != IGNORED
    scored[..., 0] = False  # nothing predicts a first token
    return scored


def encode_pairs(
    chosen: EncodedDialogues, conversations: Sequence[Conversation], tokenizer: object, max_length: int, seed: int,
    where: str,
) -> PairData:  # fmt: skip
    """Encoded dialogues with their rejected answers. Pairs that a cut at `max_length` tokens makes equal, or gives
    different questions, are left out with a warning. Raises InputError where no pair is left."""
    exchanges = [exchange for conversation in conversations for exchange in conversation.exchanges]
    paired = [turn for turn, exchange in enumerate(exchanges) if exchange.rejected]
    if len(exchanges) != len(chosen.start) - 1 or not paired:
        raise InputError(
            f"{where}: no turn has two answers; give rows with chosen and rejected, or with rejected beside answer "
            "(data/data_collection.py makes them: preferences, or generator: {kind: dialogue_preferences})"
        )
    alone = [Conversation((_worse(exchanges[turn]),), where) for turn in paired]
    rejected = encode_dialogues(alone, tokenizer, max_length=max_length, where=where)
    thinks = chosen.thinks or rejected.thinks
    chosen, rejected = replace(chosen, thinks=thinks), replace(rejected, thinks=thinks)
    other = np.full(len(exchanges), -1)
    cut = 0
    for number, turn in enumerate(paired):
        if _comparable(_tokens(chosen, turn), _tokens(rejected, number)):
            other[turn] = number
        else:
            cut += 1
    if cut:
        logger.warning(
            "%s: %d of %d pairs left out: cut to %d tokens, their answers are equal or their questions differ",
            where, cut, len(paired), max_length,
        )  # fmt: skip
    if cut == len(paired):
        raise InputError(f"{where}: no pair is left after the cut to max_interaction_length {max_length}; raise it")
    qualities = [exchange.quality for exchange in exchanges]
    return PairData(chosen, rejected, other, qualities, seed, NOTHING)


def _worse(exchange: Exchange) -> Exchange:
    return Exchange(exchange.query, exchange.rejected, exchange.rejected_think)


def _tokens(data: EncodedDialogues, turn: int) -> tuple[np.ndarray, int]:
    """Tokens of a turn, and how many of them are its question."""
    span = slice(data.start[turn], data.start[turn + 1])
    return data.tokens[span], int(np.argmax((data.flags[span] & (SCORED | MARKER)) > 0))


def _comparable(one: tuple[np.ndarray, int], two: tuple[np.ndarray, int]) -> bool:
    (ids, query), (others, other_query) = one, two
    return np.array_equal(ids[:query], others[:other_query]) and not np.array_equal(ids, others)


__all__ = ["PairBatch", "PairData", "encode_pairs"]
