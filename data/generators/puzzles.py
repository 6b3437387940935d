"""Seeded multi-step puzzles: chains of small sums, variables, who is where. Each has a question, steps and an answer.

A model of a million parameters can take each step (find the next change, apply it to what it has) and can't take five
at once: the answers spread over eight possibilities and more. `key` is a puzzle's content without its wording; the
split is a hash of it, so that no held-out puzzle is a trained one in other words.
"""

import operator
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

NAMES = "Ann Bob Cid Dan Eve Fay Gus Hal Ivy Jim Kim Leo".split(" ")
LETTERS = "abcdkmxy"
PLACES = "kitchen garden school station market library park office".split(" ")
"""In the order in which one walks round them."""
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
TOP = 20
"""The largest number in a puzzle."""
HELD_OUT_PERCENT = 10


@dataclass(frozen=True)
class Puzzle:
    """A question that takes several steps. `steps` lead to `answer`; `slipped` are the steps with one mistake made on
    the way and carried to the end, `slipped_answer` what comes out then."""

    task: str
    key: str
    question: str
    steps: tuple[str, ...]
    answer: str
    slipped: tuple[str, ...]
    slipped_answer: str


def in_split(key: str, split: str) -> bool:
    """Whether content belongs to `split`: `train` has 90 per cent of all content, every other split the rest."""
    held_out = zlib.crc32(key.encode()) % 100 < HELD_OUT_PERCENT
    return held_out == (split != "train")


def _slip(rng: random.Random, value: int) -> int:
    """A number beside `value`."""
    return value + rng.choice((-2, -1, 1, 2)) if value > 1 else value + 1


def _changes(rng: random.Random, start: int, count: int) -> list[int]:
    """`count` changes by 1 to 6 up or down that keep the total within 0 and `TOP`."""
    total, changes = start, []
    for _ in range(count):
        size = rng.randint(1, 6)
        up = total < size or (total + size <= TOP and rng.random() < 0.5)
        changes.append(size if up else -size)
        total += changes[-1]
    return changes


def _signed(change: int) -> str:
    return f"{'+' if change >= 0 else '-'}{abs(change)}"


def _sum_steps(start: int, changes: Sequence[int], slip_at: int | None, slip: int) -> tuple[list[str], int]:
    total, steps = start, []
    for index, change in enumerate(changes):
        result = slip if index == slip_at else total + change
        steps.append(f"{ORDINALS[index]} {total}{_signed(change)}={result}")
        total = result
    return steps, total


def sums(rng: random.Random) -> Puzzle:
    """Four to six small numbers added to or taken from another, one after the other."""
    start = rng.randint(0, TOP)
    changes = _changes(rng, start, rng.randint(4, 6))
    steps, answer = _sum_steps(start, changes, None, 0)
    slip_at = rng.randrange(len(changes))
    slip = _slip(rng, start + sum(changes[: slip_at + 1]))
    slipped, wrong = _sum_steps(start, changes, slip_at, slip)
    told = ", ".join(
        f"{ORDINALS[i]} {'add' if change > 0 else 'take'} {abs(change)}" for i, change in enumerate(changes)
    )
    return Puzzle(
        task="sums",
        key=f"sums {start} {changes}",
        question=f"Start with {start}, {told}. What is left?",
        steps=tuple(steps),
        answer=str(answer),
        slipped=tuple(slipped),
        slipped_answer=str(wrong),
    )


def _links[Value](
    names: Sequence[str],
    start: Value,
    changes: Sequence[int],
    apply: Callable[[Value, int], Value],
    written: Callable[[Value, int, Value], str],
    slip: tuple[int, Value] | None = None,
) -> tuple[tuple[str, ...], list[Value]]:
    """A step for each name, which takes the value of the one before it through a change; and all values in order.

    `slip`: the change with that index gives that value.
    """
    values, steps = [start], [f"{names[0]} {start}"]
    for index, (name, change) in enumerate(zip(names[1:], changes, strict=True)):
        result = slip[1] if slip and slip[0] == index else apply(values[-1], change)
        steps.append(f"{name} {written(values[-1], change, result)}")
        values.append(result)
    return tuple(steps), values


def variables(rng: random.Random) -> Puzzle:
    """Four to six variables, each the one before plus or minus a small number; the last one is asked for."""
    names = rng.sample(LETTERS, rng.randint(4, 6))
    start = rng.randint(0, TOP)
    changes = _changes(rng, start, len(names) - 1)

    def written(value: int, change: int, result: int) -> str:
        return f"{value}{_signed(change)}={result}"

    steps, values = _links(names, start, changes, operator.add, written)
    slip_at = rng.randrange(len(changes))
    slip = (slip_at, _slip(rng, values[slip_at + 1]))
    slipped, wrong = _links(names, start, changes, operator.add, written, slip)
    told = [f"{names[i + 1]} is {names[i]}{_signed(change)}" for i, change in enumerate(changes)]
    return Puzzle(
        task="variables",
        key=f"variables {start} {changes}",
        question=f"{names[0]} is {start}, {', '.join(told)}. What is {names[-1]}?",
        steps=steps,
        answer=str(values[-1]),
        slipped=slipped,
        slipped_answer=str(wrong[-1]),
    )


def moved(place: str, count: int) -> str:
    """The place `count` places on (or back, where negative)."""
    return PLACES[(PLACES.index(place) + count) % len(PLACES)]


def walk(count: int) -> str:
    """`on 2` or `back 3`."""
    return f"{'on' if count > 0 else 'back'} {abs(count)}"


def walked(place: str, count: int, end: str) -> str:
    """A walk from a place, one place at a time with how many are left: `park back 3 library 2 market 1 station`.

    Where one gets to in one step a small model learns within minutes. Where three steps lead it learnt in some runs and
    in others never: 48 results that follow neither from the place nor from the number alone.
    """
    step = 1 if count > 0 else -1
    first, *later = [*(moved(place, step * i) for i in range(1, abs(count))), end]
    left = range(abs(count) - 1, 0, -1)
    return " ".join([place, walk(count), first, *(f"{n} {stop}" for n, stop in zip(left, later, strict=True))])


def whereabouts(rng: random.Random) -> Puzzle:
    """Four to six people, each some places on or back from the one before; where is the last one?"""
    names = rng.sample(NAMES, rng.randint(4, 6))
    start = rng.choice(PLACES)
    changes = [rng.choice((-3, -2, -1, 1, 2, 3)) for _ in names[1:]]

    steps, places = _links(names, start, changes, moved, walked)
    slip_at = rng.randrange(len(changes))
    slip = (slip_at, rng.choice([place for place in PLACES if place != places[slip_at + 1]]))
    slipped, wrong = _links(names, start, changes, moved, walked, slip)
    told = [f"{names[i + 1]} is {walk(change)} from {names[i]}" for i, change in enumerate(changes)]
    return Puzzle(
        task="whereabouts",
        key=f"whereabouts {start} {changes}",
        question=f"{names[0]} is in the {start}, {', '.join(told)}. Where is {names[-1]}?",
        steps=steps,
        answer=places[-1],
        slipped=slipped,
        slipped_answer=wrong[-1],
    )


TASKS: dict[str, Callable[[random.Random], Puzzle]] = {"sums": sums, "variables": variables, "whereabouts": whereabouts}
