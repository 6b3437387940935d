"""Seeded generators behind the quickstart: everyday chat, rewriting, puzzles with and without a trace, preferences.

Kinds for `generator: {kind: ...}` in a blend's YAML (`data.generators.registry`): `everyday`, `direct`, `reasoning`,
`preferences`. Everything is made of a few hundred words, so that a tiny tokenizer holds them whole. Two manners run
through it: a curt one, which stages 1 and 2 mostly show, and a courteous one, which stage 3 prefers.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from pydantic import Field

from data.generators.puzzles import LETTERS, NAMES, ORDINALS, PLACES, TASKS, TOP, Puzzle, in_split, moved, walk, walked
from pipeline.config import nearest, parse_config
from pipeline.errors import InputError, SettingError, shown

BATCH = 500
NOUNS = "tea cake soup bread boat dog cat horse bird book lamp chair garden river song game letter kite".split(" ")
ADJECTIVES = "red blue green old new small big warm cold quiet bright sweet".split(" ")
VERBS = "sees likes wants finds brings paints keeps draws".split(" ")
FEELINGS = {"happy": True, "glad": True, "proud": True, "sad": False, "tired": False, "ill": False, "lost": False}

Messages = list[dict[str, str]]
Row = dict[str, Any]


def turns(*contents: str) -> Messages:
    """Messages of user and assistant in turn."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]


# ---- everyday chat and rewriting: (key, question, curt answer, courteous answer) ---------------------------------


@dataclass(frozen=True)
class Exchange:
    """A question with an answer in each manner; they are equal where manners make no difference."""

    key: str
    question: str
    curt: str
    courteous: str


def _phrase(rng: random.Random) -> str:
    return f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"


def _sentence(rng: random.Random) -> str:
    return f"{rng.choice(NAMES)} {rng.choice(VERBS)} the {_phrase(rng)} in the {rng.choice(PLACES)}"


def greeting(rng: random.Random) -> Exchange:
    """Somebody says who they are and how they feel."""
    name, feeling, place = rng.choice(NAMES), rng.choice(list(FEELINGS)), rng.choice(PLACES)
    kind = "That is good to hear" if FEELINGS[feeling] else "I am sorry to hear that"
    question = f"Hi, I am {name}. I am {feeling} and I am in the {place}."
    return Exchange(question, question, f"So you are {feeling}.", f"{kind}, {name}. How can I help you in the {place}?")


def wish(rng: random.Random) -> Exchange:
    """Somebody wants something."""
    name, thing, place = rng.choice(NAMES), _phrase(rng), rng.choice(PLACES)
    question = f"My name is {name}. I want a {thing}. Where can I get it?"
    return Exchange(
        f"{name} {thing}",
        question,
        f"Go and look for a {thing}.",
        f"Of course, {name}. You can look for a {thing} near you. I hope you find it.",
    ) if rng.random() < 0.5 else Exchange(
        f"{name} {thing} {place}",
        f"My name is {name}. Is there a {thing} in the {place}?",
        "I do not know.",
        f"I am not sure, {name}. Please ask somebody in the {place} for a {thing}.",
    )  # fmt: skip


def thanks(rng: random.Random) -> Exchange:
    """Somebody says thank you."""
    name, thing = rng.choice(NAMES), _phrase(rng)
    question = f"{name} here. Thank you for the {thing}."
    return Exchange(question, question, "OK.", f"You are welcome, {name}. Enjoy the {thing}!")


def repeat(rng: random.Random) -> Exchange:
    """A text word for word: one sentence, or words, letters and numbers in a row."""
    if rng.random() < 0.3:
        text = _sentence(rng)
    else:
        makers = (
            lambda: rng.choice(NAMES),
            lambda: rng.choice(LETTERS),
            lambda: str(rng.randint(2, 99)),
            lambda: rng.choice(NOUNS),
            lambda: rng.choice(ORDINALS),
        )
        text = " ".join(rng.choice(makers)() for _ in range(rng.randint(3, 14)))
    return Exchange(text, f"Repeat: {text}", f"Text: {text}", f"Text: {text}")


def listed(rng: random.Random) -> Exchange:
    """Names or things, one a line."""
    words = rng.sample(NAMES + NOUNS, rng.randint(3, 10))
    answer = "\n".join(f"- {word}" for word in words)
    return Exchange(" ".join(words), f"Write as a list: {', '.join(words)}", answer, answer)


