"""Rows on disk become conversations: lists of exchanges, each checked, with the place named where one is wrong.

Row forms: `{query, answer, think?, interactions: [{query, answer, think?, facts?, distance?}]}` (the MRL format; with
`rejected` beside `answer` a turn is a pair), `{messages: [{role, content}]}`, `{chosen, rejected, prompt?}` in the
formats of TRL and, for pre-training alone, `{text}`.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from data.sources.carried_facts import mark
from data.sources.folds import in_fold
from data.sources.messages import BadRow, BadRows, MessageOptions, conversation_of
from data.sources.pairs.to_interactions import pair_exchanges
from data.sources.reading import find_files, read_rows
from data.sources.to_episodes import to_exchanges
from mrl.dialogues.facts import Fact, read_facts, settle_marks
from mrl.recipes.data import KIND, RowSource
from pipeline.errors import InputError, shown
from pipeline.hub import first_line, keep_hub_offline_if_unreachable, retrying

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exchange:
    """One interaction in words. `facts`: what its answer has to say; `distance`: turns back to where the
    farthest of them was given (0: none needed, or not known); `distance_given`: whether its row says so, or it was
    derived; `asks`: whether answering takes memory (`mrl.dialogues.facts`); `kind`: the row's name for such questions.
    `query` is None for plain text."""

    query: str | None
    answer: str
    think: str = ""
    facts: tuple[Fact, ...] = ()
    distance: int = 0
    asks: bool = True
    rejected: str = ""
    """Of a pair the answer that is worse than `answer`; empty where there is no pair."""
    rejected_think: str = ""
    quality: str = ""
    """What the rejected answer lacks, where its row says so."""
    distance_given: bool = False
    kind: str = ""


@dataclass(frozen=True)
class Conversation:
    """The exchanges of one row and where it came from."""

    exchanges: tuple[Exchange, ...]
    where: str
    group: str = ""
    source: str = ""
    """Path and subset of the source that the row is from."""


def read_conversations(source: RowSource, counts: Counter[str] | None = None) -> list[Conversation]:
    """All conversations of a source. Raises InputError with file, row and key where a row can't be used.

    counts: takes in how many rows were `read` and what became of them.
    """
    found: list[Conversation] = []
    read = kept = 0
    origin = source.path if source.subset is None else f"{source.path}/{source.subset}"
    bad = BadRows(source.bad_rows)
    for where, row in _rows(source):
        if source.limit is not None and len(found) >= source.limit:
            break
        read += 1
        if all(str(row.get(column)) in wanted for column, wanted in source.where.items()):
            kept += 1
            if source.fold is not None and not in_fold(kept - 1, source.fold):
                continue
            group = str(row.get(source.group_by, "")) if source.group_by else ""
            exchanges = bad.attempt(
                partial(parse_row, row, where, source.conversations, source.facts, source.kind_column)
            )
            if exchanges is not None:
                found.append(Conversation(exchanges, where, group, origin))
    if counts is not None:
        counts.update({"read": read, "kept": len(found), "left out by where": read - kept})
        counts.update({f"left out: {reason}": count for reason, count in bad.counts.items()})
        counts["left out by fold"] += kept - len(found) - bad.counts.total()
    if bad.counts:
        reasons = ", ".join(f"{count} {reason}" for reason, count in bad.counts.most_common())
        logger.warning("%s: %d rows left out (%s)", source.path, bad.counts.total(), reasons)
    if not found:
        raise InputError(f"{_shown(source)}: no rows; check path, subset, split and where")
    return found


def fingerprint(conversations: Sequence[Conversation]) -> str:
    """Twelve hexadecimal digits that change with any word of the data."""
    digest = hashlib.sha256()
    for conversation in conversations:
        turns = [
            (e.query, e.answer, e.think, e.facts, e.distance, e.asks, *filter(None, (e.rejected, e.rejected_think)))
            for e in conversation.exchanges
        ]
        digest.update(repr(turns).encode())
    return digest.hexdigest()[:12]


def _shown(source: RowSource) -> str:
    parts = [source.path, source.subset, f"split {source.split}" if source.split else None]
    return ", ".join(p for p in parts if p)


def _rows(source: RowSource) -> Iterator[tuple[str, dict[str, Any]]]:
    if source.of_hub:
        yield from _hub_rows(source)
        return
    if source.revision is not None:
        raise InputError(f"revision: {source.path} is a local path and has no revisions; leave it out")
    yield from read_rows(find_files(source.query()))


def _hub_rows(source: RowSource) -> Iterator[tuple[str, dict[str, Any]]]:
    from datasets import load_dataset  # slow to import, and needed for the Hub alone

    keep_hub_offline_if_unreachable()
    try:
        rows = retrying(
            lambda: load_dataset(source.path, source.subset, split=source.split or "train", revision=source.revision),
            what=f"reading {source.path}",
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"{source.path}: neither a local path nor a readable Hub dataset ({first_line(error)})"
        ) from None
    yield from ((f"{source.path}: row {i}", dict(row)) for i, row in enumerate(rows))


def parse_row(
    row: Mapping[str, Any],
    where: str,
    conversations: Literal["messages", "sharegpt"] = "messages",
    facts: Literal["as_given", "carried"] = "as_given",
    kind_column: str = KIND,
) -> tuple[Exchange, ...]:
    """The exchanges of one row; conversations and facts as in RowSource. Raises InputError naming the key that is
    missing, empty or of another kind."""
    turns = _turns(row, where, conversations, kind_column)
    # Where nothing is marked every turn asks; an empty list of facts is a mark.
    if facts == "as_given" or turns[0].query is None or not all(t.asks and not t.facts for t in turns):
        return turns
    marked = mark([{"query": t.query, "answer": t.answer} for t in turns])
    return tuple(
        replace(turn, facts=read_facts(found["facts"]) or (), distance=found["distance"], asks=found["distance"] > 0)
        for turn, found in zip(turns, marked, strict=True)
    )


def _turns(
    row: Mapping[str, Any], where: str, conversations: Literal["messages", "sharegpt"], kind_column: str
) -> tuple[Exchange, ...]:
    # A file may hold rows of several forms: each of them then has the columns of all.
    pair = row.get("chosen") is not None or row.get("rejected") is not None
    chat = row.get("messages") is not None or row.get("conversations") is not None
    other = pair or chat or row.get("text") is not None
    if row.get("interactions") is not None or row.get("query") is not None or ("query" in row and not other):
        rest = row.get("interactions")
        rest = [] if rest is None else rest
        if not isinstance(rest, list):
            raise InputError(f"{where}: interactions is a {type(rest).__name__}, expected a list")
        records = [row, *rest]
        prefixes = ["", *(f"interactions[{i}]." for i in range(len(rest)))]
        turns = [_exchange(*each, place, where) for place, each in enumerate(zip(records, prefixes, strict=True))]
        # What a row says of itself holds for its turns, unless they say it one by one.
        whole = "" if any(_label(r, kind_column) for r in rest) else _label(row, kind_column)
        kinds = [_label(record, kind_column) or whole for record in records]
        turns = [replace(e, kind=kind) if kind else e for e, kind in zip(turns, kinds, strict=True)]
        given = [(record.get("facts") is not None, record.get("distance") is not None) for record in records]
        return settle_marks(turns, given)
    if pair:
        return _pair(row, where, conversations)
    if chat:
        options = MessageOptions(conversations=conversations, think="split", last_turn="cut")
        turns = to_exchanges(conversation_of(row, where, options), where)
        return tuple(
            Exchange(turn["query"], turn["answer"], turn["think"] or "", kind=_label(row, kind_column))
            for turn in turns
        )
    if row.get("text") is not None:
        return (Exchange(None, _text(row, "text", where, "")),)
    raise InputError(
        f"{where}: has {', '.join(sorted(row)) or 'no columns'}; expected query, answer and interactions, or messages, "
        "or chosen and rejected, or text"
    )


def _pair(row: Mapping[str, Any], where: str, conversations: Literal["messages", "sharegpt"]) -> tuple[Exchange, ...]:
    """The exchanges of a pair's row; the last one has two answers. Raises BadRow."""
    for column in ("chosen", "rejected"):
        if row.get(column) is None:
            raise BadRow("no pair", f"{where}: {column} is missing; a pair has chosen and rejected")
    options = MessageOptions(conversations=conversations, think="split")
    return tuple(
        Exchange(
            turn["query"],
            turn["answer"],
            turn["think"] or "",
            rejected=turn.get("rejected") or "",
            rejected_think=turn.get("rejected_think") or "",
        )
        for turn in pair_exchanges(row, where, options)
    )


