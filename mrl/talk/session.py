"""One person's dialogue: its turns, the memory before and after each, and what can be done to its past.

Every change is made on the side and put in place when it is whole: a reply that breaks off, or a turn that can't be
encoded, leaves the dialogue as it was.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mrl.dialogues.dataset import RowSource, read_conversations
from mrl.dialogues.tokenization import encode_dialogues
from mrl.model import Forced, MemoryState
from mrl.talk.speaker import Reply, Speaker
from mrl.talk.traces import cache_bytes, full_history_ms, slots_moved, slots_read
from pipeline.errors import InputError

MOST_TIMED = 4096
"""Reading a longer history once more, to time it, would take longer than the answer did."""


@dataclass(frozen=True, eq=False)
class Turn:
    """One interaction that was written: the message, the reply, and what the memory did.

    ids: the interaction's tokens; moved and read [R, S] (`mrl.talk.traces`); history_tokens: all tokens up to the point
    where the reply began; history_ms: what reading those took, None where it wasn't timed.
    """

    query: str
    reply: Reply
    ids: tuple[int, ...]
    moved: Tensor
    read: Tensor
    history_tokens: int
    history_ms: float | None = None


@dataclass(frozen=True)
class Comparison:
    """One question answered from two memories."""

    turn: int
    query: str
    before: str
    after: str


class Session:
    """A dialogue with its memory. turns[k] was answered from states[k] and written into states[k + 1]."""

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker
        self.turns: list[Turn] = []
        self.states: list[MemoryState] = [speaker.model.initial_state(1).detach()]

    @property
    def state(self) -> MemoryState:
        """What is in memory now."""
        return self.states[-1]

    @property
    def layers(self) -> list[int]:
        """Layers that read the memory, from 1: what the rows of a turn's `moved` and `read` are called."""
        return [layer + 1 for layer in self.speaker.model.config.reading_layers]

    @property
    def state_bytes(self) -> int:
        """Size of the memory, the same before every turn."""
        return self.state.slots.nbytes

    def cache_bytes(self, turn: Turn) -> int:
        """Size of the cache with which a decoder that keeps the whole history would begin this turn's reply."""
        return cache_bytes(self.speaker.model.config, turn.history_tokens, self.state.slots.element_size())

    def ask(self, message: str, beginning: Forced = "answer") -> Iterator[Reply]:
        """Answer a message piece by piece; with the last piece the interaction is written. Raises InputError for a
        message that can't be put to the model."""
        prompt = self.speaker.prompt(message)
        reply = None
        for reply in self.speaker.speak(prompt, self.state, beginning, len(self.turns)):
            yield reply
        assert reply is not None, "a prompt leaves room for a reply"
        said = [token for turn in self.turns for token in turn.ids] + [*prompt, *self._marker(reply)]
        timed = full_history_ms(self.speaker.model, said) if len(said) <= MOST_TIMED else None
        self._put(*self._played(self.turns, self.states, [(message, reply, timed)]))

    def reset_answer(self) -> Comparison:
        """The last question put to a memory in which nothing was ever written. Raises InputError without one."""
        turn = self._turn(len(self.turns))
        other = self._again(turn, self.states[0], len(self.turns) - 1)
        return Comparison(len(self.turns), turn.query, turn.reply.answer, other)

    def undo(self) -> str:
        """Take back the last turn; returns its message. Raises InputError where there is none."""
        message = self._turn(len(self.turns)).query
        self._put(self.turns[:-1], self.states[:-1])
        return message

    def remove(self, number: int) -> list[Comparison]:
        """Take turn `number` (from 1) out of the past: the memory is built again from the other turns, as they were
        said. Returns the messages after it with what was answered and what would be now. Raises InputError for a turn
        that there isn't."""
        self._turn(number)
        place = number - 1
        later = [(turn.query, turn.reply, None) for turn in self.turns[number:]]
        turns, states = self._played(self.turns[:place], self.states[:number], later)
        compared = []
        for k, turn in enumerate(turns[place:], start=place):
            now = self._again(turn, states[k], k)
            compared.append(Comparison(k + 1, turn.query, turn.reply.answer, now))
        self._put(turns, states)
        return compared

    def load_dialogue(self, path: Path, row: int = 1) -> None:
        """Begin anew with the dialogue in row `row` (from 1) of a file, its answers as the file has them. Raises
        InputError for rows that are no dialogue, or too long."""
        try:
            conversations = read_conversations(RowSource(path=str(path), limit=row))
        except InputError as error:
            # Where a page keeps what was uploaded says nothing to the person who did.
            raise InputError(str(error).replace(f"{path.parent}/", "")) from None
        if row > len(conversations):
            raise InputError(f"{path.name}: row {row} was asked for, but there are {len(conversations)}")
        exchanges = conversations[row - 1].exchanges
        if any(exchange.query is None for exchange in exchanges):
            raise InputError(f"{path.name}: row {row} is plain text; give rows with query and answer, or messages")
        encoded = encode_dialogues(
            [conversations[row - 1]], self.speaker.tokenizer, max_length=self.speaker.limit, too_long="refuse",
            where=path.name,
        )  # fmt: skip
        played = []
        for exchange, begin, end in zip(exchanges, encoded.start[:-1], encoded.start[1:], strict=True):
            message = exchange.query or ""
            ids = encoded.tokens[begin:end].tolist()
            played.append((message, self.speaker.read(ids[len(self.speaker.prompt(message)) :]), None))
        self.replay(played)

    def replay(self, played: Sequence[tuple[str, Reply, float | None]]) -> None:
        """Begin anew with these messages and replies, written one after the other."""
        self._put(*self._played([], self.states[:1], played))

    def _put(self, turns: Sequence[Turn], states: Sequence[MemoryState]) -> None:
        self.turns, self.states = list(turns), list(states)

    def _turn(self, number: int) -> Turn:
        if not self.turns:
            raise InputError("nothing was said yet: there is no turn to go back to")
        if not 1 <= number <= len(self.turns):
            raise InputError(f"there is no turn {number}; choose one of 1 to {len(self.turns)}")
        return self.turns[number - 1]

    def _again(self, turn: Turn, state: MemoryState, place: int) -> str:
        """What the model says to a turn's message from another memory."""
        beginning: Forced = "think" if self._marker(turn.reply) == self.speaker.frame.think else "answer"
        *_, reply = self.speaker.speak(self.speaker.prompt(turn.query), state, beginning, place)
        return reply.answer

    def _marker(self, reply: Reply) -> tuple[int, ...]:
        """The tokens that a reply begins with before its first word or thought."""
        think = self.speaker.frame.think
        return think if reply.ids[: len(think)] == think else self.speaker.frame.answer

    @torch.inference_mode()
    def _played(
        self,
        turns: Sequence[Turn],
        states: Sequence[MemoryState],
        more: Sequence[tuple[str, Reply, float | None]],
    ) -> tuple[list[Turn], list[MemoryState]]:
        """Turns and states with `more` (message, reply, history_ms) written after them."""
        turns, states = list(turns), list(states)
        model, frame = self.speaker.model, self.speaker.frame
        for message, reply, timed in more:
            prompt = self.speaker.prompt(message)
            ids = (*prompt, *reply.ids)
            state = model.write(states[-1], torch.tensor([ids], device=model.device))
            # The positions whose next tokens are the answer; of a thought that never ended, all of it.
            words = frame.parts(list(reply.ids))[1]
            begin = len(prompt) + (len(reply.ids) - len(words) - 1 if words else 0)
            read = slots_read(model, ids, states[-1], begin, max(begin + 1, len(ids) - 1))
            before = sum(len(turn.ids) for turn in turns)
            moved = slots_moved(states[-1], state)[: len(read)]  # below the layers, windows to copy from
            begun = before + len(prompt) + len(self._marker(reply))
            turns.append(Turn(message, reply, ids, moved, read, begun, timed))
            states.append(state)
        return turns, states
