"""Dialogues in ordinary English, to try docs/own_dialogues.md with: somebody tells about people, and asks later.

    uv run docs/examples/make_dialogues.py --output-dir outputs/own_data

train.jsonl has 3,000 dialogues, known.jsonl 300 others of the same words, unseen.jsonl 300 whose names and values have
words that stand in no row of train.jsonl. Told are jobs, homes, birthdays, pets, meals, numbers and times, of the user
and of people around; some are corrected, some asked two at a time, some asked without having been told. Distances are
left to be derived from `facts`.
"""

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = (
    "Clara Priya Tomas Ingrid Malik Beatrice Hugo Yuki Samuel Fatima Oscar Leila Marcus Helena Dmitri Rosa Callum "
    "Aisha Victor Nadia Julian Mei Patrick Simone Anders Carmen Felix Zainab Gregor Lucia Ethan Hana Rupert Amara "
    "Stefan Olga Kieran Paloma Walter Sunita Benedict Freya Omar Judith Rafael Greta Colin Esther Matteo Ingeborg "
    "Harvey Noor Lionel Tamara Edgar Miriam Pablo Sigrid Duncan Farah Jerome Louisa Nikolai Bridget Andre Chiara "
    "Elliot Rania Seamus Vera"
).split()
NEW_NAMES = (
    "Quentin Yasmin Thaddeus Ottilie Bjorn Xiomara Wendell Ludmila Cormac Pernille Ignatius Zuleika Barnaby Eluned "
    "Tarquin Soraya Gunther Maribel Leopold Anneke Hamish Delphine Ravindra Clementine Jolyon Birgitta"
).split()
SURNAMES = (
    "Okafor Lindqvist Moreno Fairbanks Petrov Delacroix Nakamura Whitlock Castellano Brandt Osborne Rahman "
    "Kowalski Thornton Vasquez Eriksen Huang Pemberton Abbasi Gallagher Novak Sinclair Mbeki Rossi Haldane Costa "
    "Weber Ashworth Silva Dunmore Keller Varga Hussain Langley Ortega Blythe Fontaine Kerr Stavros Winslow"
).split()
NEW_SURNAMES = (
    "Zielinski Trevelyan Oyelaran Bellweather Korhonen Mcallister Quispe Drummond Valtonen Szabo Grimaldi "
    "Featherstone Yamazaki Holloway Tchaikov Umarov"
).split()
CITIES = (
    "Lisbon Cardiff Gothenburg Valencia Toronto Krakow Nairobi Lyon Hamburg Seattle Dublin Osaka Bologna Tampere "
    "Bristol Antwerp Denver Porto Malmo Leeds Santiago Utrecht Geneva Adelaide Austin Zagreb Bergen Marseille "
    "Quebec Glasgow"
).split()
NEW_CITIES = (
    "Ljubljana Halifax Trondheim Salamanca Winnipeg Gdansk Mombasa Grenoble Rostock Spokane Limerick Sapporo "
    "Perugia Aberdeen"
).split()
JOBS = (
    "nurse|piano tuner|ferry pilot|tax lawyer|baker|school cook|vet|bus driver|stage designer|farmer|dentist|"
    "wine maker|tour guide|radio host|locksmith|film editor|judge|bike courier|florist|roof builder|chemist|"
    "night porter|butcher|swimming coach|translator|bank clerk"
).split("|")
NEW_JOBS = (
    "glass blower|midwife|crane operator|sculptor|beekeeper|opera singer|optician|harbour master|cartographer|puppeteer"
).split("|")
TASTES = "spicy baked creamy smoked pickled grilled sweet cold crispy roasted salted stuffed".split()
NEW_TASTES = "caramelised poached charred velvety candied braised".split()
MEALS = "noodles salmon lentils pancakes aubergine dumplings risotto peppers mackerel chickpeas omelette pears".split()
NEW_MEALS = "gnocchi artichokes trout parsnips couscous shallots halloumi".split()
PETS = "cat dog rabbit parrot tortoise pony hamster goat".split()
MONTHS = "January February March April May June July August September October November December".split()
PEOPLE = "sister brother neighbour cousin boss uncle friend colleague aunt teacher".split()


@dataclass(frozen=True)
class Words:
    """What dialogues are filled with."""

    names: Sequence[str]
    surnames: Sequence[str]
    cities: Sequence[str]
    jobs: Sequence[str]
    tastes: Sequence[str]
    meals: Sequence[str]


KNOWN_WORDS = Words(NAMES, SURNAMES, CITIES, JOBS, TASTES, MEALS)
NEW_WORDS = Words(NEW_NAMES, NEW_SURNAMES, NEW_CITIES, NEW_JOBS, NEW_TASTES, NEW_MEALS)


@dataclass(frozen=True)
class Topic:
    """A sort of fact: how it is drawn, told, asked and answered, of somebody else ({who}) and of the user."""

    kind: str
    draw: Callable[[random.Random, Words], str]
    told: Sequence[str]
    asked: Sequence[str]
    answered: Sequence[str]
    told_mine: Sequence[str]
    asked_mine: Sequence[str]
    answered_mine: Sequence[str]


