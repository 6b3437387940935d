"""Recipes of the supervised stages, and their sections `objective` and `curriculum`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from mrl.recipes.optimizer import PARTS
from mrl.recipes.stage import ReactiveStageConfig
from pipeline.errors import SettingError
from pipeline.ranges import NonNegativeFloat, NonNegativeInt, PositiveInt, Share, ShareBelowOne

FROZEN = {part: 0.0 for part in PARTS if part != "memory_attention"}
"""Learning rate multipliers that leave memory attention alone to learn."""


@dataclass(kw_only=True, frozen=True)
class JointConfig:
    """Joint language modelling: the encoder fills masked tokens, the decoder reads its detached layer outputs."""

    scored: Literal["all", "answer"] = "all"
    """all: every token but the first (pre-training); answer: what follows [A] or [T] (interaction SFT)."""
    mask_share: Share = 0.15
    """Share of tokens that the encoder sees as [MASK] and has to fill in."""
    decoder_weight: NonNegativeFloat = 1.0
    encoder_weight: NonNegativeFloat = 1.0
    noise: NonNegativeFloat = 0.0
    """Standard deviation of Gaussian noise added to what the decoder reads."""
    hidden_share: Share = 0.0
    """Share of the encoder's outputs that the decoder can't read."""
    blank_share: Share = 0.0
    """Share of rows whose decoder reads nothing at all, so that it also learns to work without a leak."""


@dataclass(kw_only=True, frozen=True)
class PretrainStage(ReactiveStageConfig):
    """A recipe for joint language modelling."""

    objective: JointConfig = field(default_factory=JointConfig)
    held_out_turns: PositiveInt = 1024
    """Turns that an evaluation looks at."""


@dataclass(kw_only=True, frozen=True)
class MemoryTargetConfig:
    """Self-supervised memory attention: after write i the state should be (1 - w_i) * before + w_i * interaction."""

    first_weight: Share = 0.9
    weight: Share = 0.5
    decay: NonNegativeFloat = 0.05
    """w_0 = first_weight; w_i = weight - decay * i."""
    jitter: Share = 0.0
    """Largest random amount added to or taken from each w_i, drawn per row."""
    noise: NonNegativeFloat = 0.0
    """Standard deviation of the Gaussian noise on the encoder's outputs that memory attention reads."""
    mse_weight: NonNegativeFloat = 1.0
    """Weight of the mean squared distance beside 1 - cosine, which alone leaves the scale of the memory free."""
    bptt_steps: PositiveInt | None = 1
    """Writes that a target's gradient flows back through; null: all."""


@dataclass(kw_only=True, frozen=True)
class MemoryPretrainStage(ReactiveStageConfig):
    """A recipe for self-supervised memory attention. The parts other than memory_attention stay frozen."""

    RENAMED: ClassVar[Mapping[str, str]] = {"turns": "max_turns"}

    objective: MemoryTargetConfig = field(default_factory=MemoryTargetConfig)
    max_turns: PositiveInt | None = 8
    """Writes of a dialogue, from its start; null: all."""
    held_out_dialogues: PositiveInt = 256
    """Dialogues that an evaluation looks at."""

    def __post_init__(self) -> None:
        """Refuse rates of parts that don't learn here."""
        for part, rate in self.optimizer.lr_multipliers.items():
            if rate and part in FROZEN:
                raise SettingError(f"optimizer.lr_multipliers.{part}", f"{part} stays frozen here; leave it out")


@dataclass(kw_only=True, frozen=True)
class MemoryAwareConfig:
    """Supervised memory-aware training: every answer is decoded from the memory of the turns before it."""

    bptt_steps: PositiveInt | None = None
    """Memory writes between two cuts of the gradient: 1 = only the last write before an answer learns from it; null:
    the whole episode."""
    other_turns: NonNegativeFloat = 1.0
    """Weight of the answers that need no memory, beside those that do."""
    other_share: Share = 1.0
    """Share of those answers that is decoded at all; they are easy, and cost as much as the others."""
    fact_weight: NonNegativeFloat = 1.0
    """Weight of tokens that hold a needed fact, beside an answer's other tokens."""
    open_book: bool = False
    """The decoder reads the encoder's tokens of all earlier turns instead of the memory: what it needs to find there is
    learnt sooner while nothing is lost in between."""
    distance_power: NonNegativeFloat = 0.0
    """Answers about facts that were said d turns ago weigh d to this power: far ones are rarer, and harder."""


@dataclass(kw_only=True, frozen=True)
class LengthCurriculumConfig:
    """Section `curriculum`. A dialogue of n steps has n interactions after the first."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        "least": "min_steps",
        "most": "max_steps",
        "review": "replay_fraction",
        "turns": "max_batch_turns",
    }

    start: PositiveInt | None = 1
    """Steps of the first lesson; null: whole dialogues from the start."""
    longest: PositiveInt | None = None
    """Steps of the last lesson. Default: those of the longest dialogue."""
    threshold: Share = 0.9
    """Recall on the training batches (a running mean) at which the steps are doubled."""
    smoothing: ShareBelowOne = 0.9
    """Weight of the past in that mean, per step."""
    min_steps: NonNegativeInt = 20
    """Steps of training that a lesson takes at least."""
    max_steps: PositiveInt | None = None
    """Steps after which the next lesson starts even below the threshold."""
    replay_fraction: ShareBelowOne = 0.2
    """Share of batches with dialogues of an earlier lesson."""
    max_batch_turns: PositiveInt = 576
    """Most interactions of a batch: lessons of long dialogues take fewer of them at a time."""


@dataclass(kw_only=True, frozen=True)
class MemorySFTStage(ReactiveStageConfig):
    """A recipe for supervised memory-aware training."""

    objective: MemoryAwareConfig = field(default_factory=MemoryAwareConfig)
    curriculum: LengthCurriculumConfig = field(default_factory=LengthCurriculumConfig)
    held_out_dialogues: PositiveInt = 256
    """Dialogues that an evaluation looks at (the final one takes all)."""
    stop_at: Share | None = None
    """Training ends when held-out recall of the longest dialogues has reached this."""
