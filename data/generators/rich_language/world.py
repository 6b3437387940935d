"""What rich episodes tell: attributes of people, of things and of the user, with several ways to say and to ask each.

`kind` is what recall is reported by: word, several_words, number, date (and, by the dialogue itself, two_facts,
correction, untold). Values are drawn from the lists of `data.generators.episode_world`, or made of them; numbers and
dates are drawn from all there are.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from data.generators.episode_world import (
    COLOURS,
    FAMILY_NAMES,
    FOODS,
    JOBS,
    OBJECTS,
    PETS,
    ROOMS,
    TOWNS,
    Attribute,
)

ME = "me"
"""The subject of what the user tells of themselves."""
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

Draw = Callable[[random.Random], str]


def _of(*values: str) -> Draw:
    return lambda rng: rng.choice(values)


def _number(low: int, high: int) -> Draw:
    return lambda rng: str(rng.randint(low, high))


def _street(rng: random.Random) -> str:
    return f"{rng.randint(1, 99)} {rng.choice(COLOURS).title()} {rng.choice(('Street', 'Road', 'Lane'))}"


def _song(rng: random.Random) -> str:
    return f"The {rng.choice(COLOURS).title()} {rng.choice(OBJECTS).title()} of {rng.choice(TOWNS)}"


def _company(rng: random.Random) -> str:
    one, other = rng.sample(FAMILY_NAMES, 2)
    return f"{one} {other} {rng.choice(('Limited', 'Partners', 'Brothers'))}"


def _day(rng: random.Random) -> str:
    return f"{rng.randint(1, 28)} {rng.choice(MONTHS)}"


def _appointment(rng: random.Random) -> str:
    return f"{rng.choice(DAYS)} at {rng.randint(1, 12)}"


@dataclass(frozen=True, kw_only=True)
class RichAttribute(Attribute):
    """An attribute with values that are drawn, and questions each of which has its own form of answer.

    `ask` holds the questions, `answers` the answers in the same order ({v} is the value)."""

    kind: str
    draw: Draw
    answers: tuple[str, ...]


def _attribute(
    name: str, kind: str, draw: Draw, tell: list[str], asked: dict[str, str], noun: str | None = None
) -> RichAttribute:
    return RichAttribute(
        name, noun or name, (), tuple(tell), tuple(asked), (), "", kind=kind, draw=draw, answers=tuple(asked.values())
    )


PEOPLE = (
    _attribute(
        "home", "word", _of(*TOWNS),
        ["{s} lives in {v}.", "{s} comes from {v}.", "the home of {s} is {v}.", "in {v} you will find {s}."],
        {"Where does {s} live?": "{s} lives in {v}.", "Which town does {s} come from?": "From {v}.",
         "In which place is {s} at home?": "In {v}."},
    ),
    _attribute(
        "job", "word", _of(*JOBS),
        ["{s} works as a {v}.", "{s} is a {v}.", "{s} earns a living as a {v}.", "the job of {s} is {v}."],
        {"What does {s} do for a living?": "{s} is a {v}.", "What is the job of {s}?": "{v}.",
         "As what does {s} work?": "As a {v}."},
    ),
    _attribute(
        "meal", "word", _of(*FOODS),
        ["{s} loves {v}.", "{s} eats {v} all day.", "the best meal for {s} is {v}.", "nothing beats {v} for {s}."],
        {"What does {s} like to eat?": "{s} likes {v}.", "What should I serve to {s}?": "Try {v}.",
         "Which meal makes {s} happy?": "{v}."},
    ),
    _attribute(
        "animal", "word", _of(*PETS),
        ["{s} keeps a {v}.", "{s} has a {v} at home.", "a {v} belongs to {s}.", "the animal of {s} is a {v}."],
        {"Which animal does {s} keep?": "{s} keeps a {v}.", "What sort of pet has {s} got?": "A {v}.",
         "Who waits at home for {s}?": "A {v}."},
    ),
    _attribute(
        "age", "number", _number(18, 99),
        ["{s} is {v} years old.", "{s} turned {v} this year.", "the age of {s} is {v}."],
        {"How old is {s}?": "{s} is {v}.", "What is the age of {s}?": "{v} years."},
    ),
    _attribute(
        "number", "number", _number(100, 9999),
        ["the number of {s} is {v}.", "you can reach {s} under {v}.", "call {s} on {v}."],
        {"What is the number of {s}?": "It is {v}.", "Under which number do I reach {s}?": "Under {v}."},
    ),
    _attribute(
        "birthday", "date", _day,
        ["{s} was born on {v}.", "the birthday of {s} is {v}.", "{s} celebrates on {v}."],
        {"When is the birthday of {s}?": "On {v}.", "On which day was {s} born?": "{s} was born on {v}."},
    ),
    _attribute(
        "meeting", "date", _appointment,
        ["I meet {s} on {v}.", "the meeting with {s} is on {v}.", "{s} wants to see me on {v}."],
        {"When do I meet {s}?": "You meet on {v}.", "For when is the meeting with {s}?": "For {v}."},
    ),
    _attribute(
        "address", "several_words", _street,
        ["{s} has moved into {v}.", "the address of {s} is {v}.", "send letters for {s} to {v}."],
        {"What is the address of {s}?": "{v}.", "Where do I send letters for {s}?": "To {v}."},
    ),
    _attribute(
        "song", "several_words", _song,
        ["{s} always sings {v}.", "the song of {s} is called {v}.", "{s} can't stop humming {v}."],
        {"Which song does {s} sing?": "{s} sings {v}.", "What is the song of {s} called?": "{v}."},
    ),
    _attribute(
        "employer", "several_words", _company,
        ["{s} has a post with {v}.", "the employer of {s} is {v}.", "{v} pays the wages of {s}."],
        {"Who employs {s}?": "{v}.", "What is the employer of {s} called?": "It is called {v}."},
    ),
)  # fmt: skip
THINGS = (
    _attribute(
        "place", "word", _of(*ROOMS),
        ["the {s} is in the {v}.", "I left the {s} in the {v}.", "you will find the {s} in the {v}."],
        {"Where is the {s}?": "In the {v}.", "Where did I leave the {s}?": "You left it in the {v}."},
    ),
    _attribute(
        "price", "number", _number(2, 999),
        ["the {s} costs {v} coins.", "I paid {v} coins for the {s}.", "the price of the {s} is {v}."],
        {"How much is the {s}?": "{v} coins.", "What is the price of the {s}?": "It costs {v} coins."},
    ),
    _attribute(
        "delivery", "date", _day,
        ["the {s} will arrive on {v}.", "they deliver the {s} on {v}.", "the delivery of the {s} is due on {v}."],
        {"When will the {s} arrive?": "On {v}.", "For when is the delivery of the {s} due?": "It is due on {v}."},
    ),
)  # fmt: skip
OWN = (
    _attribute(
        "town", "word", _of(*TOWNS),
        ["I live in {v}.", "my home is in {v}.", "I moved to {v} years ago."],
        {"Where do I live?": "You live in {v}.", "In which town is my home?": "In {v}."},
    ),
    _attribute(
        "trade", "word", _of(*JOBS),
        ["I work as a {v}.", "I am a {v} by trade.", "my trade is that of a {v}."],
        {"What do I work as?": "You are a {v}.", "What is my trade?": "{v}."},
    ),
    _attribute(
        "dish", "word", _of(*FOODS),
        ["I can't live without {v}.", "I eat {v} every morning.", "my dish is {v}."],
        {"What do I eat every morning?": "You eat {v}.", "Which dish can't I live without?": "{v}."},
    ),
    _attribute(
        "code", "number", _number(1000, 9999),
        ["my code is {v}.", "the code of my door is {v}.", "I open my door with {v}."],
        {"What is the code of my door?": "Your code is {v}.", "With which code do I open my door?": "With {v}."},
    ),
    _attribute(
        "flight", "date", _day,
        ["my flight leaves on {v}.", "I fly home on {v}.", "the flight is booked for {v}."],
        {"When does my flight leave?": "It leaves on {v}.", "For which day is my flight booked?": "For {v}."},
    ),
)  # fmt: skip

NOUNS = {
    **{a.name: f"the {a.noun} of {{s}}" for a in PEOPLE},
    **{a.name: f"the {a.noun} of the {{s}}" for a in THINGS},
    **{a.name: f"my {a.noun}" for a in OWN},
}
"""How an attribute is named in a question about two facts."""

OPENERS = (
    ("{t}", "Noted."),
    ("{t}", "Got it."),
    ("By the way, {t}", "Good to know."),
    ("Please remember: {t}", "I will remember that."),
    ("Just so you know, {t}", "Thank you for telling me."),
    ("Oh, and {t}", "Understood."),
)
"""Ways to tell something, each with what is answered."""
CORRECTIONS = (
    ("Sorry, I was wrong: {t}", "I have corrected that."),
    ("Actually, {t}", "Thank you, I have changed it."),
    ("No, wait, {t}", "All right, corrected."),
    ("That has changed: {t}", "I have changed that."),
)
LEADS = ("{q}", "{q}", "{q}", "Do you remember? {q}", "Tell me, please. {q}", "I forgot something. {q}")
"""Ways to ask."""
CHAT = (
    ("How are you today?", "I am fine, thank you."),
    ("Good morning!", "Good morning to you."),
    ("Hello there.", "Hello, what is new?"),
    ("Thank you very much.", "You are welcome."),
    ("Who are you?", "I am a small machine with a memory."),
    ("What a lovely day!", "It is, let us enjoy it."),
    ("I am so tired.", "Then have a little rest."),
    ("Do you like the rain?", "Only when I am inside."),
    ("Tell me a joke.", "I only know old ones."),
    ("It is getting late.", "It is never too late to talk."),
    ("Can you swim?", "No, I would sink."),
    ("Is it cold outside?", "I have never been outside."),
    ("I love the summer.", "The long evenings are the best."),
    ("What do you do all day?", "I listen and try to remember."),
    ("You are funny.", "I do what I can."),
    ("Let us talk about music.", "Gladly, I like quiet tunes."),
)
