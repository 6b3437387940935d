"""Functions from a completion and a reference to a reward in 0..1. What a model writes after its thought is its answer;
a thought that is opened and never closed leaves no answer."""

import re
from decimal import Decimal, InvalidOperation

OPEN, CLOSE = "<think>", "</think>"
NUMBER = re.compile(r"[-−]?\d[\d,]*(?:\.\d+)?|[-−]?\.\d+")
CHOICE = re.compile(r"(?<![A-Za-z'])([A-J])(?![A-Za-z'])")


def answer_part(completion: str) -> str:
    """What stands after the last thought; nothing where a thought is still open."""
    before, closed, after = completion.rpartition(CLOSE)
    text = after if closed else before + after
    return "" if OPEN in text else text.strip()


def number(completion: str, reference: str) -> float:
    """1 where the last number of the answer is the last one of the reference."""
    said, wanted = last_number(answer_part(completion)), last_number(reference)
    return float(said is not None and said == wanted)


def last_number(text: str) -> Decimal | None:
    """The last number of a text, as a value: `1,200.0` is `1200`."""
    found = NUMBER.findall(text)
    try:
        return Decimal(found[-1].replace(",", "").replace("−", "-")) if found else None
    except InvalidOperation:
        return None


def choice(completion: str, reference: str) -> float:
    """1 where the last lone capital letter from A to J of the answer is that of the reference."""
    said, wanted = CHOICE.findall(answer_part(completion)), CHOICE.findall(reference)
    return float(bool(said) and bool(wanted) and said[-1] == wanted[-1])


def string(completion: str, reference: str, pattern: str | None = None) -> float:
    """1 where the answer is the reference: whole, or the last group 1 that `pattern` finds in it. Case, blanks and
    signs at its ends don't count."""
    said = answer_part(completion)
    if pattern is not None:
        found = re.findall(pattern, said)
        said = found[-1] if found else ""
    return float(bool(plain(said)) and plain(said) == plain(reference))


def plain(text: str) -> str:
    """Lower case, single blanks, no signs at the ends."""
    return re.sub(r"\s+", " ", text).strip(" .,!?:;\"'").lower()


def thought(completion: str) -> float:
    """1 where the completion is one thought that is closed, with words in it and an answer after it."""
    shape = re.fullmatch(rf"\s*{OPEN}(.*?){CLOSE}(.*)", completion, re.DOTALL)
    if shape is None or OPEN in shape[1] or OPEN in shape[2] or CLOSE in shape[2]:
        return 0.0
    return float(bool(shape[1].strip()) and bool(shape[2].strip()))


def length(tokens: int, most: int) -> float:
    """1 up to `most` tokens, falling to 0 at twice as many."""
    return max(0.0, min(1.0, 2.0 - tokens / most))
