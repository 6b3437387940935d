"""Answering: batched sampling with log-probs for training, and streaming for people.

generate_answers(input_ids, attention_mask=None, state=None, *, max_new_tokens=64, max_think_tokens=64,
                 forced="answer", sampling=Sampling(), generator=None, seeds=None, stop=None) -> Answers
interact(tokenizer, query, state, ...) yields text, then writes the interaction and returns the new state
Dialogue(model, tokenizer).ask(query) does the same and keeps the state; `model.dialogue(tokenizer)` makes one where
only the checkpoint is at hand:

    talk = model.dialogue(tokenizer)
    while query := input("> "):
        for piece in talk.ask(query):
            print(piece, end="", flush=True)
        print()
"""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .conversation import join_rows, take_rows
from .decoding import prefill, step
from .memory_state import MemoryState
from .sampling import FORCED, Sampling, Think, draw, only, uniforms

if TYPE_CHECKING:
    from .modeling_reactive import ReactiveForCausalLM


@dataclass
class Answers:
    """A batch of answers, right-padded, their thoughts included. Forced tokens ([A] or [T] at the start, the [A] that
    closes a thought at its limit) are part of the ids but not sampled; a first token that was chosen is.

    ids [B, n]; mask [B, n] 1 on answer tokens, the end token included; sampled [B, n] bool, True where the model
    chose; log_probs [B, n] fp32 under the sampled distribution, 0 elsewhere; finished [B] bool: ended by itself;
    thought [B]: tokens before [A], [T] included, 0 where there is no thought; cut [B] bool: the thought was closed at
    its limit, or the end token came inside it.
    """

    ids: Tensor
    mask: Tensor
    sampled: Tensor
    log_probs: Tensor
    finished: Tensor
    thought: Tensor
    cut: Tensor


