"""Section `ppo`: how rollouts become updates."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a recipe has to know of an algorithm, whose functions are in mrl/rl/algorithms."""

    needs_critic: bool = True
    looks_ahead: bool = True
    """Whether a turn may earn from the rewards of later ones."""
    drift_coef: float = 0.0
    """Its own price of moving the memory."""
    compares: bool = False
    """Whether answers are compared with others to the same question."""


TRAITS = {
    "ppo": Traits(),
    "a2c": Traits(),
    "grpo": Traits(needs_critic=False, looks_ahead=False, compares=True),
    "raft": Traits(needs_critic=False, looks_ahead=False, compares=True),
    "impo": Traits(looks_ahead=False, drift_coef=1e-4),
}


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """Section `ppo`: how rollouts become updates."""

    RENAMED: ClassVar[Mapping[str, str]] = {"used_share": "keep_fraction"}

    algorithm: str = "ppo"
    """ppo, a2c, grpo, raft or impo: a module each in mrl/rl/algorithms."""
    gamma: float = 0.99
    """Discount from turn to turn."""
    gae_lambda: float = 0.95
    """1 = rewards to the end of the dialogue, 0 = one turn and the critic."""
    clip_range: float = 0.2
    """A token's ratio earns nothing below 1 minus this, nor above 1 plus it."""
    clip_range_high: float | None = None
    """Another upper limit of the ratio (clip-higher). Default: clip_range."""
    value_clip: float | None = 0.2
    """The critic's new value counts only this far from its old one; null = no limit."""
    entropy_coef: float = 0.003
    """Reward for undecided token distributions, in nats per token."""
    kl_coef: float = 0.0
    """Price of a nat per token away from the policy that the run started from."""
    drift_coef: float | None = None
    """Price of moving the memory: sqrt(turn) * mean squared change. Default: the algorithm's (impo 1e-4, others 0)."""
    target_kl: float | None = 0.05
    """An update's remaining passes are left out when the policy has moved this many nats per token; null = never."""
    update_epochs: int = 2
    """Passes over each round."""
    minibatch_episodes: int = 64
    """Dialogues per optimizer step, over all processes."""
    keep_fraction: float = 1.0
    """Share of a round's dialogues that updates are made from: those with the largest advantages (mean size over the
    turns that count). To play a dialogue costs a fraction of learning from it, and most are known already
    (down-sampling: Xu et al. 2025, arXiv:2504.13818)."""
    normalize_advantages: bool = True
    """Give advantages mean 0 and deviation 1 over all dialogues of all processes (algorithms with a critic)."""
    negative_coef: float = 1.0
    """Weight of answers that did worse than expected beside those that did better; 0: only these are learnt, each the
    more the less it was expected (weighted REINFORCE: Zhu et al. 2025, arXiv:2506.01347)."""
    group_std: bool = True
    """Divide grpo's advantages by the deviation of their group; false: centred only (Dr. GRPO)."""
    loss_scope: Literal["token", "answer"] = "token"
    """Whether every token counts alike or every answer."""
    group_size: int = 1
    """Answers sampled from the same memory at every turn; grpo and raft need at least 2."""
    even_groups: Literal["keep", "drop"] = "keep"
    """Of grpo's and raft's groups whose answers all earned the same, which teach nothing. keep: they count in what the
    loss is divided by, so that a round of few surprises makes small steps. drop: neither they nor dialogues without
    another group take part in an update; what `keep_fraction` would have left out takes their place (DAPO: Yu et al.
    2025)."""

    def __post_init__(self) -> None:
        """Refuse unknown algorithms and numbers out of range."""
        if self.algorithm == "group":
            logger.warning("ppo.algorithm: group is now called grpo")
            object.__setattr__(self, "algorithm", "grpo")
        if self.algorithm not in TRAITS:
            raise ValueError(f"algorithm is {self.algorithm!r}; choose one of {', '.join(TRAITS)}")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in 0..1")
        if not 0 < self.keep_fraction <= 1:
            raise ValueError(f"keep_fraction is {self.keep_fraction}; a share lies above 0 and is at most 1")
        if self.negative_coef < 0:
            raise ValueError(f"negative_coef is {self.negative_coef}; answers that did worse can't be learnt as better")
        for name in ("clip_range", "update_epochs", "minibatch_episodes", "group_size"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        for name in ("clip_range_high", "value_clip", "target_kl"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive, or null")
        for name in ("entropy_coef", "kl_coef", "drift_coef"):
            if (getattr(self, name) or 0.0) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; a price can't be negative")
        if self.clip_range >= 1:
            raise ValueError(f"clip_range is {self.clip_range}; it must lie below 1, for no ratio is below 0")
        compares = TRAITS[self.algorithm].compares
        if compares and self.group_size < 2:
            raise ValueError(
                f"algorithm {self.algorithm} compares answers to the same question: set group_size to 2 or more"
            )
        if self.even_groups != "keep" and not compares:
            raise ValueError(f"even_groups is {self.even_groups}; only grpo and raft compare the answers of a group")
        if self.negative_coef != 1 and self.algorithm == "raft":
            raise ValueError(f"negative_coef is {self.negative_coef}; raft learns the best answers of a group alone")
        if self.minibatch_episodes % self.group_size:
            raise ValueError(
                f"minibatch_episodes {self.minibatch_episodes} must be a multiple of group_size {self.group_size}"
            )

    @property
    def clip_high(self) -> float:
        """How far above 1 a ratio may earn."""
        return self.clip_range if self.clip_range_high is None else self.clip_range_high

    @property
    def needs_critic(self) -> bool:
        """Whether answers are compared with what a critic expected."""
        return TRAITS[self.algorithm].needs_critic

    @property
    def looks_ahead(self) -> bool:
        """Whether an answer is credited with the rewards of later turns."""
        return TRAITS[self.algorithm].looks_ahead and self.gamma > 0

    @property
    def drift_price(self) -> float:
        """Price of moving the memory."""
        return TRAITS[self.algorithm].drift_coef if self.drift_coef is None else self.drift_coef