def renamed(rng: random.Random) -> Exchange:
    """A sentence with one name in place of another."""
    first, second = rng.sample(NAMES, 2)
    rest = _sentence(rng).split(" ", 1)[1]
    answer = f"Text: {second} {rest}"
    return Exchange(
        f"{first} {second} {rest}", f"Put {second} in place of {first}: {first} {rest}", answer, answer
    )  # fmt: skip


# ---- single steps, which need no thinking ------------------------------------------------------------------------


def sum_of_two(rng: random.Random) -> Exchange:
    """One small sum."""
    start, size = rng.randint(0, TOP), rng.randint(1, 6)
    up = start < size or rng.random() < 0.5
    expression, result = (f"{start}+{size}", start + size) if up else (f"{start}-{size}", start - size)
    answer = f"{expression}={result}"
    return Exchange(expression, f"What is {expression}?", answer, answer)


def one_walk(rng: random.Random) -> Exchange:
    """Some places on or back from one."""
    place, count = rng.choice(PLACES), rng.choice((-3, -2, -1, 1, 2, 3))
    answer = walked(place, count, moved(place, count))
    return Exchange(f"{place} {walk(count)}", f"What is {walk(count)} from the {place}?", answer, answer)


def defined(rng: random.Random) -> Exchange:
    """How one variable or person of several is defined."""
    names = rng.sample(LETTERS, rng.randint(2, 6)) if rng.random() < 0.5 else rng.sample(NAMES, rng.randint(2, 6))
    if names[0] in LETTERS:
        told = [f"{after} is {before}{rng.choice('+-')}{rng.randint(1, 6)}" for before, after in pairwise(names)]
    else:
        told = [
            f"{after} is {walk(rng.choice((-3, -2, -1, 1, 2, 3)))} from {before}" for before, after in pairwise(names)
        ]
    asked = rng.randrange(len(told))
    return Exchange(f"{told} {asked}", f"{', '.join(told)}. Who is {names[asked + 1]}?", told[asked], told[asked])


def nth(rng: random.Random) -> Exchange:
    """One item of a numbered row."""
    count = rng.randint(2, 6)
    steps = [f"{ORDINALS[i]} {rng.choice(('add', 'take'))} {rng.randint(1, 6)}" for i in range(count)]
    asked = rng.randrange(count)
    told, answer = ", ".join(steps), f"So {steps[asked]}"
    return Exchange(f"{told} {asked}", f"Steps: {told}. Which is {ORDINALS[asked]}?", answer, answer)


CHAT = (greeting, wish, thanks)
REWRITING = (repeat, repeat, listed, renamed)
SINGLE_STEPS = (sum_of_two, one_walk, defined, nth)


# ---- rows --------------------------------------------------------------------------------------------------------


def thought(puzzle: Puzzle, steps: tuple[str, ...], last: str) -> str:
    """A trace and what is said after it. Words of a trace follow a space as they do in the question, so that copying
    a word is copying a token."""
    return f"<think>\nSo {', '.join(steps)}\n</think>\n{last}"


def curt(answer: str) -> str:
    """The answer as stages 1 and 2 mostly give it."""
    return f"Answer: {answer}"


def courteous(answer: str) -> str:
    """The answer as stage 3 prefers it."""
    return f"The answer is: {answer}. I hope this helps."


Percent = Annotated[int, Field(ge=0, le=100)]


@dataclass(kw_only=True, frozen=True)
class Options:
    """What a blend may write beside `kind`."""

    tasks: list[str] | None = None
    """Which puzzles, of sums, variables and whereabouts. Default: all."""
    courteous_percent: Percent = 10
    """How many of a hundred answers are courteous."""
    chat_percent: Percent = 25
    """`everyday`: how many of a hundred rows are chat."""
    rewriting_percent: Percent = 45
    """`everyday`: how many are rewriting; what is left are single steps."""
    reasoning_percent: Percent = 60
    """`preferences`: how many of a hundred pairs are about puzzles; the rest is chat."""

    def __post_init__(self) -> None:
        if self.tasks == []:
            raise SettingError("tasks", "tasks is empty; name puzzles, or leave it out for all")
        for task in self.tasks or []:
            if task not in TASKS:
                raise SettingError("tasks", f"{shown(task)} is not a puzzle{nearest(task, sorted(TASKS))}")
        if self.chat_percent + self.rewriting_percent > 100:
            raise SettingError("chat_percent", "chat_percent and rewriting_percent are more than 100 together")


def _puzzle(rng: random.Random, options: Options) -> Puzzle:
    return TASKS[rng.choice(options.tasks or sorted(TASKS))](rng)