TOPICS = {
    "job": Topic(
        "several_words", lambda r, w: r.choice(w.jobs),
        ["{who} makes a living as a {value}.", "By trade {who} is a {value}.", "{who} now works as a {value}."],
        ["What does {who} do for a living?", "Do you remember {who}'s job?"],
        ["{who} is a {value}.", "You said {who} is a {value}."],
        ["I make a living as a {value}.", "By trade I am a {value}."],
        ["What do I do for a living?", "Do you remember my job?"],
        ["You are a {value}.", "You said you are a {value}."],
    ),
    "home": Topic(
        "name", lambda r, w: r.choice(w.cities),
        ["{who} has moved to {value}.", "{value} is where {who} lives.", "{who} rents a flat over in {value}."],
        ["Which city is {who} living in?", "Where would I have to travel to visit {who}?"],
        ["{who} lives in {value}.", "That would be {value}."],
        ["I have moved to {value}.", "{value} is where I live."],
        ["Which city am I living in?", "Where did I say my flat is?"],
        ["You live in {value}.", "That would be {value}."],
    ),
    "birthday": Topic(
        "date", lambda r, w: f"{r.randint(1, 28)} {r.choice(MONTHS)}",
        ["{who}'s birthday is on {value}.", "Every {value} there is cake for {who}.", "{who} was born on {value}."],
        ["When is {who}'s birthday?", "On what date should I congratulate {who}?"],
        ["It is on {value}.", "{who}'s birthday is {value}."],
        ["My birthday is on {value}.", "I was born on {value}."],
        ["When is my birthday?", "On what date was I born?"],
        ["It is on {value}.", "Your birthday is {value}."],
    ),
    "surname": Topic(
        "name", lambda r, w: r.choice(w.surnames),
        ["{who}'s family name is {value}.", "The letterbox of {who} says {value}.", "In full it is {who} {value}."],
        ["What is {who}'s family name?", "How does {who} sign a letter, with what last name?"],
        ["The last name is {value}.", "It is {value}."],
        ["My family name is {value}.", "I sign my letters as {value}."],
        ["What is my family name?", "With what name do I sign letters?"],
        ["Your last name is {value}.", "It is {value}."],
    ),
    "pet": Topic(
        "name", lambda r, w: f"{r.choice(w.names)}",
        ["{who} has got a {pet} named {value}.", "The {pet} at {who}'s place answers to {value}."],
        ["What is {who}'s {pet} called?", "Which name does the {pet} of {who} have?"],
        ["The {pet} is called {value}.", "Its name is {value}."],
        ["I have got a {pet} named {value}.", "My {pet} answers to {value}."],
        ["What is my {pet} called?", "Which name does my {pet} have?"],
        ["Your {pet} is called {value}.", "Its name is {value}."],
    ),
    "meal": Topic(
        "several_words", lambda r, w: f"{r.choice(w.tastes)} {r.choice(w.meals)}",
        ["{who} could eat {value} all week.", "Nothing beats {value}, says {who}.", "For {who} I cook {value}."],
        ["What does {who} like to eat?", "Which dish should I cook for {who}?"],
        ["{who} likes {value}.", "I would go for {value}."],
        ["I could eat {value} all week.", "Nothing beats {value} for me."],
        ["What do I like to eat?", "Which dish is my favourite?"],
        ["You like {value}.", "I would go for {value}."],
    ),
    "number": Topic(
        "number", lambda r, w: str(r.randint(100, 999)),
        ["{who} sits in room {value}.", "You can find {who} behind door {value}.", "Room {value} belongs to {who}."],
        ["What is {who}'s room number?", "Behind which door do I find {who}?"],
        ["{who} is in room {value}.", "It is number {value}."],
        ["I sit in room {value}.", "Room {value} is mine."],
        ["What is my room number?", "Behind which door do I sit?"],
        ["You are in room {value}.", "It is number {value}."],
    ),
    "time": Topic(
        "number", lambda r, w: f"{r.randint(1, 12)}:{r.choice(['05', '10', '15', '20', '30', '40', '45', '50'])}",
        ["{who} comes by at {value}.", "I am to ring {who} at {value}.", "My meeting with {who} starts at {value}."],
        ["At what time is {who} expected?", "When am I talking to {who}?"],
        ["At {value}.", "{who} expects you at {value}."],
        ["My train leaves at {value}.", "I have to catch the train at {value}."],
        ["When does my train leave?", "At what time do I have to catch the train?"],
        ["At {value}.", "Your train leaves at {value}."],
    ),
}  # fmt: skip
NOTED = ["Got it.", "Okay, noted.", "Thanks for telling me.", "I will keep that in mind.", "Good to know."]
CORRECTING = ["Sorry, I mixed that up.", "I have to correct myself.", "Wait, that was wrong."]
UNTOLD = ["You haven't told me that yet.", "I don't know, you haven't told me."]
CHAT = [
    ("Lovely weather this morning, isn't it?", "It does sound pleasant."),
    ("I didn't sleep very well.", "I'm sorry to hear that. Perhaps a nap helps."),
    ("Can you recommend a good book?", "How about a short mystery novel?"),
    ("The traffic was awful today.", "That must have been annoying."),
    ("I'm thinking of repainting the kitchen.", "A light colour makes a room look larger."),
    ("How do I get rid of a coffee stain?", "Cold water and a little soap usually work."),
    ("I finally finished that crossword.", "Well done!"),
    ("What is a good way to relax?", "A slow walk works for many people."),
    ("My phone battery is always empty.", "Dimming the screen may help."),
    ("It's so loud outside.", "Closing the window might be worth a try."),
    ("Do you ever get bored?", "No, there is always something to talk about."),
    ("I should exercise more often.", "Small steps count too."),
]


