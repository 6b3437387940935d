"""How an answer is scored: are the facts in it, and how many words does it share with the right one?"""

import re
from collections import Counter
from collections.abc import Sequence


def words(text: str) -> list[str]:
    """Words and numbers of a text in lower case, signs left out."""
    return re.findall(r"\w+", text.lower())


def recalled(answer: str, facts: Sequence[str]) -> bool:
    """Whether every fact stands in the answer, as whole words in their order. No facts: False."""
    said = f" {' '.join(words(answer))} "
    wanted = [f" {' '.join(words(fact))} " for fact in facts]
    return bool(wanted) and all(fact.strip() and fact in said for fact in wanted)


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall of the answer's words (as in SQuAD, articles kept)."""
    said, wanted = Counter(words(answer)), Counter(words(reference))
    shared = sum((said & wanted).values())
    if not shared:
        return float(not said and not wanted)
    precision, recall = shared / said.total(), shared / wanted.total()
    return 2 * precision * recall / (precision + recall)
