"""Makes a small Llama with random weights, together with its tokenizer: what stage 1 of the quickstart starts from.

    uv run post_training/initialise.py --config-path post_training/config/quickstart/model.yaml

Random, but not structureless. What a tiny model needs longest for is to copy: to find an earlier token and say it. Two
parts of that circuit are laid into the weights, after A. Trockman and J. Z. Kolter, "Mimetic Initialization of
Self-Attention Layers" (2023), who set the products of attention matrices to what trained models have there: every head
hands on what it reads unchanged (its output matrix is the transpose of an orthogonal value matrix, and the output
embedding is the input embedding), and a few heads of the first layer look a fixed number of tokens back (a bias of
query and key whose rotations agree at that distance). Everything stays trainable and is an ordinary Llama.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from pipeline.artifact import atomic_dir
from pipeline.errors import InputError, SettingError
from pipeline.hub import first_line
from pipeline.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Text
from pipeline.run import Run, stage_main
from pipeline.stage_config import StageConfig
from post_training.policy import MODEL_FOLDER, PolicyConfig, agree_on_turn_end, load_policy

DEFAULT_CONFIG = Path(__file__).parent / "config" / "quickstart" / "model.yaml"


@dataclass(kw_only=True, frozen=True)
class ArchitectureConfig:
    """Section `architecture`: the shape of the Llama."""

    hidden_size: PositiveInt = 128
    intermediate_size: PositiveInt = 352
    num_hidden_layers: PositiveInt = 4
    num_attention_heads: PositiveInt = 4
    num_key_value_heads: PositiveInt | None = None
    """Default: as many as attention heads."""
    max_position_embeddings: PositiveInt = 1024
    rope_theta: PositiveFloat = 1000.0
    initializer_range: PositiveFloat = 0.02
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads or self.hidden_size // self.num_attention_heads % 2:
            raise SettingError(
                "hidden_size",
                f"hidden_size {self.hidden_size} must be an even multiple of num_attention_heads"
                f" {self.num_attention_heads}",
            )
        if self.num_attention_heads % (self.num_key_value_heads or self.num_attention_heads):
            raise SettingError("num_key_value_heads", "num_attention_heads must be a multiple of num_key_value_heads")


@dataclass(kw_only=True, frozen=True)
class StartConfig:
    """Section `start`: structure laid into the random weights."""

    copying: NonNegativeFloat = 1.0
    """Gain of the value matrices whose transposes are the output matrices; 0 leaves both random."""
    look_back: list[NonNegativeInt] = field(default_factory=lambda: [1, 2])
    """A head of the first layer for each distance, in tokens; empty for none (and no attention biases)."""
    look_back_strength: NonNegativeFloat = 6.0
    """Size of the biases: how much the distance outweighs the content."""


@dataclass(kw_only=True, frozen=True)
class InitialiseConfig(StageConfig):
    """A model from nothing, or (with `model`) an ordinary checkpoint of weights that are there."""

    tokenizer: Text | None = None
    """Folder or Hub name of the tokenizer of random weights; its chat template goes with the model."""
    model: PolicyConfig | None = None
    """Instead: weights to write down as a checkpoint, as of a GGUF file, with the tokens that the section adds."""
    architecture: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    start: StartConfig = field(default_factory=StartConfig)

    def __post_init__(self) -> None:
        if (self.tokenizer is None) == (self.model is None):
            raise ValueError("give either tokenizer (for random weights) or model (weights that are there)")
        for key, section in (("architecture", ArchitectureConfig()), ("start", StartConfig())):
            if self.model is not None and getattr(self, key) != section:
                raise SettingError(key, f"{key} has no effect on weights that are there; leave it out")


def new_model(
    architecture: ArchitectureConfig, start: StartConfig, tokenizer: PreTrainedTokenizerBase
) -> LlamaForCausalLM:
    """A Llama with as many embedding rows as the tokenizer has tokens, fp32."""
    heads = architecture.num_attention_heads
    if len(start.look_back) > min(heads, architecture.num_key_value_heads or heads):
        raise InputError("start.look_back: there are fewer heads in a layer than distances; drop some")
    shape: dict[str, Any] = {**vars(architecture), "num_key_value_heads": architecture.num_key_value_heads or heads}
    model = LlamaForCausalLM(LlamaConfig(**shape, vocab_size=len(tokenizer), attention_bias=bool(start.look_back)))
    with torch.no_grad():
        if start.copying:
            layers: Any = model.model.layers
            for layer in layers:
                lay_copying(layer.self_attn, start.copying)
        for head, distance in enumerate(start.look_back):
            lay_look_back(model, head, distance, start.look_back_strength)
    return model


def lay_copying(attention: Any, gain: float) -> None:
    """Output matrix = transpose of an orthogonal value matrix: a token that is read is written on, times gain²."""
    value, output = attention.v_proj.weight, attention.o_proj.weight
    torch.nn.init.orthogonal_(value)
    value.mul_(gain)
    groups = output.shape[1] // value.shape[0]
    head_dim = attention.head_dim
    per_head = value.view(-1, 1, head_dim, value.shape[1]).expand(-1, groups, -1, -1).reshape(output.shape[1], -1)
    output.copy_(per_head.T / groups)


def lay_look_back(model: Any, head: int, distance: int, strength: float) -> None:
    """Make a head of the first layer attend `distance` tokens back, whatever the tokens are.

    Rotary embedding turns pair i of a query at t and of a key at s by w_i·t and w_i·s. With the key bias along the
    first axis of every pair and the query bias at the angle -w_i·distance, their product is the sum over i of
    strength²·cos(w_i·(t - s - distance)), which is largest at t - s = distance.
    """
    attention = model.model.layers[0].self_attn
    size = attention.head_dim
    half = size // 2
    theta = model.config.rope_parameters["rope_theta"]
    angle = -distance * theta ** (-torch.arange(half) * 2 / size)
    groups = attention.num_key_value_groups
    for matrix in (attention.q_proj, attention.k_proj):
        offset = head * size if matrix is attention.k_proj else head * groups * size
        matrix.weight[offset : offset + size] *= 0.3
        first, second = matrix.bias[offset : offset + half], matrix.bias[offset + half : offset + size]
        if matrix is attention.k_proj:
            first.fill_(strength)
        else:
            first.copy_(strength * torch.cos(angle))
            second.copy_(strength * torch.sin(angle))


def from_nothing(config: InitialiseConfig) -> tuple[LlamaForCausalLM, Any]:
    """A new model and its tokenizer. Raises InputError where there is no such tokenizer."""
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(config.tokenizer, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise InputError(
            f"tokenizer: {config.tokenizer} can't be loaded: {first_line(error)}; train it with data/tokenizer.py"
        ) from None
    model = new_model(config.architecture, config.start, tokenizer)
    agree_on_turn_end(model, tokenizer)
    return model, tokenizer


def main(config: InitialiseConfig, run: Run) -> None:
    """Build or read, save, count."""
    tokenizer: Any
    if config.model is not None:
        model, tokenizer, _ = load_policy(config.model, None)
    else:
        model, tokenizer = from_nothing(config)
    parameters = sum(p.numel() for p in model.parameters())
    with atomic_dir(run.dir / MODEL_FOLDER, {"kind": "model", "parameters": parameters, "seed": config.seed}) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    loss_of_guessing = math.log(len(tokenizer))
    run.report(parameters=parameters, vocab_size=len(tokenizer), loss_of_guessing=round(loss_of_guessing, 4))


if __name__ == "__main__":
    stage_main(InitialiseConfig, main, default_config=DEFAULT_CONFIG, description=__doc__)
