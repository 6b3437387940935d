"""What a row says: a conversation of which some turns are trained, or a preference between two answers.

Messages are read by the one parser of all rooms (`data/sources/messages.py`). A row that says something else, such as a
prompt that its answers don't continue, is a BadRow; what happens then is the recipe's choice (`dataset.bad_rows`).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from data.sources.messages import (
    THOUGHTS,
    BadRow,
    Message,
    MessageOptions,
    conversation_of,
    parse_messages,
    parse_tools,
)

_DEFAULT = MessageOptions()
_THOUGHT = re.compile(r"<think>.*?</think>\s*", re.DOTALL)


@dataclass(frozen=True)
class Conversation:
    """Messages, and what else the template is given with them.

    untrained: so many messages at the beginning are context only.
    """

    messages: list[Message]
    untrained: int = 0
    tools: list[Any] | None = None
    template_kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def features(self) -> set[str]:
        """What the template must be able to write, in the words of `CheckedTemplate.require`."""
        found = {message["role"] for message in self.messages}
        if any(message.get("tool_calls") for message in self.messages):
            found.add("tool_calls")
        return found | ({"tools"} if self.tools else set())


@dataclass(frozen=True)
class Pair:
    """A prompt and two ways to go on from it, with what the template is given beside them."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    tools: list[Any] | None = None
    template_kwargs: dict[str, Any] = field(default_factory=dict)

    def conversations(self) -> tuple[Conversation, Conversation]:
        """The two whole conversations; the prompt's turns are context."""
        chosen, rejected = (
            Conversation([*self.prompt, *answer], len(self.prompt), self.tools, self.template_kwargs)
            for answer in (self.chosen, self.rejected)
        )
        return chosen, rejected


def parse_turns(value: Any, where: str, column: str, options: MessageOptions, role: str = "user") -> list[Message]:
    """Messages from a column: a list of them, or a text, which is one turn of `role`. Raises BadRow."""
    if isinstance(value, str) and not value.lstrip().startswith("[{"):
        value = [{"role": role, "content": value}]
        options = replace(options, conversations="messages")
    return parse_messages(value, where, options, column=column)


def conversation_row(
    row: Mapping[str, Any], where: str, options: MessageOptions = _DEFAULT, *, last_turn: bool, drop_old_thoughts: bool
) -> Conversation:
    """The conversation of an SFT row (`messages`, or `prompt` and `completion`). Raises BadRow with `where`.

    last_turn: only the last answer is trained. drop_old_thoughts: what earlier answers thought is taken out.
    """
    if "completion" in row:
        prompt = parse_turns(row["prompt"], where, "prompt", replace(options, last_turn="keep"))
        messages = [*prompt, *parse_turns(row["completion"], where, "completion", options, "assistant")]
        untrained = len(prompt)
    else:
        messages, untrained = conversation_of(row, where, options), 0
    system = _system(row, messages, where)
    messages = system + messages
    untrained += len(system) if untrained else 0
    if last_turn:
        untrained = len(messages) - 1
    if drop_old_thoughts:
        messages = [*(_without_thought(m) for m in messages[:-1]), messages[-1]]
    return Conversation(messages, untrained, *_beside(row, where))


def _without_thought(message: Message) -> Message:
    if message["role"] != "assistant":
        return message
    kept = {k: v for k, v in message.items() if k not in THOUGHTS}
    return {**kept, "content": _THOUGHT.sub("", message["content"])}


def _system(row: Mapping[str, Any], messages: Sequence[Message], where: str) -> list[Message]:
    """A column `system` as the first message."""
    text = row.get("system")
    if not text:
        return []
    if not isinstance(text, str):
        raise BadRow("system", f"{where}: system is {type(text).__name__}, not a text")
    if messages[0]["role"] == "system":
        if messages[0]["content"] != text:
            raise BadRow("system", f"{where}: the column system and the first message say two things; keep one")
        return []
    return [{"role": "system", "content": text}]


def _beside(row: Mapping[str, Any], where: str) -> tuple[list[Any] | None, dict[str, Any]]:
    """The columns `tools` and `chat_template_kwargs`, either of which may be JSON in a text. Raises BadRow."""
    value = row.get("chat_template_kwargs")
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise BadRow("template kwargs", f"{where}: chat_template_kwargs is a text that isn't JSON") from None
    if value and not isinstance(value, Mapping):
        raise BadRow("template kwargs", f"{where}: chat_template_kwargs is {type(value).__name__}; give an object")
    kwargs = {k: v for k, v in (value or {}).items() if v is not None}
    return parse_tools(row.get("tools") or None, where), kwargs


def pair_row(row: Mapping[str, Any], where: str, options: MessageOptions = _DEFAULT) -> Pair:
    """The pair of a preference row. Raises BadRow with `where`.

    Reads whole conversations that share their beginning, with or without a `prompt` of messages or of plain text, and
    answers given alone. What only `prompt` has (a system message) is kept.
    """
    chosen, rejected = (parse_turns(row[c], where, c, options, "assistant") for c in ("chosen", "rejected"))
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and _same(chosen[shared], rejected[shared]):
        shared += 1
    keep_end = replace(options, last_turn="keep")
    given = parse_turns(row["prompt"], where, "prompt", keep_end) if row.get("prompt") else []
    stem = _join(given, chosen[:shared], where)
    stem = _system(row, stem or chosen, where) + stem
    if not stem:
        raise BadRow("no prompt", f"{where}: there is no prompt, and chosen and rejected share no beginning")
    return Pair(stem, chosen[shared:], rejected[shared:], *_beside(row, where))


def _join(prompt: list[Message], shared: list[Message], where: str) -> list[Message]:
    """One beginning from the prompt and the turns that both conversations begin with, which may overlap."""
    if len(prompt) < len(shared) and _all_same(prompt, shared[len(shared) - len(prompt) :]):
        return shared  # the conversations hold the prompt and what stands before it
    for overlap in range(min(len(prompt), len(shared)), 0, -1):
        if _all_same(prompt[-overlap:], shared[:overlap]):
            return prompt + shared[overlap:]
    if prompt and any(message["role"] == "user" for message in shared):
        raise BadRow("prompt", f"{where}: prompt is not what chosen and rejected begin with; drop one of them")
    return prompt + shared


def _all_same(first: Sequence[Message], second: Sequence[Message]) -> bool:
    return len(first) == len(second) and all(_same(a, b) for a, b in zip(first, second, strict=True))


def _same(first: Message, second: Message) -> bool:
    keys = ("role", "content", "tool_calls")
    return all(first.get(key) == second.get(key) for key in keys)


__all__ = ["Conversation", "Pair", "conversation_row", "pair_row", "parse_turns"]
