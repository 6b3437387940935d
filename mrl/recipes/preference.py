"""The recipes of preference optimisation and of reward models, with their sections `preference` and `reward`."""

from dataclasses import dataclass, field
from typing import Literal

from mrl.recipes.stage import ReactiveStageConfig
from pipeline.errors import SettingError
from pipeline.ranges import NonNegativeFloat, PositiveFloat, PositiveInt, ShareBelowOne

LossType = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "apo_zero", "apo_down",
    "discopop", "sft", "sigmoid_norm",
]  # fmt: skip


@dataclass(kw_only=True, frozen=True)
class PreferenceConfig:
    """Section `preference`; the keys and their defaults are those of TRL's DPOConfig, but for `bptt_steps`."""

    loss_type: list[LossType] = field(default_factory=lambda: ["sigmoid"])
    """Losses that are added: DPO (sigmoid, hinge, robust, ...), IPO (ipo), APO (apo_zero, apo_down), and `sft`, the
    cross-entropy of the chosen answers."""
    loss_weights: list[NonNegativeFloat] | None = None
    """Of each loss. Default: 1."""
    beta: PositiveFloat = 0.1
    """How much a nat away from the reference counts."""
    label_smoothing: ShareBelowOne = 0.0
    """Share of pairs whose answers are believed to be the wrong way round (robust, exo_pair)."""
    discopop_tau: PositiveFloat = 0.05
    bptt_steps: PositiveInt | None = None
    """Memory writes that a pair's gradient flows back through: how earlier turns were written is learnt too. null: all
    of the dialogue."""

    def __post_init__(self) -> None:
        """Refuse weights that don't fit and a smoothing that a loss can't have."""
        if not self.loss_type:
            raise SettingError("loss_type", "loss_type is empty; give at least one loss")
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss_type):
            raise SettingError("loss_weights", f"loss_weights needs {len(self.loss_type)} numbers, one for each loss")
        if "exo_pair" in self.loss_type and self.label_smoothing == 0:
            raise SettingError("label_smoothing", "label_smoothing is 0; exo_pair takes its logarithm: give 0.001")
        if "robust" in self.loss_type and self.label_smoothing >= 0.5:
            raise SettingError("label_smoothing", "label_smoothing must lie below 0.5 for robust")
        if self.label_smoothing and not {"exo_pair", "robust"} & set(self.loss_type):
            raise SettingError("label_smoothing", "label_smoothing belongs to robust and exo_pair; leave it out")

    @property
    def weights(self) -> list[float]:
        """One for each loss."""
        return self.loss_weights or [1.0] * len(self.loss_type)


@dataclass(kw_only=True, frozen=True)
class DPOStage(ReactiveStageConfig):
    """A recipe for direct preference optimisation."""

    preference: PreferenceConfig = field(default_factory=PreferenceConfig)
    held_out_dialogues: PositiveInt = 256
    """Dialogues that an evaluation looks at (the final one takes all)."""


Context = Literal["memory", "text", "none"]


@dataclass(kw_only=True, frozen=True)
class RewardSection:
    """Section `reward`."""

    context: Context = "memory"
    """What the scorer is told of earlier turns (mrl/preferences/reward_model.py)."""
    context_turns: PositiveInt = 4
    """With context: text, how many of them."""
    center_rewards_coefficient: NonNegativeFloat = 0.0
    """Weight of the squared sum of a pair's scores, which keeps them around 0 (Eisenstein et al. 2023,
    arXiv:2312.09244; TRL's name)."""


@dataclass(kw_only=True, frozen=True)
class RewardModelStage(ReactiveStageConfig):
    """A recipe for a reward model."""

    reward: RewardSection = field(default_factory=RewardSection)
    held_out_dialogues: PositiveInt = 256
    """Dialogues that an evaluation looks at (the final one takes all)."""
