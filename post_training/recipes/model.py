"""The sections that say which weights a stage starts from: `model`, `peft`, `architecture` and `start`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.errors import InputError, SettingError, nearest
from pipeline.hub import refuse_unreachable
from pipeline.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, ShareBelowOne, Text

GGUF = ".gguf"


@dataclass(kw_only=True, frozen=True)
class PolicyConfig:
    """Section `model`: which weights to start from."""

    name: Text
    """A Hub name, a folder with weights, or the output_dir of an earlier stage."""
    gguf_file: Text | None = None
    """The GGUF file to take weights and tokenizer from, in the folder or on the Hub; it is dequantised."""
    revision: Text | None = None
    """Branch, tag or commit on the Hub."""
    tokenizer: Text | None = None
    """Where the tokenizer comes from when it isn't beside the weights."""
    special_tokens: list[Text] = field(default_factory=list)
    """Tokens to add; their embedding rows start from the mean of the old ones."""
    eos_token: Text | None = None
    """The token that ends a turn. Default: <|im_end|> where the chat template uses it, else the tokenizer's own."""
    pad_token: Text | None = None
    """Default: the tokenizer's own, else the EOS token. Labels never depend on it."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the weights that the optimizer updates; the arithmetic's type is trainer.bf16 / trainer.fp16."""
    attn_implementation: Text | None = None
    trust_remote_code: bool = False

    def refuse_missing(self) -> None:
        """Raises InputError for weights, or a tokenizer, of which it can be told without reading them that they aren't
        there."""
        check_gguf(self.name, self.gguf_file)
        name = self.name
        if not Path(name).exists() and (name.startswith((".", "/", "outputs/")) or name.count("/") > 1):
            raise InputError(f"model.name: there is no folder {name}; run the stage that makes it, or give a Hub name")
        for key, source in (("name", name), ("tokenizer", self.tokenizer)):
            if source is not None and not Path(source).exists():
                refuse_unreachable(source, f"model.{key}")


@dataclass(kw_only=True, frozen=True)
class AdapterConfig:
    """Section `peft`, in PEFT's own names."""

    r: PositiveInt = 16
    """Rank: the adapter of a layer is a product of two matrices with so many columns and rows."""
    lora_alpha: PositiveInt = 32
    """The product is scaled by lora_alpha / r."""
    lora_dropout: ShareBelowOne = 0.0
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get one; all-linear: every linear layer but the head."""
    use_rslora: bool = False
    """Scale by lora_alpha / sqrt(r)."""
    output: Literal["merged", "adapter"] = "merged"
    """What model/ holds: a model like any other, or the adapter alone, which needs its base model beside it."""


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
    num_experts: PositiveInt | None = None
    """A mixture of so many experts in every layer (transformers' Mixtral) instead of one feed-forward part."""
    experts_per_token: PositiveInt = 2
    """How many of them read a token."""

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads or self.hidden_size // self.num_attention_heads % 2:
            raise SettingError(
                "hidden_size",
                f"hidden_size {self.hidden_size} must be an even multiple of num_attention_heads"
                f" {self.num_attention_heads}",
            )
        if self.num_attention_heads % (self.num_key_value_heads or self.num_attention_heads):
            raise SettingError("num_key_value_heads", "num_attention_heads must be a multiple of num_key_value_heads")
        if self.num_experts is not None and self.experts_per_token > self.num_experts:
            raise SettingError("experts_per_token", f"experts_per_token: there are only {self.num_experts} experts")


@dataclass(kw_only=True, frozen=True)
class StartConfig:
    """Section `start`: structure laid into the random weights."""

    copying: NonNegativeFloat = 1.0
    """Gain of the value matrices whose transposes are the output matrices; 0 leaves both random."""
    look_back: list[NonNegativeInt] = field(default_factory=lambda: [1, 2])
    """A head of the first layer for each distance, in tokens; empty for none (and no attention biases)."""
    look_back_strength: NonNegativeFloat = 6.0
    """Size of the biases: how much the distance outweighs the content."""
    induction: NonNegativeFloat = 0.0
    """Logit of a match, for as many heads of the second layer, which look for what followed the present token before,
    the token before it, and so on; look_back must be 1, 2, … then. 0 for none."""
    embedding_std: PositiveFloat | None = None
    """Deviation of the embeddings; null: architecture.initializer_range. What attention writes is of size `copying`²:
    of a much smaller embedding the second layer sees next to nothing."""

    def __post_init__(self) -> None:
        in_a_row = self.look_back == list(range(1, len(self.look_back) + 1))
        if self.induction and not (self.copying and self.look_back and in_a_row):
            raise SettingError(
                "induction", "induction reads what heads that look back 1, 2, … write by copying: give both"
            )


def check_gguf(name: str, file: str | None) -> None:
    """Refuse what of a local folder and its GGUF file can be told without reading it. Raises InputError.

    file: None where the recipe names no GGUF; a folder that holds nothing else then needs one.
    """
    folder = Path(name)
    there = sorted(path.name for path in folder.glob(f"*{GGUF}")) if folder.is_dir() else []
    if file is None:
        if there and not list(folder.glob("*.safetensors")) and not (folder / "model").exists():
            raise InputError(f"model.name: {name} holds GGUF weights; write model.gguf_file: {' or '.join(there[:5])}")
        return
    if not file.endswith(GGUF):
        raise InputError(f"model.gguf_file: {file} is no GGUF file; give the name of a *{GGUF} file")
    if "-of-0" in file:
        raise InputError(
            f"model.gguf_file: {file} is one of several parts; merge them (llama-gguf-split --merge) first"
        )
    if folder.is_file():
        raise InputError(f"model.name: {name} is a file; give its folder, and its name as model.gguf_file")
    if folder.is_dir() and file not in there:
        raise InputError(f"model.gguf_file: {name} has no {file}{nearest(file, there) or '; it holds no GGUF file'}")
