"""A dialogue as one file: the memory as safetensors, the turns as JSON in the file's header.

`MemoryState.load` reads such a file too. The turns hold the tokens that were written, so that reading it back builds
the memory anew and finds out whether the file is what it says.
"""

import json
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError

from mrl.model import MemoryState
from mrl.talk.session import Session
from mrl.talk.speaker import Reply, Speaker
from pipeline.artifact import writing
from pipeline.errors import InputError

FORMAT = "trlm-dialogue-1"
TOLERANCE = 1e-3
"""Of a memory built anew on another machine, relative to its largest number."""


class SavedTurn(BaseModel):
    """A turn on disk. reply: ids from the first marker on; think and answer are for people to read."""

    model_config = ConfigDict(strict=True, extra="forbid")
    query: str
    think: str
    answer: str
    reply: Annotated[list[int], Field(min_length=2)]


_TURNS = TypeAdapter(list[SavedTurn])


def save_session(session: Session, path: Path) -> None:
    """Write a dialogue; a reader sees the old file or the new, never a part."""
    turns = [
        SavedTurn(query=t.query, think=t.reply.think, answer=t.reply.answer, reply=list(t.reply.ids))
        for t in session.turns
    ]
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            history = json.dumps([turn.model_dump() for turn in turns], ensure_ascii=False)
            session.state.save(temporary, format=FORMAT, model=session.speaker.fingerprint, history=history)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_session(session: Session, path: Path) -> None:
    """Go on with a saved dialogue. Raises InputError, and leaves the session as it is, for a file that is broken, of
    another model, or whose memory doesn't follow from its turns."""
    state, notes = _read(path)
    if notes.get("format") != FORMAT:
        raise InputError(f"{path.name} is no dialogue saved here (format {notes.get('format')}, expected {FORMAT})")
    if notes.get("model") != session.speaker.fingerprint:
        raise InputError(f"{path.name} was saved with another model: open it with the one it was saved with")
    try:
        turns = _TURNS.validate_json(notes.get("history", ""))
        played = [(turn.query, _reply(session.speaker, turn), None) for turn in turns]
    except (ValidationError, InputError, ValueError):
        raise InputError(f"{path.name} is damaged: its turns can't be read; use another copy") from None
    fresh = Session(session.speaker)
    fresh.replay(played)
    if not _same(fresh.state, state):
        raise InputError(f"{path.name} is damaged: its memory doesn't follow from its turns; use another copy")
    session.replay(played)


def _read(path: Path) -> tuple[MemoryState, dict[str, str]]:
    try:
        return MemoryState.load(path)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (SafetensorError, ValueError, OSError, RuntimeError):
        raise InputError(f"{path.name} can't be read as a saved dialogue: it is broken or of another kind") from None


def _reply(speaker: Speaker, turn: SavedTurn) -> Reply:
    """The reply again. Raises ValueError where tokens and words differ, or are none of this model's."""
    frame, begun = speaker.frame, tuple(turn.reply)
    room = speaker.limit - len(speaker.prompt(turn.query))
    known = all(0 <= token < speaker.model.config.vocab_size for token in turn.reply)
    if (
        not known
        or len(turn.reply) > room
        or not any(begun[: len(marker)] == marker for marker in (frame.answer, frame.think))
    ):
        raise ValueError("no reply of this model")
    reply = speaker.read(turn.reply)
    if (reply.think, reply.answer) != (turn.think, turn.answer):
        raise ValueError("words and tokens differ")
    return reply


def _same(built: MemoryState, saved: MemoryState) -> bool:
    ours, theirs = built.slots.cpu().float(), saved.slots.float()
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=0, atol=TOLERANCE * float(ours.abs().max()))
