"""Conversations as token ids: rendering by the chat template, which tokens are trained, a preview for people.

Two rules hold for every example, whatever the template: it ends with exactly one EOS (what a template writes after the
last one, such as ChatML's line break, is cut off; a missing one is added), and that EOS is a label.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from pipeline.errors import InputError

IGNORED = -100
"""Label of a position that isn't trained."""

Messages = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Encoded:
    """One example: `ids` and, of the same length, `labels` (the id itself or IGNORED)."""

    ids: list[int]
    labels: list[int]


def has_generation_markers(template: str | None) -> bool:
    """Whether the template marks the assistant's words with {% generation %}."""
    return template is not None and "endgeneration" in template


def end_once(ids: list[int], eos: int) -> list[int]:
    """`ids` up to its last EOS when only the template's tail follows, else `ids` with an EOS added."""
    for position in range(len(ids) - 1, max(len(ids) - 6, -1), -1):
        if ids[position] == eos:
            return ids[: position + 1]
    return [*ids, eos]


def render(tokenizer: PreTrainedTokenizerBase, messages: Messages, *, generation_prompt: bool = False) -> str:
    """The text that the template makes of a conversation. Raises InputError with the template's own complaint."""
    try:
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=generation_prompt)
    except Exception as error:  # jinja raises many types; each is a template that doesn't fit the rows
        raise InputError(f"chat_template: can't render a conversation: {error}") from None
    return str(text)


def encode(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Messages],
    *,
    assistant_only: bool,
    max_length: int | None = None,
) -> list[Encoded]:
    """Token ids and labels of each conversation, cut after `max_length` tokens.

    With `assistant_only` the labels are those tokens that the template puts between {% generation %} and
    {% endgeneration %}, and the final EOS; otherwise all tokens. Raises InputError when the template has no marks.
    """
    if assistant_only and not has_generation_markers(tokenizer.chat_template):
        raise InputError(
            "trainer.assistant_only_loss: the chat template doesn't mark the assistant's words; put them and the end "
            "of the turn between {% generation %} and {% endgeneration %}"
        )
    try:
        batch = tokenizer.apply_chat_template(
            [list(c) for c in conversations],
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=assistant_only,
        )
    except Exception as error:
        raise InputError(f"chat_template: can't render a conversation: {error}") from None
    masks = batch["assistant_masks"] if assistant_only else [None] * len(conversations)
    return [
        _label(ids, mask, tokenizer.eos_token_id, max_length)
        for ids, mask in zip(batch["input_ids"], masks, strict=True)
    ]


def _label(raw: list[int], mask: list[int] | None, eos: int, max_length: int | None) -> Encoded:
    ids = end_once(list(raw), eos)
    if mask is None:
        labels = list(ids)
    else:
        marked = [*mask[: len(ids)], *[0] * (len(ids) - len(mask))]
        labels = [token if on else IGNORED for token, on in zip(ids, marked, strict=True)]
        if any(mask):
            labels[-1] = ids[-1]
    return Encoded(ids[:max_length], labels[:max_length])


def encode_pair(
    tokenizer: PreTrainedTokenizerBase, prompt: Messages, chosen: Messages, rejected: Messages
) -> tuple[list[int], list[int], list[int]]:
    """Ids of prompt, chosen answer and rejected answer; each answer ends with one EOS.

    The answers begin where their text differs from the prompt's with its generation prompt.
    """
    stem = tokenizer(render(tokenizer, prompt, generation_prompt=True), add_special_tokens=False)["input_ids"]
    answers = []
    for answer in (chosen, rejected):
        text = render(tokenizer, [*prompt, *answer])
        answers.append(end_once(tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id))
    shared = min(_common_prefix(stem, answer) for answer in answers)
    return stem[:shared], answers[0][shared:], answers[1][shared:]


def _common_prefix(first: list[int], second: list[int]) -> int:
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return index
    return min(len(first), len(second))


def preview(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], labels: Sequence[int]) -> str:
    """The example as text with the trained tokens marked: green on a terminal, between ⟦ and ⟧ elsewhere."""
    start, stop = ("\033[32m", "\033[0m") if sys.stderr.isatty() else ("⟦", "⟧")
    pieces: list[str] = []
    index = 0
    while index < len(ids):
        end = index
        trained = labels[index] != IGNORED
        while end < len(ids) and (labels[end] != IGNORED) == trained:
            end += 1
        text = tokenizer.decode(list(ids[index:end]), skip_special_tokens=False)
        pieces.append(f"{start}{text}{stop}" if trained else text)
        index = end
    return "".join(pieces)