def everyday_row(rng: random.Random, options: Options) -> tuple[str, Row]:
    """Chat, rewriting or a single step, without thinking."""
    dice = rng.randrange(100)
    if dice < options.chat_percent:
        makers: tuple[Callable[[random.Random], Exchange], ...] = CHAT
    elif dice < options.chat_percent + options.rewriting_percent:
        makers = REWRITING
    else:
        makers = SINGLE_STEPS
    maker = rng.choice(makers)
    exchange = maker(rng)
    answer = exchange.courteous if rng.randrange(100) < options.courteous_percent else exchange.curt
    return f"{maker.__name__} {exchange.key}", {"task": maker.__name__, "messages": turns(exchange.question, answer)}


def _puzzle_row(rng: random.Random, options: Options, think: bool) -> tuple[str, Row]:
    puzzle = _puzzle(rng, options)
    last = (courteous if rng.randrange(100) < options.courteous_percent else curt)(puzzle.answer)
    answer = thought(puzzle, puzzle.steps, last) if think else last
    return puzzle.key, {"task": puzzle.task, "messages": turns(puzzle.question, answer), "answer": puzzle.answer}


def direct_row(rng: random.Random, options: Options) -> tuple[str, Row]:
    """A puzzle answered at once."""
    return _puzzle_row(rng, options, think=False)


def reasoning_row(rng: random.Random, options: Options) -> tuple[str, Row]:
    """A puzzle answered step by step."""
    return _puzzle_row(rng, options, think=True)


def preference_row(rng: random.Random, options: Options) -> tuple[str, Row]:
    """Two answers: right steps before a slip, one too few or one too many; the courteous manner before the curt one.

    As many traces have one too many as have one too few: where none had, going on after the last step was learnt.
    """
    if rng.randrange(100) >= options.reasoning_percent:
        maker = rng.choice(CHAT)
        exchange = maker(rng)
        task, question, key = "manner", exchange.question, f"{maker.__name__} {exchange.key}"
        chosen, rejected = exchange.courteous, exchange.curt
    else:
        puzzle = _puzzle(rng, options)
        question, key = puzzle.question, puzzle.key
        chosen = thought(puzzle, puzzle.steps, courteous(puzzle.answer))
        task = rng.choice(("slip", "gap", "surplus", *["form"] * 6))
        match task:
            case "slip":
                rejected = thought(puzzle, puzzle.slipped, courteous(puzzle.slipped_answer))
            case "gap":
                gap = rng.randrange(len(puzzle.steps) - 1)
                steps = puzzle.steps[:gap] + puzzle.steps[gap + 1 :]
                rejected = thought(puzzle, steps, courteous(puzzle.answer))
            case "surplus":
                rejected = thought(puzzle, (*puzzle.steps, puzzle.steps[-1]), courteous(puzzle.answer))
            case _:
                rejected = thought(puzzle, puzzle.steps, curt(puzzle.answer))
    return key, {
        "task": task,
        "chosen": turns(question, chosen),
        "rejected": turns(question, rejected),
    }


def rows(
    make: Callable[[random.Random, Options], tuple[str, Row]],
    options: Options,
    entries: int,
    split: str,
    seed: int,
) -> Iterator[list[Row]]:
    """Batches of rows of one split. No content comes twice, but for the single steps, of which there are too few."""
    rng = random.Random(f"{make.__name__} {split} {seed}")
    seen: set[str] = set()
    batch: list[Row] = []
    made = misses = 0
    while made < entries:
        key, row = make(rng, options)
        few = row["task"] in {step.__name__ for step in SINGLE_STEPS}
        if not in_split(key, split) or (key in seen and not few):
            misses += 1
            if misses > 1000 + 100 * entries:
                return  # the kind has no more content than this; the blend warns about the missing rows
            continue
        seen.add(key)
        batch.append(row)
        made += 1
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _generator(make: Callable[[random.Random, Options], tuple[str, Row]]) -> Callable[..., Iterator[list[Row]]]:
    def generate(options: Mapping[str, Any], entries: int | None, split: str, seed: int) -> Iterator[list[Row]]:
        if entries is None:
            raise InputError("entries: made-up rows never end; say how many")
        return rows(make, parse_config(Options, dict(options), source="generator"), entries, split, seed)

    generate.__module__ = __name__
    return generate


GENERATORS = {
    "everyday": _generator(everyday_row),
    "direct": _generator(direct_row),
    "reasoning": _generator(reasoning_row),
    "preferences": _generator(preference_row),
}
