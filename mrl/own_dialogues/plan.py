"""Sizes chosen from the data, each with the reason that the log and docs/own_dialogues.md give."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mrl.dialogues.corpus import answer_lengths
from mrl.dialogues.dataset import Conversation
from mrl.dialogues.tokenization import EncodedDialogues
from mrl.own_dialogues.renaming import WORD

FRAME = 8
"""Special tokens of the tokenizer."""
BYTES = 256
LARGEST_VOCABULARY = 8192
SHORTEST, LONGEST = 32, 512
"""Interaction limits that are chosen without being asked."""


@dataclass(frozen=True)
class Sizes:
    """What the recipes of a data set have in numbers."""

    interaction_limit: int
    answer_limit: int
    slots: int
    steps: int
    """Interactions after the first of the longest dialogues that are learnt from."""
    mrl_turns: tuple[int, ...]
    """Lengths that memory reinforcement goes through."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def vocabulary_size(conversations: Sequence[Conversation]) -> int:
    """Bytes, frame and four tokens for every word that is said at least twice: itself, and pieces that words share, of
    which names are made."""
    counts: Counter[str] = Counter()
    for conversation in conversations:
        for exchange in conversation.exchanges:
            counts.update(WORD.findall(f"{exchange.query or ''} {exchange.answer}"))
    wanted = BYTES + FRAME + 4 * sum(count > 1 for count in counts.values())
    return min(LARGEST_VOCABULARY, 64 * math.ceil(wanted / 64))


def choose_sizes(data: EncodedDialogues) -> Sizes:
    """Sizes for encoded training dialogues; none is cut below what 999 of 1,000 turns need."""
    lengths, turns = data.lengths, data.turns
    limit = int(np.clip(8 * math.ceil(float(np.quantile(lengths, 0.999)) / 8), SHORTEST, LONGEST))
    answers = answer_lengths(data)
    many = max(2, int(np.quantile(turns, 0.95)))
    return Sizes(
        interaction_limit=limit,
        answer_limit=min(limit // 2, int(np.quantile(answers, 0.999)) + 1),
        slots=int(np.clip(8 * math.ceil(many / 4), 16, 64)),
        steps=int(turns.max()) - 1,
        mrl_turns=_mrl_turns(data),
    )


def _mrl_turns(data: EncodedDialogues) -> tuple[int, ...]:
    """The middle and the upper lengths that at least a twentieth of the dialogues have."""
    counts = Counter((data.turns - 1).tolist())
    usual = sorted(n for n, count in counts.items() if n and count >= len(data) / 20)
    if not usual:
        return (max(1, int(np.median(data.turns)) - 1),)
    return tuple(dict.fromkeys((usual[len(usual) // 2], usual[-1])))


def explain(sizes: Sizes, data: EncodedDialogues, vocabulary: int) -> list[str]:
    """A line for each size: what it is and what it follows from."""
    lengths, answers = data.lengths, answer_lengths(data)
    over = float((lengths > sizes.interaction_limit).mean())
    return [
        f"vocabulary {vocabulary}: bytes, {FRAME} frame tokens, pieces of the words that are said more than once",
        f"max_interaction_length {sizes.interaction_limit}: turns have {int(np.median(lengths))} tokens in the middle, "
        f"{int(lengths.max())} at most; {over:.2%} are longer and cut",
        f"memory_slots {sizes.slots}: twice the turns of all but the longest dialogues, in eights",
        f"max_new_tokens {sizes.answer_limit}: answers have {int(answers.max())} tokens at most",
        f"dialogues of up to {sizes.steps} turns after the first are learnt from, doubled as recall grows; reinforced "
        f"are {' and '.join(map(str, sizes.mrl_turns))}",
    ]
