"""Where a turn begins in the conversations that a chat template renders."""

from typing import Any

from pipeline.errors import InputError

PROBE = [("user", "alpha"), ("assistant", "beta"), ("user", "gamma")]


def user_header(tokenizer: Any, where: str) -> list[int]:
    """Ids that open the user's part of a turn: what stands between an answer's end token and the next query, without
    the white space at either end, for that may join with what is beside it.

    Raises InputError where there is no template, or the user's part has no header of its own.
    """
    if not tokenizer.chat_template:
        raise InputError(f"{where}: the tokenizer has no chat template; nothing says where a turn begins")
    try:
        text = tokenizer.apply_chat_template([{"role": r, "content": c} for r, c in PROBE], tokenize=False)
    except Exception as error:  # templates raise what they like
        raise InputError(f"{where}: its chat template fails on a plain conversation: {error}") from None
    between = text[text.index("beta") + len("beta") : text.index("gamma")]
    ids = tokenizer(between, add_special_tokens=False)["input_ids"]
    ends = {tokenizer.eos_token_id, *(i for i in ids if tokenizer.decode([i]) == tokenizer.eos_token)}
    last = max((place for place, token in enumerate(ids) if token in ends), default=-1)
    header = ids[last + 1 :]
    while header and not tokenizer.decode(header[:1]).strip():
        header = header[1:]
    while header and not tokenizer.decode(header[-1:]).strip():
        header = header[:-1]
    if last < 0 or not header:
        raise InputError(
            f"{where}: its chat template has no end token with a user header behind it (between an answer and the next "
            f"query it writes {between!r}); give the tokenizer a template with both"
        )
    return header
