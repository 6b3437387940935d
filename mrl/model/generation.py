"""Answering: batched sampling with log-probs for training, and streaming for people.

generate_answers(input_ids, attention_mask=None, state=None, *, max_new_tokens=64, forced="answer",
                 sampling=Sampling(), generator=None, seeds=None, stop=None) -> Answers
answer_log_probs(input_ids, attention_mask, answers, state, sampling=Sampling()) -> AnswerScores, differentiable
interact(tokenizer, query, state, ...) yields text, then writes the interaction and returns the new state
Dialogue(model, tokenizer).ask(query) does the same and keeps the state
"""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .decoding import prefill, step
from .padding import join_rows, take_rows
from .sampling import Sampling, adjust, draw, uniforms


@dataclass
class Answers:
    """A batch of answers, right-padded. Forced tokens ([A] or [T] at the start) are part of the ids but not sampled.

    ids [B, n]; mask [B, n] 1 on answer tokens, the end token included; sampled [B, n] bool, True where the model
    chose; log_probs [B, n] fp32 under the sampled distribution, 0 elsewhere; finished [B] bool: ended by itself.
    """

    ids: Tensor
    mask: Tensor
    sampled: Tensor
    log_probs: Tensor
    finished: Tensor


@dataclass
class AnswerScores:
    """Teacher-forced log_probs and entropy [B, n] (0 where not sampled), aux_loss of a mixture or None."""

    log_probs: Tensor
    entropy: Tensor
    aux_loss: Tensor | None


