"""One parser of conversations for all rooms: whatever shape they come in, out come checked messages or a refusal.

A message is `{role, content}` with texts, and further keys that a template may want (`tool_calls`, `name`, …). What is
converted, and by which option:

- `content` as a list of text parts is joined; null becomes "" where there are tool calls; null keys are left out;
- ShareGPT (`{from, value}`) with `conversations: sharegpt`; other roles with `roles: {developer: system}`;
- neighbours of one role become one message, their contents on lines of their own (results of tools stay apart);
- a thought goes to the key `think` with `think: split`, whether it came in `<think>` marks or in another key;
- a last turn of the user is left off with `last_turn: cut`.

Anything else is refused with its place, or dropped and counted (`bad_rows: drop`).
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.errors import InputError

ROLES = ("system", "user", "assistant", "tool")
SHAREGPT_ROLES = {
    "system": "system", "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant",
    "assistant": "assistant", "model": "assistant", "tool": "tool", "observation": "tool", "function_response": "tool",
}  # fmt: skip
THOUGHTS = ("think", "reasoning_content", "thinking")
"""Keys in which other formats keep a thought."""
OPENS, CLOSES = "<think>", "</think>"
Message = dict[str, Any]


class BadRow(InputError):
    """A row that isn't a usable conversation. `reason` is a short name of what is wrong, for counts."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        """Picklable, so that a process of a pool can raise it."""
        return type(self), (self.reason, str(self))


@dataclass(kw_only=True)
class MessageOptions:
    """How a section that reads conversations wants them."""

    conversations: Literal["messages", "sharegpt"] = "messages"
    """sharegpt: the column `conversations` (or `messages`) holds `{from, value}`."""
    roles: dict[str, str] = field(default_factory=dict)
    """Other names of roles and what they stand for, such as `developer: system`."""
    think: Literal["keep", "split"] = "keep"
    """split: thoughts go to the key `think`. keep: contents and keys stay as they are."""
    last_turn: Literal["refuse", "cut", "keep"] = "refuse"
    """Of a conversation whose last turn isn't the assistant's: keep is for prompts."""

    def __post_init__(self) -> None:
        """Refuse roles that nothing knows."""
        if wrong := next((role for role in self.roles.values() if role not in ROLES), None):
            raise ValueError(f"roles: {wrong!r} is not one of {', '.join(ROLES)}")


@dataclass
class BadRows:
    """What happens to rows that are no usable conversations, and how many there were of each kind."""

    policy: Literal["refuse", "drop"] = "refuse"
    counts: Counter[str] = field(default_factory=Counter)

    def attempt[R](self, parse: Callable[[], R]) -> R | None:
        """The result of `parse`; None where it raised BadRow and rows are dropped."""
        try:
            return parse()
        except BadRow as error:
            if self.policy == "refuse":
                raise
            self.counts[error.reason] += 1
            return None


_DEFAULT = MessageOptions()


def conversation_of(row: Mapping[str, Any], where: str, options: MessageOptions = _DEFAULT) -> list[Message]:
    """The conversation in a row's column `messages` (or `conversations`), parsed. Raises BadRow.

    where: `file:row`, for messages.
    """
    names = ("conversations", "messages") if options.conversations == "sharegpt" else ("messages",)
    name = next((n for n in names if row.get(n) is not None), None)
    if name is None:
        other = " (it has conversations: is it ShareGPT? set conversations: sharegpt)" if "conversations" in row else ""
        raise BadRow("no messages", f"{where}: has no {' or '.join(names)}{other}; give it a conversation or drop it")
    return parse_messages(row[name], where, options, column=name)


def parse_messages(
    value: Any, where: str, options: MessageOptions = _DEFAULT, *, column: str = "messages"
) -> list[Message]:
    """A conversation as checked messages, never empty, neighbours of one role joined. Raises BadRow with `where`.

    value: what stands in the column; it isn't changed. The roles are system, user, assistant and tool; `content` is
    always a text.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        shown = "a text (JSON in quotes?)" if isinstance(value, str) else type(value).__name__
        raise BadRow("no list", f"{where}: {column} is {shown}; give a list of messages with role and content")
    if not value:
        raise BadRow("empty", f"{where}: {column} is empty; give it messages or drop the row")
    parsed = [_message(item, f"{where}: {column}[{i}]", options) for i, item in enumerate(value)]
    joined = _joined(parsed)
    if options.think == "split":
        joined = [_split_thought(message, where) for message in joined]
    joined = _end(joined, where, options)
    _check_order(joined, where)
    return joined


def parse_tools(value: Any, where: str) -> list[dict[str, Any]] | None:
    """The column `tools` as a list of descriptions: given so, or as JSON text; None where there are none."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise BadRow("bad tools", f"{where}: tools is a text that isn't JSON; give a list of tools") from None
    if value is None or value == []:
        return None
    if not isinstance(value, list) or not all(isinstance(tool, Mapping) and tool for tool in value):
        raise BadRow("bad tools", f"{where}: tools is no list of objects; give one description a tool")
    return [dict(tool) for tool in value]


