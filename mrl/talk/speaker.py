"""A model that answers one message at a time, token by token: what is typed becomes ids, what is drawn becomes text."""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from tokenizers import Tokenizer

from mrl.dialogues.seeding import Purpose, derive_seed
from mrl.dialogues.tokenization import query_room
from mrl.model import Forced, MemoryState, ReactiveForCausalLM, Sampling
from pipeline.errors import InputError

MOST_CHARACTERS = 100_000
"""A longer message is refused before it is tokenised."""
_SPELT = 0.75
"""Tokens a letter from which on a word counts as spelt: pieces of real words have two letters and more."""


@dataclass(frozen=True)
class Reply:
    """What was said so far. ids: the tokens from the first [T] or [A] on, the end token included; ended: the model
    stopped by itself; first_ms: milliseconds from the question to the first token that it chose."""

    ids: tuple[int, ...]
    think: str
    answer: str
    ended: bool
    first_ms: float | None = None


class Speaker:
    """Model and tokenizer behind every dialogue of a page; it keeps nothing of any of them.

    max_new_tokens: most tokens of an answer, its marker included; max_think_tokens: of a thought before it. temperature
    0 is greedy; `seed` decides what is drawn above it. Raises InputError for a model without memory.
    """

    def __init__(
        self, model: ReactiveForCausalLM, tokenizer: Any, max_new_tokens: int = 128, temperature: float = 0.0,
        seed: int = 0, max_think_tokens: int = 64,
    ):  # fmt: skip
        if not model.config.memory_slots:
            raise InputError("--model has no memory (memory_slots 0): there is nothing to look at while it talks")
        self.model, self.tokenizer = model.eval(), tokenizer
        self.max_new_tokens, self.max_think_tokens = max_new_tokens, max_think_tokens
        self.sampling, self.seed = Sampling(temperature=temperature), seed
        self.frame = model.config.frame
        self.limit: int = model.config.max_interaction_length
        # A copy: padding and truncation that a tokenizer.json asks for stay out, and a typed "[A]" stays text.
        self._backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.no_padding()
        self._backend.no_truncation()
        self._backend.encode_special_tokens = True

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names and numbers of all weights: by what a saved dialogue knows its model again."""
        digest = hashlib.sha256()
        for name, tensor in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def prompt(self, message: str) -> list[int]:
        """Ids of `[BOS][Q]message`. Raises InputError for a message that is empty or leaves no room for an answer."""
        if not message.strip():
            raise InputError("the message is empty: tell it something, or ask")
        room = query_room(self.limit, max(2, self.limit // 4))
        if len(message) > MOST_CHARACTERS:
            raise InputError(f"the message has {len(message):,} characters; about {room} words fit: shorten it")
        ids = [*self.frame.opening, *self._backend.encode(message, add_special_tokens=False).ids]
        if len(ids) > room:
            raise InputError(
                f"the message has {len(ids) - len(self.frame.opening):,} tokens; "
                f"{room - len(self.frame.opening)} fit beside an answer (max_interaction_length "
                f"{self.limit}): shorten it or tell it in two turns"
            )
        return ids

    def unknown(self, message: str) -> list[str]:
        """Pieces of a message that the tokenizer has no token for, in their order, each once."""
        found = self._backend.encode(message, add_special_tokens=False)
        none = self.tokenizer.unk_token_id
        pieces = (message[slice(*at)] for i, at in zip(found.ids, found.offsets, strict=True) if i == none)
        return list(dict.fromkeys(piece for piece in pieces if piece.strip()))

    def spelt(self, message: str) -> list[str]:
        """Words of a message that are read nearly letter by letter, because no word or piece of a word was learnt for
        them; in their order, each once."""
        found = self._backend.encode(message, add_special_tokens=False)
        tokens = Counter(n for n in found.word_ids if n is not None)
        places = ((found.word_to_chars(n), count) for n, count in tokens.items())
        words = {message[slice(*place)].strip(): count for place, count in places if place}
        return [word for word, count in words.items() if word.isalpha() and 2 < len(word) <= count / _SPELT]

    def strange(self, message: str) -> str:
        """What the tokenizer makes little of in a message, for people; nothing where it knows all of it."""
        found = {"no token for": self.unknown(message), "no word of its own, spelt by letters": self.spelt(message)}
        return "; ".join(f"{what}: {', '.join(pieces)}" for what, pieces in found.items() if pieces)

    @torch.inference_mode()
    def speak(
        self, prompt: Sequence[int], state: MemoryState, beginning: Forced = "answer", place: int = 0
    ) -> Iterator[Reply]:
        """The reply to a prompt, read against a state of one row: one `Reply` a token, each with all said so far.

        Nothing is written. `place` (the turn's number) chooses the random numbers, so that two memories asked the same
        question draw alike.
        """
        ids = torch.tensor([list(prompt)], device=self.model.device)
        seeds = None if self.sampling.greedy else [derive_seed(self.seed, Purpose.ANSWERS, place)]
        started, first_ms = time.perf_counter(), None
        for said in self.model.stream(
            ids, state, max_new_tokens=self.max_new_tokens, max_think_tokens=self.max_think_tokens, forced=beginning,
            sampling=self.sampling, seeds=seeds,
        ):  # fmt: skip
            first_ms = first_ms or 1e3 * (time.perf_counter() - started)
            yield self.read(said, first_ms)

    def read(self, said: Sequence[int], first_ms: float | None = None) -> Reply:
        """The tokens of a reply as words. A character that is only half out yet is held back."""
        parts = self.frame.parts(list(said))
        texts = [self.tokenizer.decode(part, skip_special_tokens=True).strip() for part in parts]
        ended = said[-1] == self.frame.end[-1]
        return Reply(tuple(said), *(text.rstrip("\ufffd") for text in texts), ended, first_ms)
