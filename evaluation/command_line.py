"""Numbers and --think on the command lines of this room; a wrong one is refused by argparse, which names the option."""

import math
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable


def at_least(least: int) -> Callable[[str], int]:
    """An argparse type: a whole number of `least` or more."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is no whole number") from None
        if number < least:
            raise ArgumentTypeError(f"{number} is too small; give {least} or more")
        return number

    return read


def add_thinking(parser: ArgumentParser) -> None:
    """Options --think and --max-think-tokens."""
    parser.add_argument(
        "--think", choices=["never", "auto", "always"], default="never",
        help="answer at once, think where the model finds that likelier than answering, or always think first",
    )  # fmt: skip
    parser.add_argument("--max-think-tokens", type=at_least(1), default=32, help="longest thought; then [A] closes it")


def temperature(text: str) -> float:
    """An argparse type: a finite number of 0 (greedy) or more."""
    try:
        number = float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no number") from None
    if not (math.isfinite(number) and number >= 0):
        raise ArgumentTypeError(f"{text} is no temperature; give 0 (greedy) or more")
    return number
