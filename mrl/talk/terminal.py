"""The dialogue in a terminal: messages are answered, a line that begins with / does something to the dialogue."""

from collections.abc import Callable, Iterator
from pathlib import Path

from torch import Tensor

from mrl.model import Forced
from mrl.talk.saved import load_session, save_session
from mrl.talk.session import Comparison, Session
from mrl.talk.world import World
from pipeline.errors import InputError

HELP = """\
/reset           the last question put to a memory in which nothing was written
/undo            take back the last turn
/forget N        take turn N out of the past and see what is still known
/memory          what each turn moved and what its answer read, by layer
/save FILE       the dialogue as a file; /load FILE goes on with it
/dialogue FILE [ROW]  begin anew with a dialogue of a JSONL
/new             begin anew
/quit            or Ctrl-D"""
SHADES = " ░▒▓█"


class Terminal:
    """Reads lines with `ask` (`input` by default) and prints until they end."""

    def __init__(self, session: Session, beginning: Forced, world: World | None, ask: Callable[[str], str] = input):
        self.session, self.beginning, self.world, self.ask = session, beginning, world, ask
        self.actions: dict[str, Callable[[list[str]], str]] = {
            "help": lambda _: HELP,
            "reset": lambda _: compared([self.session.reset_answer()]),
            "undo": lambda _: f"taken back: {self.session.undo()}",
            "forget": self._forget,
            "memory": lambda _: pictures(self.session),
            "save": self._save,
            "load": self._load,
            "dialogue": self._dialogue,
            "new": self._new,
        }

    def run(self) -> None:
        """Until /quit or the end of the input."""
        if self.world:
            print(self.world.description + "\nFor example:\n" + "\n".join(f"  {e}" for e in self.world.examples))
        print("/help says what else there is")
        for line in self._lines():
            try:
                if line.startswith("/"):
                    print(self._act(*line[1:].split()))
                else:
                    self._answer(line)
            except InputError as error:
                print(f"! {error}")

    def _lines(self) -> Iterator[str]:
        while True:
            try:
                line = self.ask("> ").strip()
            except EOFError:
                return
            if line == "/quit":
                return
            yield line

    def _answer(self, message: str) -> None:
        if strange := self.session.speaker.strange(message):
            print(f"! {strange}")
        shown, thought = "", ""
        for reply in self.session.ask(message, self.beginning):
            if reply.think and reply.think != thought:
                print(("(" if not thought else "") + reply.think[len(thought) :], end="", flush=True)
                thought = reply.think
            if reply.answer and reply.answer != shown:
                print((")\n" if thought and not shown else "") + reply.answer[len(shown) :], end="", flush=True)
                shown = reply.answer
        turn = self.session.turns[-1]
        print("" if turn.reply.ended else " …")
        print(footer(self.session))

    def _act(self, name: str = "help", *arguments: str) -> str:
        if name not in self.actions:
            raise InputError(f"/{name} is nothing to do here; /help lists what is")
        return self.actions[name](list(arguments))

    def _forget(self, arguments: list[str]) -> str:
        if len(arguments) != 1 or not arguments[0].isdecimal():
            raise InputError("/forget takes the number of a turn")
        return compared(self.session.remove(int(arguments[0]))) or "no turn came after it"

    def _save(self, arguments: list[str]) -> str:
        path = one_file(arguments, "/save")
        try:
            save_session(self.session, path)
        except OSError as error:
            raise InputError(f"{path} can't be written: {error.strerror}") from None
        return f"saved: {path}"

    def _load(self, arguments: list[str]) -> str:
        load_session(self.session, one_file(arguments, "/load"))
        return transcript(self.session)

    def _dialogue(self, arguments: list[str]) -> str:
        *name, row = arguments if len(arguments) == 2 else [*arguments, "1"]
        if not row.isdecimal() or row == "0":
            raise InputError("/dialogue takes a file and the number of a row, from 1")
        self.session.load_dialogue(one_file(name, "/dialogue"), int(row))
        return transcript(self.session)

    def _new(self, _: list[str]) -> str:
        self.session = Session(self.session.speaker)
        return "begun anew"


def one_file(arguments: list[str], command: str) -> Path:
    """The file that a command names. Raises InputError for none or several."""
    if len(arguments) != 1:
        raise InputError(f"{command} takes one file")
    return Path(arguments[0])


def compared(comparisons: list[Comparison]) -> str:
    """Answers from two memories under each other."""
    lines = []
    for c in comparisons:
        lines += [f"{c.turn}. {c.query}", f"   then: {c.before}", f"   now:  {c.after}"]
    return "\n".join(lines)


def transcript(session: Session) -> str:
    """All that was said."""
    return "\n".join(f"{k}. {t.query}\n   {t.reply.answer}" for k, t in enumerate(session.turns, 1))


def footer(session: Session) -> str:
    """A turn's sizes and times in one line."""
    turn = session.turns[-1]
    first = "" if turn.reply.first_ms is None else f" · first token {turn.reply.first_ms:.1f} ms"
    whole = "" if turn.history_ms is None else f", reading everything again {turn.history_ms:.1f} ms"
    return (
        f"  [memory {session.state_bytes:,} bytes, a cache of the history {session.cache_bytes(turn):,}{first}{whole}]"
    )


def pictures(session: Session) -> str:
    """By turn: a row a layer, a character a slot, as dark as it was moved and as its answer read it."""
    lines = []
    for k, turn in enumerate(session.turns, 1):
        lines.append(f"{k}. {turn.query}")
        for layer, moved, read in zip(session.layers, turn.moved, turn.read, strict=True):
            lines.append(f"   layer {layer}: moved |{shades(moved)}|  read |{shades(read)}|")
    return "\n".join(lines) or "nothing was said yet"


def shades(values: Tensor) -> str:
    """Characters by value, the largest the darkest."""
    top = float(values.max()) or 1.0
    return "".join(SHADES[round(float(v) / top * (len(SHADES) - 1))] for v in values)
