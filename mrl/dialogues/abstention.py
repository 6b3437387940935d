"""Answers that say that something hasn't been told: the only right ones to a question about it."""

import re

_NOT = r"(?:(?:have|has|did|do|does|was|were)(?:n['’]t|\s+not)|never|(?:have|has)\s+(?:not\s+yet|never))"
_PATTERN = re.compile(
    rf"\b(?:you|nobody|no\s+one)\b(?:\s+{_NOT})(?:\s+yet)?\s+(?:told|mentioned|said|shared|tell|mention|say|share)\b"
    r"|\b(?:nobody|no\s+one)\s+(?:has\s+)?(?:told|mentioned|said)\b"
    # Not "I didn't know that!", which says that now it is known, nor "I never know what to wear".
    r"|\bI\s+(?:do(?:n['’]t|\s+not)(?:\s+yet)?\s+know|can['’]t\s+know)\b"
    rf"|\bI\s+{_NOT}(?:\s+yet)?\s+been\s+told\b|\bI\s+was\s+never\s+told\b",
    re.IGNORECASE,
)


def abstention_of(answer: str) -> str | None:
    """The words of an answer that say that it wasn't told what it was asked, or that it doesn't know; None where it
    says no such thing."""
    found = _PATTERN.search(answer)
    return found[0] if found else None


def abstains(answer: str) -> bool:
    """Whether an answer says so."""
    return abstention_of(answer) is not None


__all__ = ["abstains", "abstention_of"]
