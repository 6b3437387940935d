"""Episodes whose turns keep to one topic or leave it: what the strategies of memory reinforcement learning ask for.

    generator:
      kind: episodes
      topic: extend   # or change; default: mixed
      steps: 8

    mixed    people and things come and go, every turn may ask (`data.generators.episodes`)
    extend   cumulative: every turn tells something more of one topic or asks for something that was told, and the last
             question asks for all of it. The topic is a person or a thing; once all is said of it, another one of that
             family (or another thing of that kind) joins it
    change   long-term: every turn after the first is about something else, small talk or a statement about somebody who
             isn't named before or after; only the last question goes back to the first turn, so its distance is `steps`

Told in small talk's place or not at all: with extend there is neither small talk nor a statement that overwrites one,
with change nothing is asked before the end. Beyond `facts` and `entities`, extend asks and change takes to small talk;
no small talk is said twice in such an episode, so where all of it is used up, statements go on.

`language: rich` has sentences, values and questions of more kinds (`data.generators.rich_language`), `invented: 0.5`
names and values that half of the episodes make up for themselves (`data.generators.invented_words`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import pyarrow as pa

from data.generators.episode_world import PERSON, SMALL_TALK, THING
from data.generators.episodes import SCHEMA, Episode, EpisodeOptions, batches
from data.generators.invented_words import with_invented_words
from data.generators.rich_language import dialogue as rich
from pipeline.config import parse_config
from pipeline.errors import SettingError
from pipeline.ranges import NonNegativeFloat, Share

UNUSED = {"mixed": (), "extend": ("chat", "change"), "change": ("ask", "change")}
"""Weights of turns that a topic has no place for."""


@dataclass(kw_only=True, frozen=True)
class TopicOptions(EpisodeOptions):
    """What the YAML's `generator:` section may say."""

    topic: Literal["extend", "change", "mixed"] = "mixed"
    """whether all turns are about one thing, each about another, or as it comes"""
    language: Literal["plain", "rich"] = "plain"
    """plain: facts of one or two words, told and asked in two ways; rich: numbers, dates, several words, two facts of
    any sort in one answer, corrections, what the user tells of themselves, questions about what nobody told"""
    untold: NonNegativeFloat | None = None
    """rich: weight of a question about what wasn't told; null: 0.12"""
    invented: Share = 0.0
    """share of episodes whose names and values are words made up for them alone: they can only be copied"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_language()
        usual = {field.name: field.default for field in fields(self)}
        for name in UNUSED[self.topic]:
            if getattr(self, name) not in (0, usual[name]):
                raise SettingError(
                    name, f"{name} is {getattr(self, name)}, but topic: {self.topic} has no such turns; leave it out"
                )
        if self.topic == "extend" and self.likeness != usual["likeness"]:
            raise SettingError(
                "likeness",
                f"likeness is {self.likeness}, but with topic: extend whoever joins is of the first one's family or "
                "kind; leave it out",
            )

    def _check_language(self) -> None:
        if self.language == "rich" and self.topic != "mixed":
            raise SettingError(
                "topic", f"topic is {self.topic}, but rich language has mixed topics alone; leave it out"
            )
        if self.language == "rich" and self.rival:
            raise SettingError("rival", "rival has no effect with language: rich; leave it out")
        if self.language == "plain" and self.untold is not None:
            raise SettingError("untold", "untold needs language: rich; plain episodes ask for what was told alone")

    @property
    def episode(self) -> tuple[type[Episode], pa.Schema]:
        """The class of these episodes and the columns of their rows."""
        return (rich.RichEpisode, rich.SCHEMA) if self.language == "rich" else (EPISODES[self.topic], SCHEMA)


@dataclass
class ExtendingEpisode(Episode):
    """A conversation that stays with one topic and ends with a question about all of it."""

    def row(self) -> dict[str, Any]:
        """Make all turns."""
        last = self.options.steps
        self.tell(0)
        for turn in range(1, last):
            self.middle(turn)
        self.ask_for_all()
        first, *later = self.turns
        return {**first, "interactions": later}

    def middle(self, turn: int) -> None:
        """Something more of the topic, or a question about it."""
        more = len(self.facts) < self.options.facts and any((*map(self.unknown, self.subjects), self.relatives()))
        weights = (self.options.tell * more, self.options.ask)
        if self.random.choices((True, False), weights if any(weights) else (more, not more))[0]:
            self.tell(turn)
        else:
            self.ask(turn, self.random.choice(list(self.facts.values())))

    def subject(self) -> str:
        """Whom or what the next statement is about: the one of the topic of whom something is still to be said."""
        return next(filter(self.unknown, self.subjects), None) or self.new_subject()

    def new_subject(self) -> str:
        """What the topic begins with, or who joins it."""
        if not self.subjects:
            return super().new_subject()
        relative = self.random.choice(self.relatives())
        self.subjects.append(relative)
        if self.subjects[0] in self.things:
            self.things.add(relative)
        return relative

    def relatives(self) -> list[str]:
        """Who may still join the topic: of the family of the first, or of its kind."""
        if len(self.subjects) >= self.options.entities:
            return []
        first = self.subjects[0]
        family = first.split()[-1]
        return [n for n in self.names.alike([first]) if n.split()[-1] == family and n not in self.subjects]

    def ask_for_all(self) -> None:
        """The last question, for every fact: one subject after the other, of each home, job, food and so on.

        Not in the order in which they were told: that would be one more thing to remember, and no question asks for it.
        """
        sorts = [attribute.name for attribute in (*PERSON, *THING)]
        order = sorted(self.facts, key=lambda key: (self.subjects.index(key[0]), sorts.index(key[1])))
        facts = [self.facts[key] for key in order]
        about = " and ".join(f"the {name}" if name in self.things else name for name in self.subjects)
        self.say(f"Tell me about {about}.", " and ".join(fact.value for fact in facts), facts)


@dataclass
class ChangingEpisode(Episode):
    """A conversation that comes back to its first turn only at its end."""

    def row(self) -> dict[str, Any]:
        """Make all turns."""
        last = self.options.steps
        self.small_talk = self.random.sample(SMALL_TALK, len(SMALL_TALK))
        self.tell(0)
        first = list(self.facts.values())
        for turn in range(1, last):
            self.middle(turn)
        self.ask_for(*first)
        turn, *later = self.turns
        return {**turn, "interactions": later}

    def middle(self, turn: int) -> None:
        """Something that has to do with no other turn."""
        free = len(self.facts) < self.options.facts and len(self.subjects) < self.options.entities
        weights = (self.options.tell * free, self.options.chat * bool(self.small_talk))
        if not any(weights):
            weights = (not self.small_talk, bool(self.small_talk))
        if self.random.choices((True, False), weights)[0]:
            self.tell(turn)
        else:
            self.say(*self.small_talk.pop())

    def subject(self) -> str:
        """Every statement is about another one."""
        return self.new_subject()

    def tells_by(self) -> str:
        """Beyond `facts` statements go on where there is nothing else to say."""
        return "facts" if self.small_talk else "steps"


EPISODES = {"mixed": Episode, "extend": ExtendingEpisode, "change": ChangingEpisode}


def generate(options: Mapping[str, Any], entries: int | None, split: str, seed: int) -> Iterator[pa.RecordBatch]:
    """Batches of episodes (see `data.generators.registry.Generator`). Raises InputError for bad options."""
    parsed = parse_config(TopicOptions, dict(options), source="generator")
    made = batches(parsed, entries, split, seed, *parsed.episode)
    return with_invented_words(made, parsed.invented, split, seed) if parsed.invented else made


CHAT = pa.schema([("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))])


def generate_chats(options: Mapping[str, Any], entries: int | None, split: str, seed: int) -> Iterator[pa.RecordBatch]:
    """The same episodes as chat rows (`messages`), for models that read a whole conversation at once."""
    return map(as_chats, generate(options, entries, split, seed))


def as_chats(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch of episodes as one of chat rows."""
    rows = []
    for row in batch.to_pylist():
        turns = [row, *row["interactions"]]
        said = [(role, turn[key]) for turn in turns for role, key in (("user", "query"), ("assistant", "answer"))]
        rows.append({"messages": [{"role": role, "content": text} for role, text in said]})
    return pa.RecordBatch.from_pylist(rows, schema=CHAT)


GENERATORS = {"episodes": generate, "episode_chats": generate_chats}
