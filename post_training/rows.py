"""What a row says: a conversation of which some turns are trained, or a preference between two answers.

Messages are read by the one parser of all rooms (`data/sources/messages.py`). A row that says something else, such as a
prompt that its answers don't continue, is a BadRow; what happens then is the recipe's choice (`dataset.bad_rows`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from data.sources.messages import THOUGHTS, Message, MessageOptions, conversation_of
from data.sources.pairs.rows import Pair, beside, parse_turns, system_message

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


def conversations_of(pair: Pair) -> tuple[Conversation, Conversation]:
    """The two whole conversations of a pair; the prompt's turns are context."""
    chosen, rejected = (
        Conversation([*pair.prompt, *answer], len(pair.prompt), pair.tools, pair.template_kwargs)
        for answer in (pair.chosen, pair.rejected)
    )
    return chosen, rejected


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
    system = system_message(row, messages, where)
    messages = system + messages
    untrained += len(system) if untrained else 0
    if last_turn:
        untrained = len(messages) - 1
    if drop_old_thoughts:
        messages = [*(_without_thought(m) for m in messages[:-1]), messages[-1]]
    return Conversation(messages, untrained, *beside(row, where))


def _without_thought(message: Message) -> Message:
    if message["role"] != "assistant":
        return message
    kept = {k: v for k, v in message.items() if k not in THOUGHTS}
    return {**kept, "content": _THOUGHT.sub("", message["content"])}


__all__ = ["Conversation", "conversation_row", "conversations_of"]
