"""Scores for texts: an encoder with a head, which may also read a memory. Critics and reward models are of this class.

`ReactiveForSequenceClassification`:
    forward(input_ids [B, T], attention_mask=None, memory=None) -> SequenceClassifierOutput(logits [B, num_labels])
    from_causal_lm(model, ...) -> a scorer that starts with the weights of a reactive model
    config.num_labels scores a text; config.classifier_reads_memory: whether a `memory` has to be given
"""

from typing import Self

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput

from .attention import MemoryCrossAttention, RMSNorm, key_mask, rotary_table
from .configuration_reactive import ReactiveConfig
from .layers import EncoderLayer, ReactivePreTrainedModel
from .memory_state import MemoryState, fit


class MemoryReader(nn.Module):
    """Tokens read one layer of a memory; the norms and the cross-attention are those of a decoder's layer."""

    def __init__(self, config: ReactiveConfig):
        super().__init__()
        width, eps = config.hidden_size, config.rms_norm_eps
        self.cross_norm = RMSNorm(width, eps)
        self.memory_norm = RMSNorm(width, eps)
        self.cross_attention = MemoryCrossAttention(width, *config.memory_heads, config.head_dim)

    def forward(self, x: Tensor, memory: Tensor, table: Tensor, mask: Tensor | None) -> Tensor:
        """x [B, T, D] with what it finds in memory [B, S, D]."""
        key, value = self.cross_attention.project_memory(self.memory_norm(memory))
        return x + self.cross_attention(self.cross_norm(x), key, value, table, mask)


class ReactiveReader(ReactivePreTrainedModel):
    """The encoder of a reactive model, with a memory reader before each of its layers where the configuration says so.

    Parameters have the names that they have in a `ReactiveModel`, but for `readers.N`, there a part of `decoder.N`.
    """

    def __init__(self, config: ReactiveConfig):
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embedding_scale = config.hidden_size**0.5
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))
        self.encoder_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.readers: nn.ModuleList | None = None
        if config.classifier_reads_memory:
            self.readers = nn.ModuleList(MemoryReader(config) for _ in range(config.num_hidden_layers))
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, memory: MemoryState | None = None
    ) -> Tensor:
        """Normed outputs [B, T, D] of the last layer. Raises ValueError where a memory is missing or of no use."""
        if self.readers is not None and memory is None:
            raise ValueError("this model scores a text together with a memory (classifier_reads_memory): give one")
        if self.readers is None and memory is not None:
            raise ValueError("this model scores a text alone (classifier_reads_memory is false): give no memory")
        memory = None if memory is None else fit(memory, self.config, input_ids.shape[0])
        x = self.embedding(input_ids) * self.embedding_scale
        table = rotary_table(x.shape[1], *self.config.rope, x.device, x.dtype)
        mask = key_mask(attention_mask)
        for index, layer in enumerate(self.encoder):
            if self.readers is not None and memory is not None:
                x = self.readers[index](x, memory.slots[index], table, key_mask(memory.readable))
            x = layer(x, table, mask)
        return self.encoder_norm(x)


class ScoreHead(nn.Module):
    """Two layers from a text's mean to its scores. The last one starts at 0: at first all texts score the same."""

    def __init__(self, width: int, labels: int):
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.out = nn.Linear(width, labels)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.out(nn.functional.silu(self.dense(pooled)))


class ReactiveForSequenceClassification(ReactivePreTrainedModel):
    """Scores a text, and what is in memory before it, by the mean of its encoded tokens."""

    def __init__(self, config: ReactiveConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = ReactiveReader(config)
        # transformers always fills in `id2label`, without which alone there would be no number.
        self.score = ScoreHead(config.hidden_size, config.num_labels)  # ty: ignore[invalid-argument-type]
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ScoreHead):
            bound = module.dense.in_features**-0.5
            init.uniform_(module.dense.weight, -bound, bound)
            init.uniform_(module.dense.bias, -bound, bound)
            init.zeros_(module.out.weight)
            init.zeros_(module.out.bias)

    @classmethod
    def from_causal_lm(cls, model: ReactivePreTrainedModel, *, num_labels: int = 1, reads_memory: bool = True) -> Self:
        """A scorer with the embedding, the encoder and (reads_memory) the memory cross-attention of a
        `ReactiveForCausalLM`, and a new head; the weights are copies. Raises ValueError for a model that has no such
        encoder: one without memory, or one that keeps token states."""
        if not model.config.memory_slots:
            raise ValueError("a model without memory (memory_slots 0) has no encoder to score with")
        if model.config.memory_write == "surprise":
            raise ValueError("a model that keeps token states (memory_write surprise) has no encoder to score with")
        facts = {
            k: v
            for k, v in model.config.to_dict().items()
            if k not in ("auto_map", "architectures", "id2label", "label2id")
        }
        config = type(model.config).from_dict(facts | {"classifier_reads_memory": reads_memory})
        config.num_labels = num_labels
        # What is drawn here and replaced at once shouldn't change what is drawn afterwards.
        with torch.random.fork_rng(devices=[]):
            scorer = cls(config)
        scorer._init_weights(scorer.score)
        own = scorer.model.state_dict()
        given = {name.replace("decoder.", "readers.", 1): value for name, value in model.model.state_dict().items()}
        scorer.model.load_state_dict({name: given[name] for name in own})
        return scorer.to(model.device, model.dtype)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by part, each exactly once, for freezing and rates; `score` is the head."""
        groups: dict[str, list[nn.Parameter]] = {
            "embedding": [], "encoder": [], "memory_cross_attention": [], "score": []
        }  # fmt: skip
        for name, parameter in self.named_parameters():
            if name.startswith("score"):
                groups["score"].append(parameter)
            elif "embedding" in name:
                groups["embedding"].append(parameter)
            else:
                groups["memory_cross_attention" if "readers" in name else "encoder"].append(parameter)
        return groups

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, memory: MemoryState | None = None, **_
    ) -> SequenceClassifierOutput:
        """logits [B, num_labels] of texts [B, T], padded on the right, attention_mask [B, T] of 0/1."""
        hidden = self.model(input_ids, attention_mask, memory)
        weight = (torch.ones_like(input_ids) if attention_mask is None else attention_mask)[..., None].to(hidden.dtype)
        pooled = (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)
        return SequenceClassifierOutput(logits=self.score(pooled))


ReactiveForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