@dataclass
class Told:
    """A fact as it stands: of whom (None: the user), of which topic."""

    who: str | None
    topic: str
    value: str
    pet: str


@dataclass
class Dialogue:
    """A dialogue while it is being made."""

    random: random.Random
    words: Words
    people: list[str] = field(default_factory=list)
    met: set[str] = field(default_factory=set)
    facts: list[Told] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)
    corrected: Told | None = None
    untold: bool = False

    def say(self, query: str, answer: str, kind: str, facts: Sequence[Any] = ()) -> None:
        self.turns.append({"query": query, "answer": answer, "facts": list(facts), "kind": kind})

    def sentence(self, fact: Told, part: str) -> str:
        topic = TOPICS[fact.topic]
        ways = getattr(topic, part if fact.who else f"{part}_mine")
        return self.random.choice(ways).format(who=fact.who, value=fact.value, pet=fact.pet)

    def free(self) -> list[tuple[str | None, str]]:
        known = {(fact.who, fact.topic) for fact in self.facts}
        return [(w, t) for w in (None, *self.people) for t in TOPICS if (w, t) not in known]

    def tell(self) -> None:
        who, topic = self.random.choice(self.free())
        fact = Told(who, topic, self._value(topic), self.random.choice(PETS))
        opening = ""
        if who and who not in self.met:
            self.met.add(who)
            opening = f"{who} is my {self.random.choice(PEOPLE)}. "
        self.facts.append(fact)
        self.say(opening + self.sentence(fact, "told"), self.random.choice(NOTED), "told")

    def _value(self, topic: str) -> str:
        taken = {fact.value for fact in self.facts} | set(self.people)
        while (value := TOPICS[topic].draw(self.random, self.words)) in taken:
            pass
        return value

    def correct(self) -> None:
        fact = self.random.choice(self.facts)
        fact.value = self._value(fact.topic)
        self.say(f"{self.random.choice(CORRECTING)} {self.sentence(fact, 'told')}", self.random.choice(NOTED), "told")
        self.corrected = fact

    def ask(self) -> None:
        fact = self.random.choice(self.facts)
        kind = "corrected" if fact is self.corrected else TOPICS[fact.topic].kind
        facts: list[Any] = [[fact.value, " ".join(reversed(fact.value.split()))] if kind == "date" else fact.value]
        self.say(self.sentence(fact, "asked"), self.sentence(fact, "answered"), kind, facts)

    def ask_two(self) -> None:
        one, other = self.random.sample(self.facts, 2)
        query = f"{self.sentence(one, 'asked')} {self.sentence(other, 'asked')}"
        answer = f"{self.sentence(one, 'answered')} {self.sentence(other, 'answered')}"
        self.say(query, answer, "two_facts", [one.value, other.value])

    def ask_untold(self) -> None:
        who, topic = self.random.choice([(w, t) for w, t in self.free() if w is None or w in self.met])
        fact = Told(who, topic, "", self.random.choice(PETS))
        self.untold = True
        self.say(self.sentence(fact, "asked"), self.random.choice(UNTOLD), "untold", ["haven't told me"])

    def chat(self) -> None:
        self.say(*self.random.choice(CHAT), "small_talk")


def make(rng: random.Random, words: Words) -> dict[str, Any]:
    """A row: 6 to 12 turns, the first of which tells something."""
    made = Dialogue(rng, words, people=rng.sample(list(words.names), rng.choice([1, 2, 2, 3])))
    made.tell()
    for _ in range(rng.randint(5, 11)):
        ways: list[tuple[float, Callable[[], None]]] = [(0.5, made.ask), (0.12, made.chat)]
        ways += [(0.3 if len(made.facts) < 5 else 0.0, made.tell), (0.05, made.correct)]
        ways += [(0.07 if len(made.facts) > 1 else 0.0, made.ask_two), (0.0 if made.untold else 0.06, made.ask_untold)]
        rng.choices([way for _, way in ways], [weight for weight, _ in ways])[0]()
    first, *rest = made.turns
    return {**first, "interactions": rest}


def main(folder: Path, rows: int, held_out: int, seed: int) -> None:
    """Write the three files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, count, words) in enumerate(
        [("train", rows, KNOWN_WORDS), ("known", held_out, KNOWN_WORDS), ("unseen", held_out, NEW_WORDS)]
    ):
        rng = random.Random(f"{seed} {number}")
        lines = (json.dumps(make(rng, words), ensure_ascii=False) for _ in range(count))
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--held-out", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    main(given.output_dir, given.rows, given.held_out, given.seed)
