"""Seeded multi-step puzzles: chains of small sums, variables, who sits where. Each has a question, steps and an answer.

A model of a million parameters can take each step (look one thing up, add two small numbers) and can't take five at
once: the answers spread over ten possibilities and more. `key` is a puzzle's content without its wording and order; the
split is a hash of it, so that no held-out puzzle is a trained one in other words.
"""

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

NAMES = "Ann Bob Cid Dan Eve Fay Gus Hal Ivy Jim Kim Leo Mia Ned Ola Pam Ray Sue Tom Uma Vic Wim Yan Zoe".split(" ")
LETTERS = "abcdefghkmnpqrstuvwxyz"
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
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


def _slip(rng: random.Random, low: int, value: int) -> int:
    """A number beside `value`, not below `low`."""
    return max(low, value + rng.choice((-10, -2, -1, 1, 2, 10))) if value > low else value + 1


def _changes(rng: random.Random, start: int, count: int, top: int) -> list[int]:
    """`count` changes by 2 to 9 up or down that keep the total within 0 and `top`."""
    total, changes = start, []
    for _ in range(count):
        size = rng.randint(2, 9)
        up = total < size or (total + size <= top and rng.random() < 0.5)
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
    """Four to six small numbers added to or taken from a number below 60, one after the other."""
    start = rng.randint(10, 59)
    changes = _changes(rng, start, rng.randint(4, 6), 99)
    steps, answer = _sum_steps(start, changes, None, 0)
    slip_at = rng.randrange(len(changes))
    slip = _slip(rng, 9, start + sum(changes[: slip_at + 1]))
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


def _variable_steps(
    names: Sequence[str], parents: Sequence[int], changes: Sequence[int], slip_at: int | None, slip: int
) -> tuple[list[str], int]:
    values, steps = [changes[0]], [f"{names[0]}={changes[0]}"]
    for i in range(1, len(names)):
        known = values[parents[i]]
        result = slip if i == slip_at else known + changes[i]
        steps.append(f"{names[i]}={names[parents[i]]}{_signed(changes[i])}={known}{_signed(changes[i])}={result}")
        values.append(result)
    return steps, values[-1]


def variables(rng: random.Random) -> Puzzle:
    """Four or five variables, each an earlier one plus or minus a small number; the value of the last is asked."""
    count = rng.randint(4, 5)
    names = rng.sample(LETTERS, count)
    parents = [0, 0] + [i - 1 if rng.random() < 0.7 else rng.randrange(i) for i in range(2, count)]
    values = [rng.randint(10, 30)]
    changes = [values[0]]
    for i in range(1, count):
        changes += _changes(rng, values[parents[i]], 1, 60)
        values.append(values[parents[i]] + changes[i])
    steps, answer = _variable_steps(names, parents, changes, None, 0)
    slip_at = rng.randrange(1, count)
    slipped, wrong = _variable_steps(names, parents, changes, slip_at, _slip(rng, 9, values[slip_at]))
    told = ";".join([f"{names[0]}={changes[0]}"] + [
        f"{names[i]}={names[parents[i]]}{_signed(changes[i])}" for i in range(1, count)
    ])  # fmt: skip
    return Puzzle(
        task="variables",
        key=f"variables {parents} {changes}",
        question=f"{told}; What is {names[-1]}?",
        steps=tuple(steps),
        answer=str(answer),
        slipped=tuple(slipped),
        slipped_answer=str(wrong),
    )


def seats(rng: random.Random, people: int = 10) -> Puzzle:
    """Ten people round a table, told pair by pair in any order; who sits three to five places after one of them?"""
    ring = rng.sample(NAMES, people)
    places = rng.randint(3, 5)
    pairs = [f"{ring[i]} then {ring[(i + 1) % people]}" for i in range(people)]
    steps = [f"{ORDINALS[i]} {pairs[i]}" for i in range(places)]
    slip_at = rng.randrange(places)
    wrong = rng.choice([name for i, name in enumerate(ring) if i not in (slip_at, slip_at + 1)])
    slipped, at = steps[:slip_at], ring[slip_at]
    for i in range(slip_at, places):
        after = wrong if i == slip_at else ring[(ring.index(at) + 1) % people]
        slipped.append(f"{ORDINALS[i]} {at} then {after}")
        at = after
    shuffled = rng.sample(pairs, people)
    return Puzzle(
        task="seats",
        key=f"seats {places} {ring}",
        question=f"Seats: {', '.join(shuffled)}. Who is {places} after {ring[0]}?",
        steps=tuple(steps),
        answer=ring[places],
        slipped=tuple(slipped),
        slipped_answer=at,
    )


TASKS: dict[str, Callable[[random.Random], Puzzle]] = {"sums": sums, "variables": variables, "seats": seats}
