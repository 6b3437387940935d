"""The Reactive Transformer: decoder, encoder and memory attention around an explicit short-term memory.

Symbols: L layers, B rows (dialogues, or turns x dialogues), T tokens of one interaction, S slots, D width, V
vocabulary. The memory is a `MemoryState` of slots [L, B, S, D], passed in and returned, never kept by the model.
Interactions are `[BOS][Q]query` + `[T]think`? + `[A]answer[EOS]`, RIGHT-padded, with attention_mask [B, T] of 0/1
(None = no padding).

`ReactiveForCausalLM`:
    initial_state(batch_size=None, *, seeds=None, device=None) -> MemoryState
    encode(input_ids, attention_mask=None, state=None) -> EncoderOutput(layers [L, B, T, D], hidden [B, T, D]); the
        state where what is written are the states of answering (encoder none)
    mlm_logits(hidden [..., D]) -> [..., V]; pass encode(...).hidden[masked] so that only masked positions pay
    update_memory(state, encoded, attention_mask=None) -> new state; encoded = EncoderOutput or [L, B, T, D]
    write(state, input_ids, attention_mask=None) -> new state (encode + update_memory)
    unroll(state, input_ids [B, K, T], attention_mask=None) -> MemoryHistory: states before and after K writes, the
        training path: all K turns are encoded as one batch, only the state updates run one after another. For ONE
        decode call of all turns: `history.after(writes, rows)`
    decode(input_ids, attention_mask=None, state=None, *, labels=None, logits_at=None)
        -> DecoderOutput(logits, loss, targets, aux_loss, hidden); differentiable in state and parameters.
        labels [B, T] (-100 = ignored, not shifted: HF convention): logits [n, V] at the predicting positions only,
        targets [n], loss = mean cross-entropy + router_aux_loss_coef * aux_loss. logits_at [B, T] bool: logits [n, V]
        that follow those positions, row-major. Neither: logits [B, T, V]. A state of one row serves every row; it may
        have any number of slots (pre-training reads encoder outputs), some of them hidden; None reads no memory
    generate_answers(input_ids, attention_mask, state, ...) -> Answers; interact(...): see generation.py
    parts() -> {"embedding", "encoder", "memory_attention", "memory_cross_attention", "decoder": [parameters]}
    fit_state(state, rows) -> the state with so many rows; ValueError where it belongs to another model;
    set_initial_state(state of one row): for config.initial_state "learned" (a start) or "loaded"
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin

from .attention import MixtureOfExperts, key_mask
from .body import EncoderOutput, ReactiveModel
from .by_length import LengthGroups
from .configuration_reactive import ReactiveConfig
from .conversation import ConversationForward, take_rows
from .generation import AnswerGeneration
from .layers import DecoderLayer, MaskedTokenHead, ReactivePreTrainedModel
from .memory import NATS, Windows, keep_surprising
from .memory_state import MemoryHistory, MemoryState, TokenHistory, fit, normal_state

SCORED_AT_ONCE = 512
"""Tokens whose logits exist at once where only their surprise is wanted."""


@dataclass(eq=False, kw_only=True)
class DecoderOutput:
    """logits [n, V] or [B, T, V]; loss and targets [n] where labels were given; aux_loss of a mixture; hidden
    [B, T, D]."""

    logits: Tensor
    loss: Tensor | None = None
    targets: Tensor | None = None
    aux_loss: Tensor | None = None
    hidden: Tensor


# generate() names all that it gives `prepare_inputs_for_generation` but input_ids, so what has no use here is left out.
class ReactiveForCausalLM(  # ty: ignore[incompatible-method-override]
    ConversationForward, AnswerGeneration, ReactivePreTrainedModel, GenerationMixin
):
    """Reactive model with its language-modelling heads; the module's docstring lists the methods.

    `forward` takes a flat rendered conversation (see `ConversationForward`), so that `generate()`, lm_eval and chat
    loops can drive it like any causal language model.
    """

    _tied_weights_keys = {"lm_head.weight": "model.embedding.weight"}  # noqa: RUF012 - transformers reads a plain dict

    def __init__(self, config: ReactiveConfig):
        super().__init__(config)
        self.model = ReactiveModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.memory_slots and not self.model.keeps_tokens:
            self.mlm_head = MaskedTokenHead(config.hidden_size, config.rms_norm_eps)
        self.post_init()

    def initial_state(
        self,
        batch_size: int | None = None,
        *,
        seeds: Sequence[int] | Tensor | None = None,
        device: str | torch.device | None = None,
    ) -> MemoryState:
        """Initial memory of a batch. Normal states: row b is a function of seeds[b] only; without seeds every row
        is drawn from `config.initial_state_seed`. Learned, loaded and empty states are the same for every row."""
        config = self.config
        if seeds is not None:
            seeds = seeds.tolist() if isinstance(seeds, Tensor) else list(seeds)
            if batch_size not in (None, len(seeds)):
                raise ValueError(f"initial_state got {len(seeds)} seeds for {batch_size} rows")
        rows = len(seeds) if seeds is not None else (batch_size or 1)
        if self.model.initial_memory is not None:
            slots = self._with_windows(self.model.initial_memory[:, None])
            return MemoryState(slots).expand(rows).to(device or self.device)
        shape = (len(config.reading_layers), config.memory_slots, config.hidden_size)
        if config.initial_state == "empty":
            empty = torch.zeros(shape, dtype=self.dtype, device=device or self.device)
            return MemoryState(empty[:, None]).expand(rows)
        state = normal_state(seeds or [config.initial_state_seed], *shape, config.initial_state_std)
        state = MemoryState(self._with_windows(state.slots))
        return state.to(device or self.device, self.dtype).expand(rows)

    def _with_windows(self, slots: Tensor) -> Tensor:
        """Slots [L, B, S, D] and after them windows that hold nothing yet."""
        return F.pad(slots, (0, 0, 0, 0, 0, 0, 0, self.config.copy_window)) if self.config.copy_window else slots

    def fit_state(self, state: MemoryState, rows: int) -> MemoryState:
        """The state for so many rows; one of a single row serves all of them. Raises ValueError for any other shape,
        and where slots are hidden: a memory is written and answered from as a whole."""
        if getattr(state, "readable", None) is not None:
            raise ValueError("a memory state with hidden slots can only be decoded from")
        return fit(state, self.config, rows, self.config.memory_slots)

    def set_initial_state(self, state: MemoryState) -> None:
        """Store a state of one row as the initial one (a system prompt written once, for example)."""
        memory = self.model.initial_memory
        if memory is None:
            raise ValueError("set_initial_state needs config.initial_state 'learned' or 'loaded', not 'normal'")
        with torch.no_grad():
            memory.copy_(self.fit_state(state, 1).slots[:, 0])

    def encode(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, state: MemoryState | None = None
    ) -> EncoderOutput:
        if not self.model.keeps_tokens:
            return self.model.encode(input_ids, attention_mask)
        if self.config.encoder == "none" and state is None:
            raise ValueError(
                "encoder none keeps the states of answering: encode() needs the memory they were read from"
            )
        seen = self.model.token_states(input_ids, state if self.config.encoder == "none" else None)
        return replace(seen, surprise=self._surprise(seen.hidden, input_ids, self.model.worth(seen.layers)))

    @torch.no_grad()
    def _surprise(self, hidden: Tensor, input_ids: Tensor, worth: Tensor | None) -> Tensor:
        # A part at a time: logits over a large vocabulary for a whole batch would be most of the memory.
        states, targets = hidden[:, :-1].flatten(0, 1), input_ids[:, 1:].flatten()
        parts = zip(states.split(SCORED_AT_ONCE), targets.split(SCORED_AT_ONCE), strict=True)
        found = [F.cross_entropy(self.lm_head(x).float(), y, reduction="none") for x, y in parts]
        nats = F.pad(torch.cat(found).view(len(input_ids), -1), (1, 0))
        return nats if worth is None else nats + NATS * worth

    def mlm_logits(self, hidden: Tensor) -> Tensor:
        if self.model.keeps_tokens:
            raise ValueError("a model that keeps token states (memory_write surprise) has no encoder to train")
        return self.mlm_head(hidden, self.model.embedding.weight)

    def update_memory(
        self, state: MemoryState, encoded: Tensor | EncoderOutput, attention_mask: Tensor | None = None
    ) -> MemoryState:
        if isinstance(encoded, Tensor):
            encoded = EncoderOutput(encoded, encoded[-1])
        (write,) = self._writes(encoded, attention_mask, 1)
        return MemoryState(write(self.fit_state(state, encoded.layers.shape[1]).slots))

    def _writes(self, encoded: EncoderOutput, mask: Tensor | None, count: int) -> list[Callable[[Tensor], Tensor]]:
        """Encoded rows, in `count` equal parts one after another, as what each does to slots [L, B, S, D]."""
        if self.model.keeps_tokens:
            layers = encoded.layers.chunk(count, 1)
            if encoded.surprise is None:
                raise ValueError("memory_write surprise needs what encode() gives: token states and their surprise")
            present = torch.ones_like(encoded.surprise) if mask is None else mask
            parts = zip(layers, encoded.surprise.chunk(count), present.chunk(count), strict=True)
            return [partial(self._kept, each) for each in parts]
        readable, silent = self._readable(mask)
        return self._rewrites(
            *self.model.project_encoded(encoded.layers), readable, silent, self._copied(encoded, readable), count
        )

    def _rewrites(
        self,
        key: Tensor,
        value: Tensor,
        readable: Tensor | None,
        silent: Tensor | None,
        copied: Tensor | None,
        count: int,
    ) -> list[Callable[[Tensor], Tensor]]:
        """The same of projected rows: key, value [L, B, T, G, d]."""
        projected = (part.chunk(count, 1) for part in (key, value))
        masks = ([None] * count if part is None else part.chunk(count) for part in (readable, silent))
        windows = [None] * count if copied is None else copied.chunk(count, 1)
        return [partial(self._rewritten, each) for each in zip(*projected, *masks, windows, strict=True)]

    def _kept(self, seen: tuple[Tensor, Tensor, Tensor], slots: Tensor) -> Tensor:
        return keep_surprising(slots, *seen, self.config.kept_share)

    def _rewritten(self, seen: tuple, slots: Tensor) -> Tensor:
        key, value, readable, silent, window = seen
        updated = self.model.memory_attention(slots, key, value, readable, window)
        return updated if silent is None else torch.where(silent[:, None, None], slots, updated)

    @staticmethod
    def _readable(attention_mask: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Key mask of a write, and which rows have nothing to write (None where all have): those keep their state.

        A row without a token is a dialogue that has ended before its neighbours.
        """
        mask = key_mask(attention_mask)
        if mask is None:
            return None, None
        silent = ~mask.flatten(1).any(1)
        if silent.device.type == "cpu" and not bool(silent.any()):
            return mask, None
        # Some key has to be readable, or the attention of these rows is not a number; the result is thrown away.
        return mask | silent[:, None, None, None], silent

    def write(self, state: MemoryState, input_ids: Tensor, attention_mask: Tensor | None = None) -> MemoryState:
        return self.update_memory(state, self.encode(input_ids, attention_mask, state), attention_mask)

    def unroll(self, state: MemoryState, input_ids: Tensor, attention_mask: Tensor | None = None) -> MemoryHistory:
        batch, turns, _ = input_ids.shape
        if self.config.encoder == "none":  # what is written depends on what was: no two turns are read at once
            states = [self.fit_state(state, batch)]
            for turn in range(turns):
                mask = None if attention_mask is None else attention_mask[:, turn]
                states.append(self.write(states[-1], input_ids[:, turn], mask))
            return MemoryHistory.stack(states)
        # Turn-major, so that the tokens of one turn are a slice.
        rows = input_ids.transpose(0, 1).flatten(0, 1)
        mask = None if attention_mask is None else attention_mask.transpose(0, 1).flatten(0, 1)
        if self.model.keeps_tokens:
            layers, hidden = self.model.token_layers(rows)
            present = torch.ones_like(rows) if mask is None else mask
            worth = self.model.worth(layers)
            surprise = self._surprise(hidden, rows, worth)
            start, share = self.fit_state(state, batch), self.config.kept_share
            return TokenHistory.of(start, layers, surprise, present, share, worth)
        slots = [self.fit_state(state, batch).slots]
        if self.config.copy_window or not (groups := LengthGroups.of(rows, mask)):
            writes = self._writes(self.encode(rows, mask), mask, turns)
        else:
            # What memory attention reads of a row is projected with its group, too.
            parts = [self.model.encode(*part).layers for part in groups.parts]
            keys, values = zip(*(self.model.project_encoded(layers) for layers in parts), strict=True)
            key, value = (
                groups.join([part.flatten(3) for part in each], 1).unflatten(-1, each[0].shape[-2:])
                for each in (keys, values)
            )
            writes = self._rewrites(key, value, *self._readable(mask), None, turns)
        for write in writes:
            slots.append(write(slots[-1]))
        return MemoryHistory(torch.stack(slots))

    def decode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        state: MemoryState | None = None,
        *,
        labels: Tensor | None = None,
        logits_at: Tensor | None = None,
    ) -> DecoderOutput:
        self.model._check_length(input_ids)
        if attention_mask is not None and attention_mask.device.type == "cpu" and not bool(attention_mask[:, 0].all()):
            raise ValueError("decode needs right-padded rows with at least one token each (attention_mask[:, 0] all 1)")
        # In pre-training the decoder reads encoder outputs, of which there are as many as tokens.
        state = None if state is None else fit(state, self.config, input_ids.shape[0])
        hidden = self.model.hidden(input_ids, state, attention_mask)
        aux_loss = None
        if self.config.num_experts and torch.is_grad_enabled():
            experts = (layer.feed_forward for layer in self.model.decoder if isinstance(layer, DecoderLayer))
            balance = [x.balance(attention_mask) for x in experts if isinstance(x, MixtureOfExperts)]
            aux_loss = torch.stack(balance).mean()
        if labels is None:
            logits = self.logits(hidden, input_ids, self.model.windows(state), logits_at)
            return DecoderOutput(logits=logits, aux_loss=aux_loss, hidden=hidden)
        scored = labels[:, 1:] != -100
        targets = labels[:, 1:][scored]
        logits = self.logits(hidden, input_ids, self.model.windows(state), F.pad(scored, (0, 1)))
        loss = F.cross_entropy(logits.float(), targets)
        if aux_loss is not None:
            loss = loss + self.config.router_aux_loss_coef * aux_loss
        return DecoderOutput(logits=logits, loss=loss, targets=targets, aux_loss=aux_loss, hidden=hidden)

    def logits(self, hidden: Tensor, tokens: Tensor, windows: Windows | None, at: Tensor | None = None) -> Tensor:
        """Logits that follow `tokens` [B, T] with normed decoder outputs [B, T, D]: [B, T, V], or [n, V] of the places
        `at` [B, T] bool; with what is copied from `windows`, where there are any."""
        logits = self.lm_head(hidden if at is None else hidden[at])
        if windows is None:
            return logits
        if at is None:
            return logits + self.model.copying(hidden, tokens, windows)
        # Places to copy to are few in a row: they are moved together before windows are read for them.
        tokens, chosen, columns = take_rows(tokens, at)
        hidden = hidden.gather(1, columns[..., None].expand(-1, -1, hidden.shape[-1]))
        return logits + self.model.copying(hidden, tokens, windows)[chosen.bool()]

    def _copied(self, encoded: EncoderOutput, readable: Tensor | None) -> Tensor | None:
        """New windows of all slots [K, B, S, D], from encoded interactions; None for a model without."""
        if not self.config.copy_window or encoded.input_ids is None:
            return None
        return self.model.copying.write(encoded.layers[-1], encoded.input_ids, readable)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by part, each exactly once (a tied head belongs to the embedding), for freezing and rates."""
        groups: dict[str, list[nn.Parameter]] = {
            "embedding": [],
            "encoder": [],
            "memory_attention": [],
            "memory_cross_attention": [],
            "decoder": [],
        }
        for name, parameter in self.named_parameters():
            if "embedding" in name:
                part = "embedding"
            elif "encoder" in name or "mlm_head" in name:
                part = "encoder"
            elif any(key in name for key in ("memory_attention", "initial_memory", "copying.write", "token_worth")):
                part = "memory_attention"
            elif any(key in name for key in ("copying", "cross_attention", "cross_norm", "memory_norm", "slot_reader")):
                part = "memory_cross_attention"
            else:
                part = "decoder"
            groups[part].append(parameter)
        return groups


ReactiveConfig.register_for_auto_class()
ReactiveForCausalLM.register_for_auto_class("AutoModelForCausalLM")
