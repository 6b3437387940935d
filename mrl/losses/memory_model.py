"""What a policy with a memory has to offer: all that losses and reinforcement learning know of a model."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from mrl.model import Answers, DecoderOutput, EncoderOutput, Forced, MemoryHistory, MemoryState, Sampling, TurnFrame


class MemoryModelConfig(Protocol):
    """Facts about a model that a loss depends on."""

    num_hidden_layers: int
    hidden_size: int
    memory_slots: int
    max_interaction_length: int
    """Tokens of one interaction at most."""
    router_aux_loss_coef: float
    """Weight of `DecoderOutput.aux_loss`."""

    @property
    def frame(self) -> TurnFrame:
        """The markers around the parts of an interaction."""
        ...

    @property
    def state_layers(self) -> int:
        """Layers of a memory state: those of the network, and whatever else it keeps."""
        ...


class MemoryModel(Protocol):
    """A decoder that reads a memory, and an encoder whose view of an interaction is written into it.

    Symbols: B rows, K turns, T tokens, L layers, S slots, D width; V vocabulary. Interactions are right-padded, masks
    are 0/1 or bool. No method changes the state that it is given. `mrl.model.ReactiveForCausalLM` is one.
    """

    @property
    def config(self) -> MemoryModelConfig: ...

    @property
    def device(self) -> torch.device: ...

    def initial_state(
        self,
        batch_size: int | None = None,
        *,
        seeds: Sequence[int] | Tensor | None = None,
        device: str | torch.device | None = None,
    ) -> MemoryState:
        """The memory before the first write; row b depends on seeds[b] alone."""
        ...

    def encode(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> EncoderOutput:
        """Interactions [B, T] as the memory sees them: layers [L, B, T, D], hidden [B, T, D]."""
        ...

    def mlm_logits(self, hidden: Tensor) -> Tensor:
        """Encoder outputs [..., D] -> logits [..., V] of the tokens in their places."""
        ...

    def update_memory(
        self, state: MemoryState, encoded: Tensor | EncoderOutput, attention_mask: Tensor | None = None
    ) -> MemoryState:
        """Write encoded interactions, one a row; rows without a token keep their state."""
        ...

    def write(self, state: MemoryState, input_ids: Tensor, attention_mask: Tensor | None = None) -> MemoryState:
        """Encode interactions [B, T], then update the memory."""
        ...

    def unroll(self, state: MemoryState, input_ids: Tensor, attention_mask: Tensor | None = None) -> MemoryHistory:
        """States before and after writing the K interactions [B, K, T] of each row."""
        ...

    def decode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        state: MemoryState | None = None,
        *,
        labels: Tensor | None = None,
        logits_at: Tensor | None = None,
    ) -> DecoderOutput:
        """Read interactions [B, T] against a memory; logits [n, V] that predict the labels [B, T] (-100: not scored) or
        that follow the places `logits_at` [B, T]. Differentiable in state and parameters."""
        ...

    def generate_answers(
        self,
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
        """Sample an answer to each query [B, T], or `samples` [B] of them, with the log-probs of its tokens and what
        `opening` makes of the states [B, D] and logits [B, V] before the first token that is chosen."""
        ...

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by part, each once: embedding, encoder, memory_attention, memory_cross_attention, decoder."""
        ...
