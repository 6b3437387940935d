"""The small invented world that memory episodes talk about: names, attributes, sentences, small talk.

Names and things have two words, and each pair of words belongs to exactly one split: a model that has met every word
in training still can't know anything about a test person, and a test gift is a value it has never said.
"""

import zlib
from dataclasses import dataclass

SPLITS = ("train", "validation", "test")
SHARES = {"test": 0.2, "validation": 0.1}
"""Share of the word pairs that a held-out split keeps for itself."""

FIRST_NAMES = tuple(
    "Alba Boro Cira Dano Elva Fenn Gilo Hesta Ivor Jona Kela Lumo Mira Nilo Oda Pell Quin Rasa Silo Tova Ulla Vero Wim"
    " Zora".split()
)
FAMILY_NAMES = tuple(
    "Arden Barso Calder Dovan Esker Farrow Gantz Holt Inver Jask Kolt Larch Mondo Narev Ostra Pavo Quist Rook Stane"
    " Tarn Umber Varn Westo Yarrow".split()
)
COLOURS = tuple(
    "amber azure black brass bronze copper coral crimson cream golden green grey iron ivory jade pink purple red silver"
    " teal white wooden yellow violet".split()
)
OBJECTS = tuple(
    "basket bell bottle bowl brush candle clock coat comb drum flute hammer helmet kettle key ladder lamp mirror needle"
    " pillow ring rope spoon vase".split()
)
TOWNS = tuple(
    "Amsel Brenn Corvo Dunmar Eastry Fallow Gorse Harrow Ilmen Jarrow Kesten Lindow Marn Norwick Orlen Pinmoor Quarley"
    " Rosmer Selby Thorn Ulver Wexham Yelden Zalt".split()
)
JOBS = tuple(
    "actor baker barber builder butcher carpenter clerk cook dentist driver farmer fisher judge lawyer miner nurse"
    " painter pilot plumber potter sailor singer tailor writer".split()
)
FOODS = tuple(
    "apples bacon beans bread carrots cheese cherries dates eggs figs garlic grapes ham honey lemons mushrooms noodles"
    " nuts olives onions pears plums rice soup".split()
)
PETS = tuple(
    "badger beetle camel canary cat cobra crow dog duck ferret fox frog goat goose hamster hare lizard mouse otter owl"
    " parrot rabbit spider turtle".split()
)
ROOMS = tuple(
    "attic balcony barn basement bathroom bedroom cabin cellar chapel corridor garage garden hall kitchen library loft"
    " office pantry porch shed stable studio tower workshop".split()
)
PRICES = tuple(
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen"
    " nineteen twenty thirty forty fifty sixty ninety".split()
)


@dataclass(frozen=True)
class Attribute:
    """One thing that can be known about a person or an object, and the sentences for it.

    {s} is the subject, {v} the value, {a} and {b} two subjects. `noun` names the attribute in questions about several.
    """

    name: str
    noun: str
    values: tuple[str, ...]
    tell: tuple[str, ...]
    ask: tuple[str, ...]
    change: tuple[str, ...]
    ask_both: str


PERSON = (
    Attribute(
        "home",
        "home",
        TOWNS,
        ("{s} lives in {v}.", "The home of {s} is {v}."),
        ("Where does {s} live?", "What is the home of {s}?"),
        ("{s} has moved to {v}.",),
        "Where do {a} and {b} live?",
    ),
    Attribute(
        "job",
        "job",
        JOBS,
        ("{s} works as a {v}.", "The job of {s} is {v}."),
        ("What is the job of {s}?", "What does {s} work as?"),
        ("{s} now works as a {v}.",),
        "What are the jobs of {a} and {b}?",
    ),
    Attribute(
        "food",
        "food",
        FOODS,
        ("{s} likes to eat {v}.", "The food of {s} is {v}."),
        ("What does {s} like to eat?", "What is the food of {s}?"),
        ("{s} now likes to eat {v}.",),
        "What do {a} and {b} like to eat?",
    ),
    Attribute(
        "pet",
        "pet",
        PETS,
        ("{s} has a {v}.", "The pet of {s} is a {v}."),
        ("Which pet does {s} have?", "What is the pet of {s}?"),
        ("{s} now has a {v}.",),
        "Which pets do {a} and {b} have?",
    ),
    Attribute(
        "wish",
        "wish",
        (),  # a thing of the episode's split: colour and object
        ("{s} wants a {v}.", "The wish of {s} is a {v}."),
        ("What does {s} want?", "What is the wish of {s}?"),
        ("{s} now wants a {v}.",),
        "What do {a} and {b} want?",
    ),
)
THING = (
    Attribute(
        "place",
        "place",
        ROOMS,
        ("The {s} is in the {v}.", "The {s} lies in the {v}."),
        ("Where is the {s}?", "Where does the {s} lie?"),
        ("The {s} is now in the {v}.",),
        "Where are the {a} and the {b}?",
    ),
    Attribute(
        "price",
        "price",
        PRICES,
        ("The {s} costs {v} coins.", "The price of the {s} is {v}."),
        ("How much does the {s} cost?", "What is the price of the {s}?"),
        ("The {s} now costs {v} coins.",),
        "What do the {a} and the {b} cost?",
    ),
)

NOTED = "Noted"
"""The answer to a statement."""

SMALL_TALK = (
    ("How are you?", "Very well"),
    ("Good morning!", "Good morning"),
    ("Thank you.", "You are welcome"),
    ("Who are you?", "A machine with a memory"),
    ("Do you like rain?", "Only from inside"),
    ("Tell me about the sea.", "It is deep and salty"),
    ("Tell me about the moon.", "It is far and cold"),
    ("What colour is snow?", "Snow is white"),
    ("What comes after winter?", "Spring comes after winter"),
    ("Is fire hot?", "Yes it is hot"),
    ("Do fish swim?", "Yes they do"),
    ("Can stones fly?", "No they fall"),
    ("Say something nice.", "You ask good questions"),
    ("Is it late?", "It is never late"),
    ("What do bees make?", "They make honey"),
    ("Let us talk about music.", "Music is lovely"),
)


def share_of(text: str) -> str:
    """The one split that a text belongs to, by its letters."""
    position = zlib.crc32(text.encode()) / 2**32
    for split, share in SHARES.items():
        if position < share:
            return split
        position -= share
    return "train"


def split_of(one: str, other: str) -> str:
    """The one split that may use this pair of words as a name or a thing."""
    return share_of(f"{one} {other}")


def pairs(split: str, ones: tuple[str, ...], others: tuple[str, ...]) -> list[str]:
    """All names ("Mira Kolt") or things ("copper lamp") of a split."""
    return [f"{one} {other}" for one in ones for other in others if split_of(one, other) == split]
