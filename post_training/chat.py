"""Conversations as token ids: rendering by the chat template, which tokens are trained, a preview for people.

Two rules hold for every example, whatever the template: it ends with exactly one EOS (what a template writes after the
last one, such as ChatML's line break, is cut off; a missing one is added), and that EOS is a label.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from data.sources.messages import BadRow
from data.sources.pairs.rows import Pair
from pipeline.errors import InputError
from post_training.chat_template import CheckedTemplate, render
from post_training.rows import Conversation, conversations_of

IGNORED = -100
"""Label of a position that isn't trained."""


@dataclass(frozen=True)
class Encoded:
    """One example: `ids` and, of the same length, `labels` (the id itself or IGNORED).

    answer: of the same length, which tokens are the assistant's; None where the template doesn't mark them.
    """

    ids: list[int]
    labels: list[int]
    answer: list[bool] | None = None


@dataclass(frozen=True)
class EncodedPair:
    """A preference: ids of the prompt and of both answers, and which tokens of the answers are scored."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    chosen_scored: list[bool]
    rejected_scored: list[bool]


class ChatEncoder:
    """Conversations as token ids, under one tokenizer and its template."""

    def __init__(self, tokenizer: Any) -> None:
        """Raises InputError where the template doesn't show every turn (`CheckedTemplate`)."""
        self.tokenizer = tokenizer
        self.template = CheckedTemplate(tokenizer)
        self.eos: int = tokenizer.eos_token_id

    def require_markers(self) -> None:
        """Raise InputError where the template doesn't mark the assistant's words."""
        if not self.template.marked:
            raise InputError(
                "trainer.assistant_only_loss: the chat template doesn't mark the assistant's words; put them and the "
                "end of the turn between {% generation %} and {% endgeneration %}"
            )

    def encode(self, conversations: Sequence[Conversation], assistant_only: bool) -> list[Encoded]:
        """Ids and labels of each conversation, not cut.

        Labels are the tokens after the context (`Conversation.untrained`), with `assistant_only` those of them that
        the template puts between {% generation %} and {% endgeneration %}, and the final EOS. Raises InputError.
        """
        if assistant_only:
            self.require_markers()
        encoded = []
        for conversation, (raw, mask) in zip(conversations, self._render_ids(conversations), strict=True):
            ids = self._end_once(raw)
            answer = self._answer(ids, mask)
            start = _common_prefix(self._context(conversation), ids)
            if answer is None and conversation.untrained:
                answer = [n >= start for n in range(len(ids))]
            trained = answer if assistant_only and answer is not None else [True] * len(ids)
            labels = [token if trained[n] and n >= start else IGNORED for n, token in enumerate(ids)]
            encoded.append(Encoded(ids, labels, answer))
        return encoded

    def encode_text(self, texts: Sequence[str]) -> list[Encoded]:
        """Ids of plain texts without a template, each with one EOS; every token is a label."""
        encoded = []
        for ids in self.tokenizer(list(texts))["input_ids"]:
            ended = ids if ids and ids[-1] == self.eos else [*ids, self.eos]
            encoded.append(Encoded(ended, list(ended)))
        return encoded

    def encode_pair(self, pair: Pair, where: str = "row") -> EncodedPair:
        """Ids of prompt, chosen and rejected answer; each answer ends with one EOS and only the assistant is scored.

        The answers begin where their text differs from the prompt's with its generation prompt. Raises BadRow for
        answers with turns by others where the template doesn't tell which tokens are whose.
        """
        conversations = conversations_of(pair)
        rendered = self._render_ids(conversations)
        whole = [self._end_once(raw) for raw, _ in rendered]
        stem = self._context(conversations[0])
        shared = min(_common_prefix(stem, ids) for ids in whole)
        scored = []
        for conversation, ids, (_, mask) in zip(conversations, whole, rendered, strict=True):
            if len(conversation.messages) == conversation.untrained + 1:
                scored.append([True] * (len(ids) - shared))
                continue
            answer = self._answer(ids, mask)
            if answer is None:
                raise BadRow(
                    "unmarked",
                    f"{where}: chosen and rejected differ before their last answer, and the chat template doesn't mark "
                    "which tokens are the assistant's; put {% generation %} into it, or let pairs share those turns",
                )
            scored.append(answer[shared:])
        return EncodedPair(whole[0][:shared], whole[0][shared:], whole[1][shared:], *scored)

    def _render_ids(self, conversations: Sequence[Conversation]) -> list[tuple[list[int], list[int] | None]]:
        """Ids of each conversation as the template writes it, with the mask of the assistant's tokens where marked."""
        for conversation in conversations:
            self.template.require(conversation.features)
        if any(c.tools or c.template_kwargs for c in conversations):
            return [self._apply([c], c.tools, c.template_kwargs)[0] for c in conversations]
        return self._apply(conversations, None, {})

    def _apply(
        self, conversations: Sequence[Conversation], tools: list[Any] | None, kwargs: dict[str, Any]
    ) -> list[tuple[list[int], list[int] | None]]:
        try:
            batch = self.tokenizer.apply_chat_template(
                [list(c.messages) for c in conversations],
                tools=tools,
                tokenize=True,
                return_dict=True,
                return_assistant_tokens_mask=self.template.marked,
                **kwargs,
            )
        except Exception as error:  # jinja raises many types; each is a template that doesn't fit the rows
            raise InputError(f"chat_template: can't render a conversation: {error}") from None
        masks = batch["assistant_masks"] if self.template.marked else [None] * len(conversations)
        return list(zip(batch["input_ids"], masks, strict=True))

    def _end_once(self, ids: list[int]) -> list[int]:
        """`ids` up to the template's last EOS, or with one added where the template ends no conversation with it."""
        if not self.template.writes_eos:
            return [*ids, self.eos]
        for position in range(len(ids) - 1, -1, -1):
            if ids[position] == self.eos:
                return ids[: position + 1]
        return [*ids, self.eos]

    def _answer(self, ids: list[int], mask: list[int] | None) -> list[bool] | None:
        if mask is None:
            return None
        marked = [bool(on) for on in mask[: len(ids)]] + [False] * (len(ids) - len(mask))
        if any(marked):
            marked[-1] = True
        return marked

    def _context(self, conversation: Conversation) -> list[int]:
        """Ids of the turns that only lead up to the answer, generation prompt included."""
        if not conversation.untrained:
            return []
        stem = render(
            self.tokenizer,
            conversation.messages[: conversation.untrained],
            generation_prompt=conversation.messages[conversation.untrained]["role"] == "assistant",
            tools=conversation.tools,
            template_kwargs=conversation.template_kwargs,
        )
        return self.tokenizer(stem, add_special_tokens=False)["input_ids"]


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
        text = str(tokenizer.decode(list(ids[index:end]), skip_special_tokens=False))
        pieces.append(f"{start}{text}{stop}" if trained else text)
        index = end
    return "".join(pieces)


__all__ = ["IGNORED", "ChatEncoder", "Encoded", "EncodedPair", "preview"]
