"""What the page does when something is typed, clicked or loaded: a tab's dialogue is changed, then everything that
shows it is shown anew; what can't be done is a word on the page."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from mrl.model import Forced
from mrl.talk import pictures
from mrl.talk.saved import load_session, save_session
from mrl.talk.session import Session
from mrl.talk.speaker import Reply, Speaker
from pipeline.errors import InputError
from pipeline.exits import storage_problem

MOST_SESSIONS = 64
View = tuple[Any, ...]
"""Chat, the page's word, answers side by side, choice of a turn, pictures of the memory."""


class Sessions:
    """The dialogues of all open tabs; of more than MOST_SESSIONS the one used longest ago is dropped."""

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker
        self.lock = threading.Lock()
        self.known: OrderedDict[str, Session] = OrderedDict()

    def of(self, tab: str) -> Session:
        """A tab's dialogue, begun where it has none."""
        with self.lock:
            session = self.known.setdefault(tab, Session(self.speaker))
            self.known.move_to_end(tab)
            while len(self.known) > MOST_SESSIONS:
                self.known.popitem(last=False)
            return session

    def begin(self, tab: str) -> Session:
        """A dialogue anew."""
        with self.lock:
            self.known.pop(tab, None)
        return self.of(tab)


def messages(session: Session, asked: str | None = None, reply: Reply | None = None) -> list[dict[str, Any]]:
    """The dialogue as a chatbot shows it, thoughts folded; `asked` and `reply`: what is being said just now."""
    shown: list[dict[str, Any]] = []
    for turn in session.turns:
        shown += [{"role": "user", "content": turn.query}, *_replied(turn.reply, done=True)]
    if asked is not None and reply is not None:
        shown += [{"role": "user", "content": asked}, *_replied(reply, done=False)]
    return shown


def _replied(reply: Reply, done: bool) -> Iterator[dict[str, Any]]:
    if reply.think:
        status = "done" if done or reply.answer else "pending"
        yield {"role": "assistant", "content": reply.think, "metadata": {"title": "Thought", "status": status}}
    if reply.answer or done:
        cut = " …" if done and not reply.ended else ""
        yield {"role": "assistant", "content": (reply.answer or "(no answer)") + cut}


def view(session: Session, text: str = "", refused: bool = False, extra: str = "") -> View:
    """Everything that shows a dialogue."""
    count = len(session.turns)
    choices = [(f"{k}. {turn.query[:60]}", k) for k, turn in enumerate(session.turns, 1)]
    chosen = gr.Dropdown(choices=choices, value=count or None, interactive=count > 0)
    memory = pictures.memory_pictures(session, count)
    return messages(session), pictures.word(text, refused), extra, chosen, memory


class Handlers:
    """Handlers of one server; the first input of each is the key of the tab. `folder` takes saved files."""

    def __init__(self, speaker: Speaker, name: str, folder: Path) -> None:
        self.sessions, self.name, self.folder = Sessions(speaker), name, folder

    def change(self, tab: str, action: Callable[[Session], tuple[str, str]]) -> View:
        """Do something to a tab's dialogue that gives a word and answers side by side, or a reason why not."""
        session = self.sessions.of(tab)
        try:
            text, extra = action(session)
        except InputError as error:
            return view(session, str(error), refused=True)
        return view(session, text, extra=extra)

    def ask(self, tab: str, message: str, begin: Forced) -> Iterator[View]:
        """A message answered piece by piece. One that is refused stays typed, to be mended."""
        session = self.sessions.of(tab)
        try:
            for reply in session.ask(message, begin):
                yield (gr.skip(), messages(session, message, reply), *[gr.skip()] * 4)
        except InputError as error:
            yield (message, *view(session, str(error), refused=True))
            return
        strange = session.speaker.strange(message)
        yield ("", *view(session, f"The model has {strange}" if strange else ""))

    def show(self, tab: str) -> View:
        return view(self.sessions.of(tab))

    def renew(self, tab: str) -> View:
        return view(self.sessions.begin(tab))

    def undo(self, tab: str) -> View:
        return self.change(tab, lambda session: (f"Taken back: {session.undo()}", ""))

    def reset(self, tab: str) -> View:
        def action(session: Session) -> tuple[str, str]:
            heads = ("with its memory", "memory reset")
            return "", pictures.side_by_side("The same question", heads, [session.reset_answer()])

        return self.change(tab, action)

    def remove(self, tab: str, number: int | None) -> View:
        def action(session: Session) -> tuple[str, str]:
            compared = session.remove(number or 0)
            title = f"Without turn {number}: what came after it, asked again"
            table = pictures.side_by_side(title, ("said then", "said now"), compared) if compared else ""
            return f"Turn {number} is out of the past; the memory was built again without it.", table

        return self.change(tab, action)

    def load(self, tab: str, file: str) -> View:
        def action(session: Session) -> tuple[str, str]:
            load_session(session, Path(file))
            return f"{Path(file).name}: {len(session.turns)} turns, and the memory they left.", ""

        return self.change(tab, action)

    def dialogue(self, tab: str, file: str, row: float | None) -> View:
        def action(session: Session) -> tuple[str, str]:
            if row is None or row != int(row) or row < 1:
                raise InputError("row: give a whole number from 1 on")
            session.load_dialogue(Path(file), int(row))
            return f"{Path(file).name}, row {int(row)}: {len(session.turns)} turns written into the memory.", ""

        return self.change(tab, action)

    def save(self, tab: str) -> tuple[Any, str]:
        """A file of the dialogue, and a word."""
        path = self.folder / f"{self.name}-dialogue.safetensors"
        try:
            save_session(self.sessions.of(tab), path)
        except OSError as error:
            return gr.skip(), pictures.word(storage_problem(error) or f"{error.strerror}", refused=True)
        return str(path), pictures.word(f"Saved: {path.name}")

    def look(self, tab: str, number: int | None) -> str:
        """The pictures of another turn."""
        session = self.sessions.of(tab)
        there = number if number and number <= len(session.turns) else len(session.turns)
        return pictures.memory_pictures(session, there)