def _message(item: Any, place: str, options: MessageOptions) -> Message:
    if not isinstance(item, Mapping):
        raise BadRow("no object", f"{place} is no object ({str(item)[:40]}); give role and content")
    item = {key: value for key, value in item.items() if value is not None}
    if options.conversations == "sharegpt":
        role, content, rest = item.pop("from", None), item.pop("value", None), item
        if role is None and "role" in item:
            raise BadRow("shape", f"{place} has role and content; leave out conversations: sharegpt")
        known = {**SHAREGPT_ROLES, **options.roles}
    else:
        if "role" not in item and "from" in item:
            raise BadRow("shape", f"{place} has from and value; set conversations: sharegpt")
        role, content, rest = item.pop("role", None), item.pop("content", None), item
        known = {**{name: name for name in ROLES}, **options.roles}
    if not isinstance(role, str) or role not in known:
        remedy = f"use {', '.join(ROLES)}, or say with roles what it stands for"
        raise BadRow("role", f"{place}: the role {role!r} is unknown; {remedy}")
    message = {"role": known[role], "content": _content(content, place), **rest}
    _check_calls(message, place)
    thought = any(str(message.get(key) or "").strip() for key in THOUGHTS)
    empty = not message["content"].strip() and not message.get("tool_calls") and not thought
    if empty and message["role"] in ("user", "assistant"):
        shown = "is null" if content is None else "is empty"
        raise BadRow("no content", f"{place}: content of the {message['role']} {shown}; give it words or drop the row")
    return message


def _content(value: Any, place: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        texts = []
        for part in value:
            text = part if isinstance(part, str) else part.get("text") if isinstance(part, Mapping) else None
            kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
            if not isinstance(text, str) or kind != "text":
                raise BadRow("parts", f"{place}: content has a part of type {str(kind)[:40]!r}; only text is read")
            texts.append(text)
        return "".join(texts)
    shown = f"a {type(value).__name__} ({str(value)[:40]})"
    raise BadRow("content", f"{place}: content is {shown}; give a text or a list of text parts")


def _check_calls(message: Message, place: str) -> None:
    calls = message.get("tool_calls")
    if calls is None:
        return
    if not calls:
        del message["tool_calls"]
        return
    if message["role"] != "assistant":
        raise BadRow("tool calls", f"{place}: tool_calls of the role {message['role']}; only the assistant calls tools")
    for call in calls if isinstance(calls, list) else [None]:
        called = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(called, Mapping) or not isinstance(called.get("name"), str):
            raise BadRow("tool calls", f"{place}: tool_calls is no list of calls with a function's name and arguments")


def _joined(messages: Sequence[Message]) -> list[Message]:
    """Neighbours of one role as one message: contents and thoughts on lines of their own, tool calls in a row."""
    made: list[Message] = []
    for message in messages:
        last = made[-1] if made else None
        if last is None or last["role"] != message["role"] or message["role"] == "tool" or _differ(last, message):
            made.append(message)
            continue
        texts = {key: [m[key] for m in (last, message) if m.get(key)] for key in ("content", *THOUGHTS)}
        calls = [*last.get("tool_calls", ()), *message.get("tool_calls", ())]
        made[-1] = {**last, **{key: "\n".join(parts) for key, parts in texts.items() if parts or key == "content"}}
        if calls:
            made[-1]["tool_calls"] = calls
    return made


def _differ(one: Message, other: Message) -> bool:
    """Whether two messages say different things of themselves, such as the name of who speaks."""
    merged = {"content", "tool_calls", *THOUGHTS}
    return {k: v for k, v in one.items() if k not in merged} != {k: v for k, v in other.items() if k not in merged}


def _split_thought(message: Message, where: str) -> Message:
    """The message with its thought in the key `think`, left out where there is none."""
    rest = {key: value for key, value in message.items() if key not in THOUGHTS}
    think = next((str(message[key]).strip() for key in THOUGHTS if message.get(key)), "")
    content = message["content"].strip()
    if message["role"] == "assistant" and content.startswith(OPENS):
        if CLOSES not in content:
            raise BadRow("thought", f"{where}: an answer opens {OPENS} and never closes it; close it or drop the row")
        inner, _, content = content.removeprefix(OPENS).partition(CLOSES)
        think = "\n".join(part for part in (think, inner.strip()) if part)
    return {**rest, "content": content.strip(), **({"think": think} if think else {})}


def _end(messages: list[Message], where: str, options: MessageOptions) -> list[Message]:
    if options.last_turn == "keep":
        return messages
    last = max((i for i, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    if last < 0:
        raise BadRow("no answer", f"{where}: no message is the assistant's; give it an answer or drop the row")
    if last + 1 < len(messages) and options.last_turn == "refuse":
        role = messages[-1]["role"]
        raise BadRow(
            "last turn",
            f"{where}: the last turn is the {role}'s and nothing answers it; set last_turn: cut, or drop it",
        )
    return messages[: last + 1]


def _check_order(messages: Sequence[Message], where: str) -> None:
    for before, message in zip([None, *messages], messages, strict=False):
        if message["role"] == "tool" and (before is None or before["role"] not in ("assistant", "tool")):
            raise BadRow("tool order", f"{where}: a result of a tool follows no call of the assistant; give the call")


__all__ = ["BadRow", "BadRows", "Message", "MessageOptions", "conversation_of", "parse_messages", "parse_tools"]