class AnswerGeneration:
    """Inference methods of `ReactiveForCausalLM`."""

    def _stop_tokens(self: "ReactiveForCausalLM", stop: int | Iterable[int] | None) -> Tensor:
        stop = self.config.eos_token_id if stop is None else stop
        listed = [] if stop is None else [stop] if isinstance(stop, int) else list(stop)
        return torch.tensor(listed, dtype=torch.long, device=self.device)

    def generate_answers(
        self: "ReactiveForCausalLM",
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        state: MemoryState | None = None,
        *,
        max_new_tokens: int = 64,
        max_think_tokens: int = 64,
        forced: str | int | None = "answer",
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
        seeds: list[int] | None = None,
        stop: int | Iterable[int] | None = None,
    ) -> Answers:
        """Answer queries [B, T] (`[BOS][Q]query`, padded on either side), each read against its row of the state.

        max_new_tokens counts the forced token; a row also ends at max_interaction_length tokens. forced: "answer"
        [A], "think" [T], "auto" (drawn from these two; the likelier when greedy), a token id, or None. A thought is no
        part of max_new_tokens: [A] closes it after max_think_tokens, or where an answer of max_new_tokens (or half of
        the interaction's room, if that is less) would no longer fit. stop: end tokens, by default the configuration's;
        () for none. Randomness comes from `seeds` (one a row), `generator` or torch's own.
        Raises ValueError for an empty query or one that leaves no room for an answer.
        """
        sampling = sampling or Sampling()
        present = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if not bool(present.any(1).all()):
            raise ValueError("generate_answers got a row without a token: every query needs at least [BOS][Q]")
        ids, mask, _ = take_rows(input_ids, present.bool())
        if ids.shape[1] >= self.config.max_interaction_length:
            raise ValueError(
                f"a query of {ids.shape[1]} tokens leaves no room for an answer within max_interaction_length "
                f"{self.config.max_interaction_length}: shorten it"
            )
        # In the precision of the weights: the packed products of a step write into buffers, which autocast leaves as
        # they are while it casts the attention between them.
        state = None if state is None else state.to(dtype=self.dtype)
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            run = _Run(
                self,
                ids,
                mask,
                state,
                max_new_tokens,
                self._stop_tokens(stop),
                self._thinking(forced, max_think_tokens),
            )
            numbers = None if sampling.greedy else uniforms(ids.shape[0], run.room, generator, seeds, ids.device)
            run.begin(forced, numbers, sampling)
            while run.column < run.room and not run.done():
                run.feed(*draw(run.logits(), run.numbers(numbers), sampling))
        return run.answers()

    def _thinking(self: "ReactiveForCausalLM", forced: str | int | None, max_think_tokens: int) -> int | None:
        """Most tokens of a thought after [T]; None where there can't be one."""
        return max_think_tokens if forced in ("think", "auto", self.config.think_token_id) else None

    def check_tokenizer(self: "ReactiveForCausalLM", tokenizer) -> None:
        """Raise ValueError unless the tokenizer knows the turn tokens under the configured ids."""
        config = self.config
        for kind in ("query", "answer", "think"):
            name, expected = getattr(config, f"{kind}_token"), getattr(config, f"{kind}_token_id")
            found = tokenizer.convert_tokens_to_ids(name)
            if found != expected:
                raise ValueError(
                    f"the tokenizer has {name} as {found}, the model's configuration as {expected}: use the tokenizer "
                    "that was saved with the model"
                )

    def dialogue(self: "ReactiveForCausalLM", tokenizer, state: MemoryState | None = None) -> "Dialogue":
        """A conversation that keeps its state: for chat loops."""
        return Dialogue(self, tokenizer, state)

    @torch.inference_mode()
    def interact(
        self: "ReactiveForCausalLM",
        tokenizer,
        query: str,
        state: MemoryState,
        *,
        max_new_tokens: int = 128,
        max_think_tokens: int = 64,
        think: Think = "never",
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
    ) -> Generator[str, None, MemoryState]:
        """Answer one query of one dialogue (a state of one row): yields text as it comes.

        Only when the whole answer is out is the interaction written; the new state is the generator's return value
        (`state = yield from ...`; `Dialogue` keeps it). A thought is yielded too, on a line of its own before the
        answer, and is written with it. sampling: greedy by default. A consumer who stops early leaves the memory as it
        was. Raises ValueError for an empty query or another word than those of `Think`.
        """
        if think not in FORCED:
            raise ValueError(f"think is {think!r}; choose one of {', '.join(FORCED)}")
        if not query.strip():
            raise ValueError("the query is empty: there is nothing to answer")
        self.check_tokenizer(tokenizer)
        config, sampling = self.config, sampling or Sampling(temperature=0.0)
        # Somebody who types "[A]" has not ended the question; training reads it as text as well.
        text = tokenizer(query, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        prompt = [config.bos_token_id, config.query_token_id, *text]
        prompt = [token for token in prompt if token is not None]
        if len(prompt) >= config.max_interaction_length:
            raise ValueError(
                f"a query of {len(prompt)} tokens leaves no room for an answer within max_interaction_length "
                f"{config.max_interaction_length}: shorten it"
            )
        ids = torch.tensor([prompt], device=self.device)
        thinking = self._thinking(FORCED[think], max_think_tokens)
        run = _Run(self, ids, torch.ones_like(ids), state, max_new_tokens, self._stop_tokens(None), thinking)
        numbers = None if sampling.greedy else uniforms(1, run.room, generator, None, ids.device)
        run.begin(FORCED[think], numbers, sampling)
        shown = ""
        while run.column < run.room and not run.done():
            run.feed(*draw(run.logits(), run.numbers(numbers), sampling))
            run.settle()
            spoken = self._spoken(tokenizer, run.ids[0, : run.column].tolist())
            if not spoken.endswith("\ufffd") and len(spoken) > len(shown):
                yield spoken[len(shown) :]
                shown = spoken
        answers = run.answers()
        rest = self._spoken(tokenizer, answers.ids[0].tolist())[len(shown) :]
        if rest:  # the answer was cut off in the middle of a character
            yield rest
        ids, mask, _ = join_rows(ids, None, answers.ids, answers.mask)
        return self.write(state, ids, mask)

    def _spoken(self: "ReactiveForCausalLM", tokenizer, said: list[int]) -> str:
        """The words of an answer, those of its thought on a line before."""
        if said[0] != self.config.think_token_id or self.config.answer_token_id not in said:
            return tokenizer.decode(said, skip_special_tokens=True)
        end = said.index(self.config.answer_token_id)
        thought, answer = (tokenizer.decode(part, skip_special_tokens=True) for part in (said[:end], said[end:]))
        return f"{thought}\n{answer}"


class _Run:
    """One batch being answered: the cache of the rows still open, and the tokens of all.

    Rows that have ended run along until a quarter of the batch has, then leave it; what they said after their end is
    cut off at the very end, so a step pays for no bookkeeping but one comparison.
    """

    def __init__(
        self, model, ids: Tensor, mask: Tensor, state: MemoryState | None, longest: int, stop: Tensor,
        thinking: int | None,
    ):  # fmt: skip
        room = longest if thinking is None else 1 + thinking + longest
        rows, self.model, self.longest, self.room = ids.shape[0], model, longest, room
        self.stop = stop
        hidden, self.cache = prefill(model, ids, mask, state, room, last_only=True)
        lengths = mask.sum(1)
        last = ids.gather(1, (mask.sum(1) - 1)[:, None])
        self._logits = model.logits(hidden, last, self.cache.windows)[:, 0]
        self.pending: Tensor | None = None
        self.column = self.forced = 0
        # How many tokens each row may add; told apart from `room` only where the limit really binds.
        self.allowed = (model.config.max_interaction_length - lengths).clamp(max=room)
        self.limits = self.allowed if bool((self.allowed < room).any()) else None
        # The place at which [A] closes each row's thought; open: rows inside one.
        answer = torch.minimum(self.allowed // 2, torch.full_like(self.allowed, longest))
        self.closing = None if thinking is None else (self.allowed - answer).clamp(1, 1 + thinking)
        self.close_at, self.open = self.closing, None
        self.alive: Tensor | None = None
        self.ended = torch.zeros(rows, dtype=torch.bool, device=ids.device)
        self.said: list[tuple[Tensor, Tensor | None]] = []
        self.ids = torch.full((rows, room), model.config.pad_token_id or 0, device=ids.device)
        self.log_probs = torch.zeros(rows, room, device=ids.device)
        self.check_every = 1 if ids.device.type == "cpu" else 8

    def logits(self) -> Tensor:
        """Logits [alive, V] of the next token; a token fed before is run through the model once."""
        if self.pending is not None:
            self._logits, self.pending = step(self.model, self.pending, self.cache), None
        return self._logits

    def begin(self, forced: str | int | None, numbers: Tensor | None, sampling: Sampling) -> None:
        """The first token of every row: forced, or with "auto" drawn from [A] and [T]."""
        config = self.model.config
        tokens = {"answer": config.answer_token_id, "think": config.think_token_id}
        if forced == "auto":
            self.feed(*draw(only(self.logits(), list(tokens.values())), self.numbers(numbers), sampling))
        elif forced is not None:
            self.feed(torch.full_like(self.allowed, int(tokens.get(forced, forced))), None)

    def _follow_thoughts(self, token: Tensor) -> Tensor:
        """Close the thoughts that have reached their limit; an answer's own limit counts from its [A]."""
        config, place = self.model.config, self.column
        if self.open is None or self.limits is None:
            self.open = token == config.think_token_id
            self.limits = torch.where(self.open, self.allowed, self.allowed.clamp(max=self.longest))
            return token
        token = token.masked_fill(self.open & (self.close_at == place), config.answer_token_id)
        closed = self.open & (token == config.answer_token_id)
        self.limits = torch.where(closed, self.limits.clamp(max=place + self.longest), self.limits)
        self.open = self.open & ~closed
        return token

    def numbers(self, uniform: Tensor | None) -> Tensor | None:
        """This step's random numbers [alive] out of [rows, room]."""
        if uniform is None:
            return None
        return uniform[:, self.column] if self.alive is None else uniform[self.alive, self.column]

    def feed(self, token: Tensor, log_prob: Tensor | None) -> None:
        """Append a token [alive] to every open row (log_prob None = forced, only before the first sampled one)."""
        if self.close_at is not None:
            token = self._follow_thoughts(token)
        self.said.append((token, log_prob))
        self.column += 1
        if log_prob is None:
            self.forced += 1
        elif self.stop.shape[0] == 1:
            self.ended |= token == self.stop
        elif self.stop.shape[0]:
            self.ended |= torch.isin(token, self.stop)
        if self.limits is not None:
            self.ended |= self.limits == self.column
        self.pending = token

    def done(self) -> bool:
        """Whether every row has ended; drops ended rows from the batch once they are a quarter of it."""
        if self.column % self.check_every or (self.limits is None and not self.stop.shape[0]):
            return False
        rows = self.ended.shape[0]
        ended = int(self.ended.sum())
        if ended == rows:
            return True
        if 4 * ended >= rows:
            self.settle()
            kept = (~self.ended).nonzero().squeeze(1)
            self.cache.select(kept)
            self.alive = kept if self.alive is None else self.alive[kept]
            self.ended = self.ended[kept]
            self.pending = None if self.pending is None else self.pending[kept]
            self.limits = None if self.limits is None else self.limits[kept]
            self.open = None if self.open is None else self.open[kept]
            self.close_at = None if self.close_at is None else self.close_at[kept]
        return False

    def settle(self) -> None:
        """Move what was said since the last change of the batch to the rows it belongs to."""
        if not self.said:
            return
        tokens, log_probs = zip(*self.said, strict=True)
        rows = slice(None) if self.alive is None else self.alive
        start = self.column - len(tokens)
        self.ids[rows, start : self.column] = torch.stack(tokens, dim=1)
        silent = sum(log_prob is None for log_prob in log_probs)
        if silent < len(tokens):
            self.log_probs[rows, start + silent : self.column] = torch.stack(log_probs[silent:], dim=1)
        self.said = []

    def answers(self) -> Answers:
        """The outputs so far; fresh tensors, for one made in inference mode can't take part in training."""
        with torch.inference_mode():
            self.settle()
        end = max(1, self.column)
        ids, log_probs = self.ids[:, :end].clone(), self.log_probs[:, :end].clone()
        place = torch.arange(end, device=ids.device)
        allowed, thought, forced = self.allowed, torch.zeros_like(self.allowed), place < self.forced
        if self.closing is not None:
            config = self.model.config
            begun = ids[:, 0] == config.think_token_id
            inside = (ids == config.answer_token_id).cumsum(1) == 0
            thought = inside.sum(1) * begun
            forced = forced | (begun & (thought == self.closing))[:, None] & (place == self.closing[:, None])
            allowed = torch.minimum(allowed, thought + self.longest)
        stops = torch.isin(ids, self.stop) & ~forced
        mask = (stops.cumsum(1) - stops.long() == 0) & (place < allowed[:, None]) & (place < self.column)
        sampled = mask & ~forced
        said = mask.sum(1)
        # A thought that the end token ends has no [A]; what was said after it isn't the row's any more.
        cut = (thought > 0) & ((thought >= said) | (forced & mask)[:, 1:].any(1))
        ids = ids.masked_fill(~mask, self.model.config.pad_token_id or 0)
        return Answers(
            ids, mask.long(), sampled, log_probs.masked_fill(~sampled, 0.0), (stops & mask).any(1),
            torch.minimum(thought, said), cut,
        )  # fmt: skip


class Dialogue:
    """A conversation with one person: a model, its tokenizer and the state so far."""

    def __init__(self, model, tokenizer, state: MemoryState | None = None):
        self.model, self.tokenizer = model, tokenizer
        self.state = model.initial_state(1) if state is None else state

    def ask(self, query: str, **options) -> Iterator[str]:
        """Yield the answer piece by piece; memory is updated after the last piece (options: see `interact`)."""
        self.state = yield from self.model.interact(self.tokenizer, query, self.state, **options)
