"""Terms that check an answer by rule, whatever it answers: manners, length, form, thought, honest abstention.

Politeness and abstention are known by English words; the others by counts.
"""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mrl.dialogues.abstention import abstains
from mrl.rl.rewards.comparison import Comparison, Term
from mrl.rl.rewards.words import Words

COURTESY = re.compile(
    r"\b(?:please|thank(?:s| you)|my pleasure|you(?:['’]re| are) welcome|sorry|glad to|happy to|kindly)\b",
    re.IGNORECASE,
)
"""Words of courtesy, of which one is enough."""


def is_polite(answer: str) -> bool:
    """Whether an answer has a word of courtesy."""
    return COURTESY.search(answer) is not None


def brevity(answer: str, most: int) -> float:
    """1 for an answer of at most `most` words (0 for none at all), falling with what is beyond."""
    words = len(answer.split())
    return most / max(words, most) if words else 0.0


def texts(turns: Comparison, words: Words) -> list[str]:
    """What is said in each of the B * K turns. Raises ValueError for a vocabulary that can't decode."""
    if turns.vocabulary.decode is None:
        raise ValueError("a reward that reads texts needs the vocabulary's decode, the tokenizer's")
    flat = words.flatten()
    rows = zip(flat.ids.tolist(), flat.mask.tolist(), strict=True)
    return [turns.vocabulary.decode([i for i, kept in zip(*row, strict=True) if kept]).strip() for row in rows]


def _term(check: Callable[[Comparison, str], float]) -> Term:
    def term(turns: Comparison) -> Tensor:
        return _table(turns, [float(check(turns, answer)) for answer in texts(turns, turns.answer)])

    return term


def _table(turns: Comparison, values: Sequence[float]) -> Tensor:
    return torch.tensor(values, device=turns.answer.ids.device).view(turns.shape)


def honesty(turns: Comparison) -> Tensor:
    """Whether an answer says that it isn't known exactly where the reference says so, [B, K]."""
    said, wanted = texts(turns, turns.answer), texts(turns, turns.reference)
    return _table(turns, [float(abstains(a) == abstains(b)) for a, b in zip(said, wanted, strict=True)])


def thought(turns: Comparison) -> Tensor:
    """Whether something is thought before the answer, [B, K]."""
    return (turns.thought.lengths() > 0).float()


def matches(turns: Comparison, answer: str) -> float:
    """Whether the whole answer is of the form that the recipe gives."""
    return float(re.fullmatch(turns.settings.pattern, answer, re.DOTALL) is not None)


TERMS: dict[str, Term] = {
    "polite": _term(lambda turns, answer: is_polite(answer)),
    "brief": _term(lambda turns, answer: brevity(answer, turns.settings.most_words)),
    "format": _term(matches),
    "thought": thought,
    "abstention": honesty,
}
