"""The section `rewards`: which verifiers there are by name, and how a recipe makes TRL's reward functions of them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.errors import SettingError
from pipeline.ranges import PositiveFloat, PositiveInt, Text
from post_training.rewards import verifiers

ANSWERS = ("number", "choice", "string")
"""Kinds that say whether an answer is right."""


@dataclass(kw_only=True, frozen=True)
class RewardConfig:
    """An entry of the section `rewards`."""

    kind: Literal["number", "choice", "string", "thought", "length"]
    """number, choice, string: the answer is right, by its last number, last letter or words; thought: one closed
    <think>…</think> and an answer after it; length: no more than `tokens` tokens."""
    weight: PositiveFloat = 1.0
    pattern: Text | None = None
    """Of kind string: regular expression whose last group 1 in the answer is compared."""
    tokens: PositiveInt | None = None
    """Of kind length: full reward up to so many tokens, none from twice as many on."""

    def __post_init__(self) -> None:
        for key, kind in (("pattern", "string"), ("tokens", "length")):
            if getattr(self, key) is not None and self.kind != kind:
                raise SettingError(key, f"{key} belongs to kind: {kind}, not to {self.kind}; leave it out")
        if self.kind == "length" and self.tokens is None:
            raise SettingError("tokens", "kind: length needs tokens; say how many are still fine")
        try:
            groups = re.compile(self.pattern).groups if self.pattern is not None else 1
        except re.error as error:
            raise SettingError("pattern", f"pattern is no regular expression ({error})") from None
        if groups != 1:
            raise SettingError("pattern", f"pattern has {groups} groups; put one ( ) around what is compared")


def verify(config: RewardConfig, completion: str, reference: str, tokens: int) -> float:
    """The reward in 0..1 of one completion, before its weight. tokens: how long it is."""
    match config.kind:
        case "string":
            return verifiers.string(completion, reference, config.pattern)
        case "thought":
            return verifiers.thought(completion)
        case "length":
            return verifiers.length(tokens, config.tokens or 1)
        case kind:
            return {"number": verifiers.number, "choice": verifiers.choice}[kind](completion, reference)


def reward_functions(configs: Sequence[RewardConfig]) -> list[Callable[..., list[float]]]:
    """TRL's reward functions, a function an entry, for rows with a column `reference`; named for the log."""

    def function(config: RewardConfig) -> Callable[..., list[float]]:
        def reward(completions: list[Any], completion_ids: list[list[int]], reference: list[str], **_: Any):
            texts = [messages[-1]["content"] for messages in completions]
            rows = zip(texts, reference, completion_ids, strict=True)
            return [verify(config, text, wanted, len(ids)) for text, wanted, ids in rows]

        reward.__name__ = config.kind
        return reward

    return [function(config) for config in configs]
