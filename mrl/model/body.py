"""The parts of a reactive model without its vocabulary heads; shapes as in `modeling_reactive`."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .attention import RMSNorm, key_mask, rotary_table
from .by_length import LengthGroups
from .configuration_reactive import ReactiveConfig
from .layers import DecoderLayer, EncoderLayer, ReactivePreTrainedModel
from .memory import CopyPath, MemoryAttention, TokenWorth, Windows
from .memory_state import MemoryState, TokenState


@dataclass(eq=False)
class EncoderOutput:
    """layers [L, B, T, D]: every layer's output, what memory attention reads; hidden [B, T, D]: normed last layer;
    input_ids [B, T]: what was read, for windows of tokens (`memory.CopyPath`). Of a decoder that keeps token states
    layers are what enters each layer that reads the memory, and surprise [B, T] how badly each token was predicted, in
    nats; with `memory_keep` learned how likely it is needed later besides (`memory.TokenWorth`)."""

    layers: Tensor
    hidden: Tensor
    input_ids: Tensor | None = None
    surprise: Tensor | None = None


class ReactiveModel(ReactivePreTrainedModel):
    """The parts of a reactive model without its vocabulary heads."""

    def __init__(self, config: ReactiveConfig):
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        # Embeddings are kept at std D^-0.5, right for a tied output, and scaled to unit variance at the input.
        self.embedding_scale = config.hidden_size**0.5 if config.scale_embedding else 1.0
        self.places = {layer: place for place, layer in enumerate(config.reading_layers)}
        """Of each layer that reads the memory: which layer of a state is its own."""
        layers = range(config.num_hidden_layers)
        self.decoder = nn.ModuleList(DecoderLayer(config, reads=layer in self.places) for layer in layers)
        self.decoder_norm = RMSNorm(config.hidden_size, config.rms_norm_eps, config.to_the_bit)
        self.initial_memory: Tensor | None = None
        self.keeps_tokens = config.memory_slots > 0 and config.memory_write == "surprise"
        self.token_worth: TokenWorth | None = None
        if self.keeps_tokens and config.memory_keep == "learned":
            self.token_worth = TokenWorth(config.hidden_size)
        if self.keeps_tokens and config.encoder == "own":
            self.encoder = nn.ModuleList(DecoderLayer(config, reads=False) for _ in range(config.num_hidden_layers))
            self.encoder_norm = RMSNorm(config.hidden_size, config.rms_norm_eps, config.to_the_bit)
        if config.memory_slots and not self.keeps_tokens:
            self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))
            self.encoder_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
            self.memory_attention = MemoryAttention(config)
            if config.copy_window:
                self.copying = CopyPath(config)
            shape = (config.num_hidden_layers, config.memory_slots, config.hidden_size)
            if config.initial_state == "learned":
                self.initial_memory = nn.Parameter(torch.zeros(shape))
            elif config.initial_state == "loaded":
                # A buffer, for loading a checkpoint makes every parameter trainable again.
                del self.initial_memory
                self.register_buffer("initial_memory", torch.zeros(shape))
        self.post_init()

    def table(self, length: int, x: Tensor) -> Tensor:
        """Rotary table for positions 0..length-1 in the precision of x."""
        return rotary_table(length, *self.config.rope, x.device, x.dtype, self.config.to_the_bit)

    def embed(self, input_ids: Tensor) -> Tensor:
        return self.embedding(input_ids) * self.embedding_scale

    def encode(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> EncoderOutput:
        """Read whole interactions [B, T] in both directions."""
        self._check_length(input_ids)
        if groups := LengthGroups.of(input_ids, attention_mask):
            parts = [self.encode(*part) for part in groups.parts]
            layers, last = [part.layers for part in parts], [part.hidden for part in parts]
            return EncoderOutput(groups.join(layers, 1), groups.join(last), input_ids)
        x = self.embed(input_ids)
        table, mask, layers = self.table(x.shape[1], x), key_mask(attention_mask), []
        if mask is not None:
            # A row of padding alone still needs something to look at; nobody reads its output.
            mask = mask | ~mask.any(-1, keepdim=True)
        for layer in self.encoder:
            x = layer(x, table, mask)
            layers.append(x)
        return EncoderOutput(torch.stack(layers), self.encoder_norm(x), input_ids)

    def hidden(
        self, input_ids: Tensor, state: MemoryState | None = None, attention_mask: Tensor | None = None
    ) -> Tensor:
        """Normed decoder outputs [B, T, D]; right padding needs no mask, for attention is causal, but with one it costs
        little."""
        # A router is balanced over the whole batch, and tokens that states share are projected once for all of it.
        whole = self.config.num_experts or isinstance(state, TokenState)
        if groups := None if whole else LengthGroups.of(input_ids, attention_mask):
            states = (None if state is None else state.rows(rows) for rows in groups.rows)
            return groups.join([self.hidden(ids, of) for (ids, _), of in zip(groups.parts, states, strict=True)])
        return self.decoder_norm(self._through(self.decoder, input_ids, state)[1])

    def windows(self, state: MemoryState | None) -> Windows | None:
        """What answers may copy from a state; None for a model, or a state, without windows."""
        if state is None or not self.config.copy_window or len(state.slots) == self.config.num_hidden_layers:
            return None
        return self.copying.open(state.slots)

    def readable(self, state: MemoryState) -> Tensor | None:
        """Slots that the decoder may read [B, S], None for all: of a memory that may be empty those that hold
        something."""
        if (self.config.memory_read, self.config.memory_write) == ("cross", "attention"):
            return state.readable
        filled = state.filled
        return filled if state.readable is None else filled & state.readable

    def token_states(self, input_ids: Tensor, state: MemoryState | None = None) -> EncoderOutput:
        """Tokens [B, T] as a causal network sees them: what enters each layer that reads the memory, and the normed
        outputs. With a state (encoder none) as they are when an answer is read from it, else by themselves."""
        layers, hidden = self.token_layers(input_ids, state)
        return EncoderOutput(torch.stack(layers), hidden)

    def token_layers(self, input_ids: Tensor, state: MemoryState | None = None) -> tuple[list[Tensor], Tensor]:
        """The same, each layer [B, T, D] by itself."""
        self._check_length(input_ids)
        own = self.config.encoder == "own"
        layers, last = self._through(self.encoder if own else self.decoder, input_ids, state)
        return [layers[index] for index in self.places], (self.encoder_norm if own else self.decoder_norm)(last)

    def worth(self, layers: Sequence[Tensor] | Tensor) -> Tensor | None:
        """Log-odds [...] that tokens are needed later, from their states [..., D] as they enter the middle one of the
        layers that read the memory; None where that isn't learnt."""
        return None if self.token_worth is None else self.token_worth(layers[len(self.places) // 2])

    def _through(
        self, stack: nn.ModuleList, input_ids: Tensor, state: MemoryState | None
    ) -> tuple[list[Tensor], Tensor]:
        """What enters each layer of a causal stack, and what leaves the last."""
        x = self.embed(input_ids)
        table, layers = self.table(x.shape[1], x), []
        mask = None if state is None else key_mask(self.readable(state))
        for index, layer in enumerate(stack):
            layers.append(x)
            place = self.places.get(index)
            x = layer(x, table, None if state is None or place is None else state.layer(place), mask)
        return layers, x

    def project_encoded(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Encoder layers [L, B, T, D] -> key, value [L, B, T, G, d] of the memory attention."""
        return self.memory_attention.project(encoded, self.table(encoded.shape[2], encoded))

    def _check_length(self, input_ids: Tensor) -> None:
        if input_ids.shape[1] > self.config.max_interaction_length:
            raise ValueError(
                f"an interaction of {input_ids.shape[1]} tokens is longer than max_interaction_length "
                f"{self.config.max_interaction_length}: truncate it or raise the limit in the configuration"
            )
