"""How an answer is scored: how many words does it share with the right one? (Whether it has the facts says
`mrl.dialogues.facts.recalled`, for training and evaluation alike.)"""

import re
from collections import Counter

from scipy.stats import binomtest


def words(text: str) -> list[str]:
    """Words and numbers of a text in lower case, signs left out."""
    return re.findall(r"\w+", text.lower())


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall of the answer's words (as in SQuAD, articles kept)."""
    said, wanted = Counter(words(answer)), Counter(words(reference))
    shared = sum((said & wanted).values())
    if not shared:
        return float(not said and not wanted)
    precision, recall = shared / said.total(), shared / wanted.total()
    return 2 * precision * recall / (precision + recall)


def interval(part: int, whole: int) -> list[float]:
    """The 95 per cent interval of a share (Wilson 1927), as low and high end."""
    found = binomtest(part, whole).proportion_ci(method="wilson")
    return [round(float(found.low), 4), round(float(found.high), 4)]