class AnswerGeneration:
    """Inference methods of `ReactiveForCausalLM`."""

    def _forced_tokens(self, logits_of, forced: str | int | None, rows: int) -> Tensor | None:
        config = self.config
        if forced is None:
            return None
        if forced == "auto":
            logits = logits_of()
            thinks = logits[:, config.think_token_id] > logits[:, config.answer_token_id]
            return torch.where(thinks, config.think_token_id, config.answer_token_id)
        token = {"answer": config.answer_token_id, "think": config.think_token_id}.get(forced, forced)
        return torch.full((rows,), int(token), device=self.device)

    def _stop_tokens(self, stop: int | Iterable[int] | None) -> Tensor:
        stop = self.config.eos_token_id if stop is None else stop
        listed = [] if stop is None else [stop] if isinstance(stop, int) else list(stop)
        return torch.tensor(listed, dtype=torch.long, device=self.device)

    def generate_answers(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        state: Tensor | None = None,
        *,
        max_new_tokens: int = 64,
        forced: str | int | None = "answer",
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
        seeds: list[int] | None = None,
        stop: int | Iterable[int] | None = None,
    ) -> Answers:
        """Answer queries [B, T] (`[BOS][Q]query`, padded on either side) read against state [L, B, S, D].

        max_new_tokens counts the forced token; a row also ends at max_interaction_length tokens. forced: "answer"
        [A], "think" [T], "auto" (the likelier of the two), a token id, or None. stop: end tokens, by default the
        configuration's; () for none. Randomness comes from `seeds` (one a row), `generator` or torch's own.
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
        with torch.inference_mode():
            run = _Run(self, ids, mask, state, max_new_tokens, self._stop_tokens(stop))
            first = self._forced_tokens(run.logits, forced, ids.shape[0])
            numbers = None if sampling.greedy else uniforms(ids.shape[0], max_new_tokens, generator, seeds, ids.device)
            if first is not None:
                run.feed(first, None)
            while run.column < max_new_tokens and not run.done():
                uniform = None if numbers is None else numbers[run.alive, run.column]
                run.feed(*draw(run.logits(), uniform, sampling))
        return run.answers()

    def answer_log_probs(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        answers: Answers,
        state: Tensor | None,
        sampling: Sampling | None = None,
    ) -> AnswerScores:
        """Score sampled tokens again by one teacher-forced pass; gradients reach the parameters and the state."""
        ids, mask, columns = join_rows(input_ids, attention_mask, answers.ids, answers.mask)
        start = input_ids.shape[1]
        # The token in joined column c of the answer is predicted one place before it.
        chosen = torch.cat([torch.zeros_like(input_ids, dtype=torch.bool), answers.sampled], dim=1)
        scored = chosen.gather(1, columns) & mask.bool()
        output = self.decode(ids, mask, state, logits_at=torch.nn.functional.pad(scored[:, 1:], (0, 1)))
        full = adjust(output.logits, sampling or Sampling()).log_softmax(-1)
        picked = full.gather(1, ids[scored][:, None]).squeeze(1)
        entropy = -(full.exp() * full.clamp(min=-1e4)).sum(-1)
        rows, places = scored.nonzero(as_tuple=True)
        target = (rows, columns[rows, places] - start)
        blank = torch.zeros(answers.ids.shape, dtype=full.dtype, device=full.device)
        return AnswerScores(blank.index_put(target, picked), blank.index_put(target, entropy), output.aux_loss)

    def check_tokenizer(self, tokenizer) -> None:
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

    @torch.inference_mode()
    def interact(
        self,
        tokenizer,
        query: str,
        state: Tensor,
        *,
        max_new_tokens: int = 128,
        think: bool = False,
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
    ) -> Generator[str, None, Tensor]:
        """Answer one query of one dialogue (state [L, 1, S, D]): yields text as it comes.

        Only when the whole answer is out is the interaction written; the new state is the generator's return value
        (`state = yield from ...`; `Dialogue` keeps it). Reasoning is yielded too when think is set. A consumer who
        stops early leaves the memory as it was. Raises ValueError for an empty query.
        """
        if not query.strip():
            raise ValueError("the query is empty: there is nothing to answer")
        self.check_tokenizer(tokenizer)
        config, sampling = self.config, sampling or Sampling()
        text = tokenizer(query, add_special_tokens=False)["input_ids"]
        prompt = [config.bos_token_id, config.query_token_id, *text]
        prompt = [token for token in prompt if token is not None]
        if len(prompt) >= config.max_interaction_length:
            raise ValueError(
                f"a query of {len(prompt)} tokens leaves no room for an answer within max_interaction_length "
                f"{config.max_interaction_length}: shorten it"
            )
        ids = torch.tensor([prompt], device=self.device)
        run = _Run(self, ids, torch.ones_like(ids), state, max_new_tokens, self._stop_tokens(None))
        numbers = None if sampling.greedy else uniforms(1, max_new_tokens, generator, None, ids.device)
        run.feed(self._forced_tokens(run.logits, "think" if think else "answer", 1), None)
        shown = ""
        while run.column < max_new_tokens and not run.done():
            run.feed(*draw(run.logits(), None if numbers is None else numbers[:, run.column], sampling))
            spoken = tokenizer.decode(run.ids[0, : run.column].tolist(), skip_special_tokens=True)
            if not spoken.endswith("\ufffd") and len(spoken) > len(shown):
                yield spoken[len(shown) :]
                shown = spoken
        answers = run.answers()
        ids, mask, _ = join_rows(ids, None, answers.ids, answers.mask)
        return self.write(state, ids, mask)


class _Run:
    """One batch being answered: the cache of the rows still open, and the outputs of all."""

    def __init__(self, model, ids: Tensor, mask: Tensor, state: Tensor | None, room: int, stop: Tensor):
        rows, self.model, self.stop = ids.shape[0], model, stop
        self.pad = model.config.pad_token_id or 0
        hidden, self.cache = prefill(model, ids, mask, state, room)
        self.last = hidden[torch.arange(rows, device=ids.device), mask.sum(1) - 1]
        self.pending: Tensor | None = None
        self.column = 0
        self.alive = torch.arange(rows, device=ids.device)
        self.open = torch.ones(rows, dtype=torch.bool, device=ids.device)
        self.limit = model.config.max_interaction_length
        self.ids = torch.full((rows, room), self.pad, device=ids.device)
        self.mask = torch.zeros_like(self.ids)
        self.sampled = torch.zeros_like(self.ids, dtype=torch.bool)
        self.log_probs = torch.zeros(rows, room, device=ids.device)
        self.finished = torch.zeros(rows, dtype=torch.bool, device=ids.device)
        self.check_every = 1 if ids.device.type == "cpu" else 8

    def logits(self) -> Tensor:
        """Logits [alive, V] of the next token; feeds the pending one at most once."""
        if self.pending is not None:
            value = step(self.model, self.pending, self.cache)
            self.pending = None
            self._logits = value
        elif self.column == 0:
            self._logits = self.model.lm_head(self.last)
        return self._logits

    def feed(self, token: Tensor, log_prob: Tensor | None) -> None:
        """Append a token [alive] to every open row (log_prob None = forced)."""
        rows, column = self.alive, self.column
        token = torch.where(self.open, token, self.pad)
        self.ids[rows, column] = token
        self.mask[rows, column] = self.open.long()
        if log_prob is not None:
            self.sampled[rows, column] = self.open
            self.log_probs[rows, column] = log_prob * self.open
        ended = torch.isin(token, self.stop) & self.open if log_prob is not None else torch.zeros_like(self.open)
        self.finished[rows] |= ended
        self.open = self.open & ~ended & (self.cache.lengths + 1 < self.limit)
        self.pending = token
        self.column += 1

    def done(self) -> bool:
        """Whether every row has ended; drops ended rows from the batch once they are a quarter of it."""
        if self.column % self.check_every:
            return False
        remaining = int(self.open.sum())
        if remaining == 0:
            return True
        if remaining <= 0.75 * self.open.shape[0]:
            kept = self.open.nonzero().squeeze(1)
            self.cache.select(kept)
            self.alive, self.open, self.pending = self.alive[kept], self.open[kept], self.pending[kept]
        return False

    def answers(self) -> Answers:
        """The outputs so far; copied, for a tensor made in inference mode can't take part in training."""
        end = max(1, self.column)
        parts = (part[:, :end] for part in (self.ids, self.mask, self.sampled, self.log_probs))
        return Answers(*(part.clone() for part in parts), self.finished.clone())


class Dialogue:
    """A conversation with one person: a model, its tokenizer and the state so far."""

    def __init__(self, model, tokenizer, state: Tensor | None = None):
        self.model, self.tokenizer = model, tokenizer
        self.state = model.initial_state(1) if state is None else state

    def ask(self, query: str, **options) -> Iterator[str]:
        """Yield the answer piece by piece; memory is updated after the last piece (options: see `interact`)."""
        self.state = yield from self.model.interact(self.tokenizer, query, self.state, **options)
