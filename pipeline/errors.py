"""What a person can mend: raised with one clear line, shown as that line with exit status 2."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.redaction import redact_text

LONGEST_MESSAGE = 480
LONGEST_VALUE = 80


class InputError(Exception):
    """Bad input. The message names what is wrong, where (file, key) and the remedy.

    It is always one line of bounded length and holds no secret: line breaks and control characters that came in with a
    key, a value or a library's text become blanks, and the middle of a long text goes.
    """

    def __init__(self, message: str) -> None:
        text = str(message)
        if len(text) > 20 * LONGEST_MESSAGE:
            text = shortened(text, 20 * LONGEST_MESSAGE)
        printable = "".join(c if c.isprintable() or c == " " else " " for c in " ".join(text.splitlines()))
        super().__init__(shortened(redact_text(printable), LONGEST_MESSAGE))


class SettingError(ValueError):
    """A value that a configuration class refuses in `__post_init__`, with the key that it is about.

    key: dotted, relative to the section that raises it, such as `held_out.rows`. The loader turns it into an InputError
    with the file and the line of that key. Use a plain ValueError where no single key is to blame.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def shortened(text: str, length: int) -> str:
    """`text`, its middle left out where it has more than `length` characters."""
    if len(text) <= length:
        return text
    tail = length // 3
    return f"{text[: length - tail - 3]} … {text[-tail:]}"


def shown(value: Any) -> str:
    """A value as it stands in a message: at most about 80 characters."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return "a number of more than 77 digits"
    if isinstance(value, str | bytes):
        value = value if len(value) <= 4 * LONGEST_VALUE else value[: 2 * LONGEST_VALUE] + value[-2 * LONGEST_VALUE :]
    return shortened(repr(value), LONGEST_VALUE)


def expectation(message: str) -> str:
    """What pydantic says a value should be, as it stands after "should be"."""
    text = message.removeprefix("Input should be ")
    for theirs, ours in (("greater than or equal to", "at least"), ("less than or equal to", "at most"),
                         ("greater than", "above"), ("less than", "below")):  # fmt: skip
        text = text.replace(theirs, ours)
    return shortened(text, 160)


def nearest(name: str, valid: Sequence[str] | Mapping[str, Any]) -> str:
    """A remedy for a misspelt name: `; did you mean X?`, or the list of what is valid when nothing is near."""
    names = list(valid)
    close = difflib.get_close_matches(name[:100], names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    listed = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"; valid here: {shortened(listed, 200)}" if names else ""
