"""The markers of a tokenizer's turns: the single tokens of this project, or the role headers of its chat template."""

from typing import TYPE_CHECKING, Any

from pipeline.errors import InputError

if TYPE_CHECKING:  # the package of the model takes seconds to import
    from mrl.model import TurnFrame

PROBE = [("user", "alpha"), ("assistant", "beta"), ("user", "gamma")]
THOUGHT = ("<think>\n", "\n</think>\n")
"""What stands around a thought in a chat template's answers, as trlm's data writes it."""


def frame_of(tokenizer: Any, where: str) -> "TurnFrame":
    """The markers of a tokenizer. Raises InputError where they are incomplete."""
    from mrl.model import TurnFrame

    vocabulary = tokenizer.get_vocab()
    if "[Q]" not in vocabulary and getattr(tokenizer, "chat_template", None):
        return template_frame(tokenizer, where)
    names = {"pad": "[PAD]", "bos": "[BOS]", "eos": "[EOS]", "mask": "[MASK]"}
    names = {k: getattr(tokenizer, f"{k}_token", None) or v for k, v in names.items()}
    names |= {"query": "[Q]", "answer": "[A]", "think": "[T]"}
    missing = [name for name in names.values() if name not in vocabulary]
    if missing:
        raise InputError(
            f"{where}: the tokenizer has no {', '.join(missing)}; train one with data/tokenizer.py or add them as "
            "special tokens"
        )
    return TurnFrame.single(**{key: vocabulary[name] for key, name in names.items()})


def template_frame(tokenizer: Any, where: str) -> "TurnFrame":
    """The markers that a chat template writes between the contents of user and assistant.

    A turn is known by its header: the opening of the user's part without the white space at either end, for that may
    join with what is beside it. Raises InputError where there is no template, no end token, or a part has no header.
    """
    from mrl.model import TurnFrame

    if not tokenizer.chat_template:
        raise InputError(f"{where}: the tokenizer has no chat template; nothing says where a turn begins")
    if tokenizer.eos_token_id is None:
        raise InputError(f"{where}: the tokenizer has no end token; set eos_token")
    try:
        text = tokenizer.apply_chat_template([{"role": r, "content": c} for r, c in PROBE], tokenize=False)
    except Exception as error:  # templates raise what they like
        raise InputError(f"{where}: its chat template fails on a plain conversation: {error}") from None

    def tokens(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    parts = [text.index(content) for _, content in PROBE]
    answer, between = (text[a + len(c) : b] for a, (_, c), b in zip(parts, PROBE, parts[1:], strict=False))
    ids = tokens(between)
    last = max((place for place, token in enumerate(ids) if token == tokenizer.eos_token_id), default=-1)
    opening = _stripped(ids[last + 1 :], tokenizer, front=True)
    header = _stripped(opening, tokenizer, front=False)
    if last < 0 or not header or not answer.strip():
        raise InputError(
            f"{where}: its chat template has no end token with a user header behind it (between an answer and the next "
            f"query it writes {between!r}, between a query and its answer {answer!r}); give the tokenizer a template "
            "with both"
        )
    before, after = map(tokens, THOUGHT)
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return TurnFrame(
        pad=pad, header=header, opening=opening, answer=tokens(answer), think=(*tokens(answer), *before),
        think_end=after, end=ids[: last + 1],
    )  # fmt: skip


def _stripped(ids: tuple[int, ...], tokenizer: Any, *, front: bool) -> tuple[int, ...]:
    """Without the tokens of white space in front, or behind."""
    while ids and not tokenizer.decode(ids[:1] if front else ids[-1:]).strip():
        ids = ids[1:] if front else ids[:-1]
    return ids
