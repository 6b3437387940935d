"""Chat templates: read from the YAML or a file, and tried out on a conversation before any row is rendered.

A template that is a name or a path, that forgets the content or the role of a turn, or that writes nothing of a system
message trains something else than the rows say, and no loss curve shows it. So a conversation of marker words is
rendered first, and every marker has to come out, in order, with the speakers told apart.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from data.sources.messages import Message
from pipeline.errors import InputError, shown

logger = logging.getLogger(__name__)
_TOOL = {
    "type": "function",
    "function": {
        "name": "probetoolname",
        "description": "d",
        "parameters": {"type": "object", "properties": {"x": {"type": "string", "description": "d"}}},
    },
}
_CALL = {"type": "function", "function": {"name": "probecallname", "arguments": {"x": "probeargument"}}}


def read_template(given: str | None) -> str | None:
    """The Jinja text that the key `chat_template` means: itself, or the content of the file that it names.

    Text with a brace is Jinja, anything else a path. Raises InputError.
    """
    if given is None or "{" in given:
        return given
    path = Path(given.strip()).expanduser()
    if not path.is_file():
        raise InputError(f"chat_template: {shown(given)} is neither a template nor a file; write Jinja, or its path")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"chat_template: {path} can't be read as text: {error}") from None
    if "{" not in text:
        raise InputError(f"chat_template: {path} holds no Jinja; a template writes messages with {{{{ … }}}}")
    return text


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    generation_prompt: bool = False,
    tools: list[Any] | None = None,
    template_kwargs: dict[str, Any] | None = None,
) -> str:
    """The text that the template makes of a conversation. Raises InputError with the template's own complaint."""
    try:
        text = tokenizer.apply_chat_template(
            list(messages),
            tools=tools,
            tokenize=False,
            add_generation_prompt=generation_prompt,
            **(template_kwargs or {}),
        )
    except Exception as error:  # jinja raises many types; each is a template that doesn't fit the rows
        raise InputError(f"chat_template: can't render a conversation: {error}") from None
    return str(text)


def has_generation_markers(template: str | None) -> bool:
    """Whether the template marks the assistant's words with {% generation %}."""
    return template is not None and "endgeneration" in template


class CheckedTemplate:
    """A tokenizer's template after the trial of two exchanges; further features are tried when rows first need them.

    writes_eos: whether the template itself ends the last turn with the EOS token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises InputError where the template doesn't show role and content of every turn."""
        self.tokenizer = tokenizer
        self.marked = has_generation_markers(str(tokenizer.chat_template))
        self._tried: set[str] = set()
        pieces = self._pieces(_turns("user", "assistant", "user", "assistant"))
        if pieces[1] == pieces[2]:
            raise InputError(
                "chat_template: it writes the turns of user and assistant alike, so nothing tells who speaks; write "
                "message['role'] or a mark of its own for each"
            )
        self.writes_eos = str(tokenizer.eos_token) in pieces[-1]
        opened = render(tokenizer, _turns("user"), generation_prompt=True)
        if not render(tokenizer, _turns("user", "assistant")).startswith(opened):
            logger.warning(
                "chat_template: with add_generation_prompt the text before an answer is another than in training; the "
                "model will be asked in a form that it wasn't trained on"
            )

    def require(self, features: Iterable[str]) -> None:
        """Try what rows have beyond user and assistant: roles by name, `tool_calls`, `tools`. Raises InputError."""
        for feature in features:
            if feature in self._tried or feature in ("user", "assistant"):
                continue
            match feature:
                case "tool_calls":
                    calling = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
                    text = render(self.tokenizer, [*_turns("user"), calling])
                    self._require_text(text, ("probecallname", "probeargument"), "an assistant's tool_calls")
                case "tools":
                    text = render(self.tokenizer, _turns("user", "assistant"), tools=[_TOOL])
                    self._require_text(text, ("probetoolname",), "the column tools")
                case "tool":
                    self._pieces(_turns("user", "assistant", "tool", "assistant"))
                case role:
                    self._pieces(_turns(role, "user", "assistant"))
            self._tried.add(feature)

    def _pieces(self, messages: Sequence[Message]) -> list[str]:
        """The text before, between and after the marker words of a trial."""
        rest, pieces = render(self.tokenizer, messages), []
        for message in messages:
            before, found, rest = rest.partition(message["content"])
            if not found:
                raise InputError(
                    f"chat_template: it doesn't write the content of {message['role']} messages where they stand; "
                    "put message['content'] into it, or give another template"
                )
            pieces.append(before)
        return [*pieces, rest]

    def _require_text(self, text: str, words: Sequence[str], what: str) -> None:
        if not all(word in text for word in words):
            raise InputError(
                f"chat_template: it writes nothing of {what}, which the rows have; use a template for tools, or drop "
                "the column from the rows"
            )


def _turns(*roles: str) -> list[Message]:
    return [{"role": role, "content": f"probe{'abcdefgh'[n]}word"} for n, role in enumerate(roles)]


__all__ = ["CheckedTemplate", "Message", "has_generation_markers", "read_template", "render"]
