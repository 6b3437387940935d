"""Answering: batched sampling with log-probs for training, and streaming for people.

generate_answers(input_ids, attention_mask=None, state=None, *, max_new_tokens=64, max_think_tokens=64,
                 forced="answer", sampling=Sampling(), generator=None, seeds=None, stop=None,
                 samples=None, opening=None) -> Answers
interact(tokenizer, query, state, ...) yields text, then writes the interaction and returns the new state
Dialogue(model, tokenizer).ask(query) does the same and keeps the state; `model.dialogue(tokenizer)` makes one where
only the checkpoint is at hand:

    talk = model.dialogue(tokenizer)
    while query := input("> "):
        for piece in talk.ask(query):
            print(piece, end="", flush=True)
        print()
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .conversation import Dialogue, join_rows, take_rows
from .decoding import prefill, step
from .memory_state import MemoryState
from .sampling import FORCED, Forced, Sampling, Think, draw, only, uniforms

if TYPE_CHECKING:
    from .modeling_reactive import ReactiveForCausalLM


@dataclass
class Answers:
    """A batch of answers, right-padded, their thoughts included. Forced tokens (the marker at the start, [A] or [T],
    and the one that closes a thought at its limit) are part of the ids but not sampled; a marker that was chosen is.

    ids [B, n]; mask [B, n] 1 on answer tokens, the end token included; sampled [B, n] bool, True where the model
    chose; log_probs [B, n] fp32 under the sampled distribution, 0 elsewhere; finished [B] bool: ended by itself;
    thought [B]: tokens before the marker that ends a thought, [T] included, 0 where there is no thought; words_from
    [B]: place of the answer's first word; cut [B] bool: the thought was closed at its limit, or the end token came
    inside it; opening [B, ...]: what was asked for of the place before the first token that was chosen, or None.
    """

    ids: Tensor
    mask: Tensor
    sampled: Tensor
    log_probs: Tensor
    finished: Tensor
    thought: Tensor
    words_from: Tensor
    cut: Tensor
    opening: Tensor | None = None


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
        forced: Forced | None = "answer",
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
        seeds: list[int] | None = None,
        stop: int | Iterable[int] | None = None,
        samples: Tensor | None = None,
        opening: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Answers:
        """Answer queries [B, T] (`[BOS][Q]query`, padded on either side), each read against its row of the state.

        max_new_tokens counts the marker as one; a row also ends at max_interaction_length tokens. forced: "answer" [A],
        "think" [T], "auto" (drawn from these two, the likelier when greedy; where a thought is begun in place of a
        word, drawn as any word), or None. A thought is no part of max_new_tokens: [A] closes it after max_think_tokens,
        or where an answer of max_new_tokens (or half of the interaction's room, if that is less) would no longer fit.
        stop: end tokens, by default the configuration's;
        () for none. Randomness comes from `seeds` (one an answer), `generator` or torch's own. samples [B]: how many
        answers each query gets, by default one; it is read once for all of them, and they stand one after another.
        opening: a function of the normed states [B, D] and logits [B, V] before the first token that is chosen, whose
        rows come with the answers.
        Raises ValueError for an empty query, one that leaves no room for an answer, or one that is to get none.
        """
        sampling = sampling or Sampling()
        present = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if not bool(present.any(1).all()):
            raise ValueError("generate_answers got a row without a token: every query needs at least [BOS][Q]")
        ids, mask, _ = take_rows(input_ids, present.bool())
        if ids.shape[1] + len(self.config.frame.answer) > self.config.max_interaction_length:
            raise ValueError(
                f"a query of {ids.shape[1]} tokens leaves no room for an answer within max_interaction_length "
                f"{self.config.max_interaction_length}: shorten it"
            )
        if samples is not None and (samples.shape != ids.shape[:1] or bool((samples < 1).any())):
            raise ValueError(f"samples must be {ids.shape[0]} counts of at least 1, one a query")
        # In the precision of the weights: the packed products of a step write into buffers, which autocast leaves as
        # they are while it casts the attention between them.
        state = None if state is None else state.to(dtype=self.dtype)
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            stops = self._stop_tokens(stop)
            run = _Run(self, ids, mask, state, max_new_tokens, stops, forced, max_think_tokens, samples)
            numbers = None if sampling.greedy else uniforms(run.rows, run.room, generator, seeds, ids.device)
            read = None if opening is None else opening(*run.beginning)
            run.begin(numbers, sampling)
            while run.column < run.room and not run.done():
                run.feed(*draw(run.logits(), run.numbers(numbers), sampling))
        answers = run.answers()
        if read is not None:
            answers.opening = read.clone() if samples is None else read.repeat_interleave(samples, 0)
        return answers

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
        config, frame, sampling = self.config, self.config.frame, sampling or Sampling(temperature=0.0)
        # Somebody who types "[A]" has not ended the question; training reads it as text as well.
        text = tokenizer(query, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        prompt = [*frame.opening, *text]
        if len(prompt) + len(frame.answer) > config.max_interaction_length:
            raise ValueError(
                f"a query of {len(prompt)} tokens leaves no room for an answer within max_interaction_length "
                f"{config.max_interaction_length}: shorten it"
            )
        ids, said, shown = torch.tensor([prompt], device=self.device), [], ""
        for said in self.stream(
            ids, state, max_new_tokens=max_new_tokens, max_think_tokens=max_think_tokens, forced=FORCED[think],
            sampling=sampling, generator=generator,
        ):  # fmt: skip
            spoken = self._spoken(tokenizer, said)
            if not spoken.endswith("\ufffd") and len(spoken) > len(shown):
                yield spoken[len(shown) :]
                shown = spoken
        rest = self._spoken(tokenizer, said)[len(shown) :]
        if rest:  # the answer was cut off in the middle of a character
            yield rest
        return self.write(state, torch.cat([ids, ids.new_tensor([said])], dim=1))

    @torch.inference_mode()
    def stream(
        self: "ReactiveForCausalLM",
        input_ids: Tensor,
        state: MemoryState,
        *,
        max_new_tokens: int,
        max_think_tokens: int,
        forced: Forced,
        sampling: Sampling,
        generator: torch.Generator | None = None,
        seeds: list[int] | None = None,
    ) -> Iterator[list[int]]:
        """Answer one query [1, T] as `generate_answers` does: after each token all that was said so far, the marker
        included. Nothing is written."""
        mask, stop = torch.ones_like(input_ids), self._stop_tokens(None)
        run = _Run(self, input_ids, mask, state, max_new_tokens, stop, forced, max_think_tokens)
        numbers = None if sampling.greedy else uniforms(1, run.room, generator, seeds, input_ids.device)
        run.begin(numbers, sampling)
        while run.column < run.room and not run.done():
            run.feed(*draw(run.logits(), run.numbers(numbers), sampling))
            run.settle()
            yield run.ids[0, : run.column].tolist()

    def _spoken(self: "ReactiveForCausalLM", tokenizer, said: list[int]) -> str:
        """The words of an answer, those of its thought on a line before."""
        thought, answer = self.config.frame.parts(said)
        words = [tokenizer.decode(part, skip_special_tokens=True) for part in (thought, answer)]
        return "\n".join(words) if thought and answer else "".join(words)


class _Run:
    """One batch being answered: the cache of the rows still open, and the tokens of all.

    Rows that have ended run along until a quarter of the batch has, then leave it; what they said after their end is
    cut off at the very end, so a step pays for no bookkeeping but one comparison.
    """

    def __init__(
        self, model, ids: Tensor, mask: Tensor, state: MemoryState | None, longest: int, stop: Tensor,
        forced: Forced | None, max_think_tokens: int, samples: Tensor | None = None,
    ):  # fmt: skip
        self.model, self.stop, self.forced_by = model, stop, forced
        self.frame = frame = model.config.frame
        words, rows = longest - 1, ids.shape[0]
        markers = {"answer": frame.answer, "think": frame.think, "auto": frame.think[: frame.common], None: ()}
        direct = len(frame.answer) + words if forced else longest
        self.thinking = thinking = forced in ("think", "auto")
        self.ending = len(frame.think_end) + words
        self.room = len(frame.think) + max_think_tokens + self.ending if thinking else direct
        # What has to be said first is read with the query.
        lead: tuple[int, ...] = markers[forced]
        lengths, given = mask.sum(1), (ids, mask)
        if lead:
            *given, _ = join_rows(ids, mask, ids.new_tensor(lead).expand(rows, -1), None)
        hidden, self.cache = prefill(model, *given, state, self.room - len(lead), last_only=True)
        last = given[0].gather(1, (given[1].sum(1) - 1)[:, None])
        self._logits = model.logits(hidden, last, self.cache.windows)[:, 0]
        self.beginning = (hidden[:, 0], self._logits)
        if samples is not None and bool((samples > 1).any()):
            # The query, its memory and the first word's distribution are the same for all answers to it.
            again = torch.arange(rows, device=ids.device).repeat_interleave(samples)
            self.cache.select(again)
            self._logits, lengths, rows = self._logits[again], lengths[again], len(again)
        self.rows = rows
        self.pending: Tensor | None = None
        self.column = self.forced = len(lead)
        # How many tokens each row may add; told apart from `room` only where the limit really binds.
        self.allowed, self.direct = (model.config.max_interaction_length - lengths).clamp(max=self.room), direct
        self.limits: Tensor | None = self.allowed if thinking or bool((self.allowed < self.room).any()) else None
        # The place at which each row's thought is closed; open: rows inside one.
        answer, least = (self.allowed // 2).clamp(max=self.ending), len(frame.think)
        self.closing = self.close_at = (self.allowed - answer).clamp(least, least + max_think_tokens)
        self.open = torch.full_like(self.allowed, forced == "think", dtype=torch.bool)
        self.alive: Tensor | None = None
        self.ended = torch.zeros(rows, dtype=torch.bool, device=ids.device)
        if self.limits is not None:  # rows with room for the marker and no word
            self.ended |= self.limits <= self.column
        # Tokens and their log-probs; None for the marker's, which come first.
        self.said: list[tuple[Tensor, Tensor | None]] = [(self.allowed.new_full((rows,), t), None) for t in lead]
        self.recent = [token for token, _ in self.said]
        self.ids = torch.full((rows, self.room), model.config.pad_token_id or 0, device=ids.device)
        self.log_probs = torch.zeros(rows, self.room, device=ids.device)
        self.check_every = 1 if ids.device.type == "cpu" else 8

    def logits(self) -> Tensor:
        """Logits [alive, V] of the next token; a token fed before is run through the model once."""
        if self.pending is not None:
            self._logits, self.pending = step(self.model, self.pending, self.cache), None
        return self._logits

    def begin(self, numbers: Tensor | None, sampling: Sampling) -> None:
        """With "auto" the last token of every row's marker, drawn from the two that there are."""
        if self.forced_by == "auto" and self.frame.choice is not None:
            self.feed(*draw(only(self.logits(), self.frame.choice), self.numbers(numbers), sampling))

    def _follow_thoughts(self, token: Tensor) -> Tensor:
        """Say the markers of thoughts to their ends, close those that have reached their limit; an answer's own limit
        counts from where its thought ends."""
        frame, place, inside = self.frame, self.column, self.open
        limits = self.allowed if self.limits is None else self.limits
        if place == frame.common and self.forced_by == "auto":
            inside = token == frame.think[place]
            limits = torch.where(inside, self.allowed, self.allowed.clamp(max=self.direct))
        if place < len(frame.think):
            token = token.masked_fill(inside, frame.think[place])
        for offset, marker in enumerate(frame.think_end):
            token = token.masked_fill(inside & (self.close_at + offset == place), marker)
        self.recent = [*self.recent, token][-len(frame.think_end) :]
        if place >= len(frame.think) and len(self.recent) == len(frame.think_end):
            closed = inside & (torch.stack(self.recent, 1) == token.new_tensor(frame.think_end)).all(1)
            latest = place + 1 + self.direct - len(frame.answer)
            limits, inside = torch.where(closed, limits.clamp(max=latest), limits), inside & ~closed
        self.open, self.limits = inside, limits
        return token

    def numbers(self, uniform: Tensor | None) -> Tensor | None:
        """This step's random numbers [alive] out of [rows, room]."""
        if uniform is None:
            return None
        return uniform[:, self.column] if self.alive is None else uniform[self.alive, self.column]

    def feed(self, token: Tensor, log_prob: Tensor) -> None:
        """Append a token [alive], drawn with that log-prob, to every open row."""
        if self.thinking:
            token = self._follow_thoughts(token)
        self.said.append((token, log_prob))
        self.column += 1
        if self.stop.shape[0] == 1:
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
            self.open, self.close_at = self.open[kept], self.close_at[kept]
            self.recent = [token[kept] for token in self.recent]
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
        words_from = self.frame.words_from(ids) if self.forced_by else thought
        if self.thinking:
            frame, begun = self.frame, self.frame.thinks(ids)
            thought = frame.thought_end(ids) * begun
            opening = begun[:, None] & (place > frame.common) & (place < len(frame.think))
            inside = (place >= self.closing[:, None]) & (place < self.closing[:, None] + len(frame.think_end))
            forced = forced | opening | ((thought == self.closing) & begun)[:, None] & inside
            allowed = torch.minimum(allowed, torch.where(begun, thought + self.ending, self.direct))
        stops = torch.isin(ids, self.stop) & ~forced
        mask = (stops.cumsum(1) - stops.long() == 0) & (place < allowed[:, None]) & (place < self.column)
        sampled = mask & ~forced
        said = mask.sum(1)
        # A thought that the end token ends has no [A]; what was said after it isn't the row's any more.
        cut = (thought > 0) & ((thought >= said) | (thought == self.closing))
        ids = ids.masked_fill(~mask, self.model.config.pad_token_id or 0)
        return Answers(
            ids, mask.long(), sampled, log_probs.masked_fill(~sampled, 0.0), (stops & mask).any(1),
            torch.minimum(thought, said), torch.minimum(words_from, said), cut,
        )  # fmt: skip
