"""Seeded multi-step puzzles: chains of small sums, variables, who is where. Each has a question, steps and an answer.

A model of a million parameters can take each step (find the next move, apply it to a small state) and cannot take five
at once: the answers spread over eight possibilities and more. `key` is a puzzle's content without its wording; the
split is a hash of it, so that no held-out puzzle is a trained one in other words.
"""

import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

NAMES = "Ann Bob Cid Dan Eve Fay Gus Hal Ivy Jim Kim Leo Mia Ned Ola Pam Ray Sue Tom Uma Vic Wim Yan Zoe".split(" ")
LETTERS = "abcdefghkmnpqrstuvwxyz"
PLACES = "kitchen garden school station market library park office".split(" ")
"""In the order in which one walks round them."""
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


def _state(values: Mapping[str, object]) -> str:
    return " ".join(f"{name} {value}" for name, value in values.items())


def _steps[Value](
    start: Mapping[str, Value],
    moves: Sequence[str],
    apply: Callable[[Mapping[str, Value], str], dict[str, Value]],
    slip: tuple[int, str, Value] | None,
) -> tuple[tuple[str, ...], dict[str, Value]]:
    """Each move with the whole state after it, and the last state. `slip`: (index, name, value) goes wrong there."""
    values, steps = dict(start), []
    for index, move in enumerate(moves):
        values = apply(values, move)
        if slip and slip[0] == index:
            values[slip[1]] = slip[2]
        steps.append(f"{ORDINALS[index]} {move} {_state(values)}")
    return tuple(steps), values


def changed(values: Mapping[str, int], move: str) -> dict[str, int]:
    """Two numbers after `a +3`, `b -4` or `swap`."""
    if move == "swap":
        return dict(zip(values, reversed(values.values()), strict=True))
    name, change = move.split(" ")
    return {**values, name: values[name] + int(change)}


def variables(rng: random.Random) -> Puzzle:
    """Two variables, four or five changes of one of them or swaps of both; one of them is asked for at the end."""
    names = rng.sample(LETTERS, 2)
    start = {name: rng.randint(10, 59) for name in names}
    values, moves = dict(start), []
    for _ in range(rng.randint(4, 5)):
        name = rng.choice(names)
        swaps = rng.random() < 0.2 and "swap" not in moves[-1:]
        moves.append("swap" if swaps else f"{name} {_signed(_changes(rng, values[name], 1, 99)[0])}")
        values = changed(values, moves[-1])
    asked = rng.choice(names)
    # A slip followed by one swap would be handed to the variable that isn't asked for.
    slip_at = rng.choice([i for i in range(len(moves)) if moves[i + 1 :].count("swap") % 2 == 0])
    before = _steps(start, moves[: slip_at + 1], changed, None)[1]
    slip = (slip_at, asked, _slip(rng, 9, before[asked]))
    slipped, wrong = _steps(start, moves, changed, slip)
    told = ", ".join(f"{ORDINALS[i]} {move}" for i, move in enumerate(moves))
    return Puzzle(
        task="variables",
        key=f"variables {sorted(start.values())} {[move.split(' ')[-1] for move in moves]}",
        question=f"Now {_state(start)}. Then {told}. What is {asked}?",
        steps=_steps(start, moves, changed, None)[0],
        answer=str(values[asked]),
        slipped=slipped,
        slipped_answer=str(wrong[asked]),
    )


def walked(where: Mapping[str, str], move: str) -> dict[str, str]:
    """Where everybody is after `Ann on 2` or `Bob back 1` round the eight places."""
    name, direction, count = move.split(" ")
    places = int(count) if direction == "on" else -int(count)
    return {**where, name: PLACES[(PLACES.index(where[name]) + places) % len(PLACES)]}


def whereabouts(rng: random.Random) -> Puzzle:
    """Two people walk round eight places in their order; where is one of them after four or five walks?"""
    names = rng.sample(NAMES, 2)
    start = dict(zip(names, rng.sample(PLACES, 2), strict=True))
    count = rng.randint(4, 5)
    moves = [f"{rng.choice(names)} {rng.choice(('on', 'back'))} {rng.randint(1, 3)}" for _ in range(count)]
    asked = rng.choice(names)
    steps, end = _steps(start, moves, walked, None)
    slip_at = rng.randrange(count)
    right = _steps(start, moves[: slip_at + 1], walked, None)[1][asked]
    slip = (slip_at, asked, rng.choice([place for place in PLACES if place != right]))
    slipped, wrong = _steps(start, moves, walked, slip)
    told = ", ".join(f"{ORDINALS[i]} {move}" for i, move in enumerate(moves))
    return Puzzle(
        task="whereabouts",
        key=f"whereabouts {start} {moves}",
        question=f"Now {_state(start)}. Then {told}. Where is {asked}?",
        steps=steps,
        answer=end[asked],
        slipped=slipped,
        slipped_answer=wrong[asked],
    )


TASKS: dict[str, Callable[[random.Random], Puzzle]] = {"sums": sums, "variables": variables, "whereabouts": whereabouts}