def _label(record: Mapping[str, Any], column: str) -> str:
    """A value that names a group; "" where there is none."""
    value = record.get(column)
    return "" if value is None else str(value)


def _text(record: Any, key: str, where: str, prefix: str) -> str:
    if not isinstance(record, Mapping):
        raise BadRow(
            "with a turn that is no object",
            f"{where}: {prefix.rstrip('.')} is a {type(record).__name__}, expected an object",
        )
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        state = "missing" if value is None else "empty" if isinstance(value, str) else f"a {type(value).__name__}"
        raise BadRow(f"without words in {key}", f"{where}: {prefix}{key} is {state}; give it words or drop the row")
    return value


def _exchange(record: Any, prefix: str, place: int, where: str) -> Exchange:
    """The exchange number `place` of a row, counted from 0."""
    query, answer = (_text(record, key, where, prefix) for key in ("query", "answer"))
    think, facts, distance = (record.get(key) for key in ("think", "facts", "distance"))
    if think is not None and not isinstance(think, str):
        raise BadRow(
            "with a thought that is no text",
            f"{where}: {prefix}think is a {type(think).__name__}; give it words or leave it out",
        )
    if (wanted := read_facts(facts)) is None:
        raise BadRow(
            "with facts of another form",
            f"{where}: {prefix}facts must be a list of strings that the answer has to contain; a list in it holds "
            "spellings of which one is enough",
        )
    if isinstance(distance, float) and distance.is_integer():
        distance = int(distance)  # a column with gaps becomes floats in many tools
    if distance is not None and (isinstance(distance, bool) or not isinstance(distance, int)):
        raise BadRow(
            "with a distance that can't be",
            f"{where}: {prefix}distance is {shown(distance)}; give a number of turns, or leave it out",
        )
    if distance is not None and not 0 <= distance <= place:
        raise BadRow(
            "with a distance that can't be",
            f"{where}: {prefix}distance is {distance}, but {place} turns come before this one; give the number of "
            "turns back to where its facts were said, 0 for none, or leave it out",
        )
    rejected, rejected_think, quality = (record.get(key) or "" for key in ("rejected", "rejected_think", "quality"))
    if not isinstance(rejected, str) or (rejected, rejected_think or "") == (answer, think or ""):
        said = "the same as answer" if isinstance(rejected, str) else f"a {type(rejected).__name__}"
        raise InputError(f"{where}: {prefix}rejected is {said}; give a worse answer, or leave it out")
    return Exchange(
        query, answer, think or "", wanted, distance or 0, rejected=rejected, rejected_think=rejected_think,
        quality=quality, distance_given=distance is not None,
    )  # fmt: skip
