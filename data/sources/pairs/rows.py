"""Two answers to one prompt, of which one is preferred: the rows of preference data, read by all rooms alike.

The formats are TRL's: whole conversations `chosen` and `rejected` that share their beginning (the prompt is implicit),
a `prompt` of messages or of plain text with answers or conversations beside it, texts or messages. A row that says
something else is a BadRow.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from data.sources.messages import BadRow, Message, MessageOptions, parse_messages, parse_tools

_DEFAULT = MessageOptions()


@dataclass(frozen=True)
class Pair:
    """A prompt and two ways to go on from it, with what the template is given beside them."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    tools: list[Any] | None = None
    template_kwargs: dict[str, Any] = field(default_factory=dict)


def parse_turns(value: Any, where: str, column: str, options: MessageOptions, role: str = "user") -> list[Message]:
    """Messages from a column: a list of them, or a text, which is one turn of `role`. Raises BadRow."""
    if isinstance(value, str) and not value.lstrip().startswith("[{"):
        value = [{"role": role, "content": value}]
        options = replace(options, conversations="messages")
    return parse_messages(value, where, options, column=column)


def system_message(row: Mapping[str, Any], messages: Sequence[Message], where: str) -> list[Message]:
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


def beside(row: Mapping[str, Any], where: str) -> tuple[list[Any] | None, dict[str, Any]]:
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
    stem = system_message(row, stem or chosen, where) + stem
    if not stem:
        raise BadRow("no prompt", f"{where}: there is no prompt, and chosen and rejected share no beginning")
    return Pair(stem, chosen[shared:], rejected[shared:], *beside(row, where))


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


__all__ = ["Pair", "beside", "pair_row", "parse_turns", "system_message"]
