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
from mrl.own_dialogues.start import Start

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


def choose_sizes(data: EncodedDialogues, watched: Sequence[Conversation], start: Start | None = None) -> Sizes:
    """Sizes for encoded training dialogues; none is cut below what 999 of 1,000 turns need. watched: the dialogues that
    training is watched by; start: the model that is begun with, which has its interaction limit and its slots."""
    turns = data.turns
    many = max(2, int(np.quantile(turns, 0.95)))
    limit = _limit(data) if start is None else start.interaction_limit
    return Sizes(
        interaction_limit=limit,
        answer_limit=min(limit // 2, int(np.quantile(answer_lengths(data), 0.999)) + 1),
        slots=int(np.clip(8 * math.ceil(many / 4), 16, 64)) if start is None else start.slots,
        steps=int(turns.max()) - 1,
        mrl_turns=_mrl_turns(data, watched),
    )


def _limit(data: EncodedDialogues) -> int:
    return int(np.clip(8 * math.ceil(float(np.quantile(data.lengths, 0.999)) / 8), SHORTEST, LONGEST))


def _mrl_turns(data: EncodedDialogues, watched: Sequence[Conversation]) -> tuple[int, ...]:
    """The middle and the upper lengths that at least a twentieth of the dialogues have, as far as they can be watched:
    few dialogues to watch by may all be shorter."""
    counts = Counter((data.turns - 1).tolist())
    usual = sorted(n for n, count in counts.items() if n and count >= len(data) / 20)
    wanted = (usual[len(usual) // 2], usual[-1]) if usual else (max(1, int(np.median(data.turns)) - 1),)
    return tuple(dict.fromkeys(_watchable(turns, watched) for turns in wanted))


def _watchable(turns: int, watched: Sequence[Conversation]) -> int:
    """So many turns or the next fewer at which something is asked in watched dialogues, of all that suffice the
    shortest, as mrl/train.py takes them; the turns themselves where that is nowhere."""
    for fewer in range(turns, 0, -1):
        lengths = [len(c.exchanges) for c in watched if len(c.exchanges) > fewer]
        shortest = min(lengths, default=0)
        if any(e.asks for c in watched if len(c.exchanges) == shortest for e in c.exchanges[1 : fewer + 1]):
            return fewer
    return turns


def explain(sizes: Sizes, data: EncodedDialogues, vocabulary: int, start: Start | None = None) -> list[str]:
    """A line for each size: what it is and what it follows from."""
    lengths, answers = data.lengths, answer_lengths(data)
    over = float((lengths > sizes.interaction_limit).mean())
    words, slots = (
        f"bytes, {FRAME} frame tokens, pieces of the words that are said more than once",
        "twice the turns of all but the longest dialogues, in eights",
    )
    if start is not None:
        words = slots = f"those of {start.source}"
    return [
        f"vocabulary {vocabulary}: {words}",
        f"max_interaction_length {sizes.interaction_limit}: turns have {int(np.median(lengths))} tokens in the middle, "
        f"{int(lengths.max())} at most; {over:.2%} are longer and cut",
        f"memory_slots {sizes.slots}: {slots}",
        f"max_new_tokens {sizes.answer_limit}: answers have {int(answers.max())} tokens at most",
        f"dialogues of up to {sizes.steps} turns after the first are learnt from, doubled as recall grows; reinforced "
        f"are {' and '.join(map(str, sizes.mrl_turns))}",
    ]
