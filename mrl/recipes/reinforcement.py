"""The recipe of memory reinforcement learning, and its sections `rollout`, `update` and `critic`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from mrl.recipes.curriculum import CurriculumConfig, turn_counts
from mrl.recipes.ppo import PPOConfig
from mrl.recipes.prerequisites import Prerequisite
from mrl.recipes.rewards import RewardConfig
from mrl.recipes.stage import ReactiveStageConfig, TrainerConfig
from pipeline.config import with_changes
from pipeline.errors import InputError, SettingError
from pipeline.hub import is_hub_name, refuse_unreachable
from pipeline.ranges import NonNegativeFloat, NonNegativeInt, PositiveInt, Share
from pipeline.resumable import RESUMABLE, WHOLE_RUN

if TYPE_CHECKING:
    import torch

    from mrl.model import Sampling

BY_STAGE = ("data", "ppo", "rollout", "rewards", "update", "critic", "optimizer")
"""Sections that `curriculum.overrides` may change for a stage; of `curriculum` itself strategies and resets."""


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """Section `rollout`."""

    episodes: PositiveInt = 128
    """Dialogues that are played before each update, over all processes."""
    at_once: PositiveInt = 256
    """Most dialogues of a process in one batch; more rows are played one batch after another."""
    max_new_tokens: int = 32
    """Longest answer, its [A] included and a thought before it not."""
    max_think_tokens: PositiveInt = 32
    """Longest thought; then [A] closes it."""
    temperature: float = 1.0
    top_k: NonNegativeInt = 0
    top_p: Share = 1.0
    forced: Literal["answer", "think", "auto"] | None = None
    """How an answer begins: at once, with a thought, or as the model decides, which it is then rewarded for. Default:
    auto where some turn of the data thinks, else answer."""
    teacher_forcing: bool = False
    """Write the reference answers into memory instead of the policy's own."""
    decode: Literal["needed", "all"] = "needed"
    """needed: `ppo.group_size` answers are drawn where a reward may speak of them, or of what follows from them; any
    other turn is answered once for its group, if that answer is written. all: every turn by every row of a group."""

    def __post_init__(self) -> None:
        """Refuse answers without words, and greedy rollouts: they explore nothing."""
        if self.max_new_tokens < 2:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; an answer has its forced first token and words")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}; greedy answers explore nothing: give more than 0")
        if self.top_p == 0:
            raise ValueError("top_p is 0; it must lie in (0, 1]")

    def following(self, thinks: bool) -> "RolloutConfig":
        """With the default of `forced` settled for data that thinks or doesn't."""
        return replace(self, forced=self.forced or ("auto" if thinks else "answer"))

    def sampling(self) -> "Sampling":
        """The distribution that is sampled from; log-probs belong to it."""
        from mrl.model import Sampling  # with torch

        return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)


@dataclass(frozen=True, kw_only=True)
class UpdateConfig:
    """Section `update`: how the gradient reaches memory, and what is learnt beside the rewards."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        "turns_at_once": "micro_batch_turns",
        "least_advantage": "min_abs_advantage",
        "supervised_coef": "sft_coef",
        "supervised_scope": "sft_turns",
        "supervised_share": "sft_other_fraction",
    }

    bptt_steps: int | None = None
    """Memory writes that a gradient flows back through: 1 = the newest only (as elsewhere); null: the whole episode."""
    micro_batch_turns: int = 1024
    """Most turns of a slice: longer dialogues come in smaller slices, so peak memory doesn't grow."""
    save_memory: bool = False
    """Compute each write's activations twice instead of keeping them: for very long dialogues."""
    min_abs_advantage: float = 0.0
    """Turns whose advantage is nearer to 0 than this (after normalisation) aren't scored: they would teach little and
    cost as much as the others."""
    sft_coef: float = 0.0
    """Weight of the reference answers' cross-entropy, read from the same states (as PPO-ptx: Ouyang et al. 2022)."""
    sft_turns: Literal["asked", "all"] = "asked"
    """asked: references of turns that need facts; all: those of other turns as well."""
    sft_other_fraction: float = 1.0
    """With all: share of the other turns whose references are learnt, others in every round. Small talk is known
    soon, and costs as much as the rest."""

    def __post_init__(self) -> None:
        """Refuse counts without a meaning and shares that aren't."""
        if self.bptt_steps is not None and self.bptt_steps < 1:
            raise ValueError(f"bptt_steps is {self.bptt_steps}; give 1 or more, or null for the whole episode")
        if self.micro_batch_turns < 1 or self.min_abs_advantage < 0 or self.sft_coef < 0:
            raise ValueError("micro_batch_turns must be at least 1; min_abs_advantage and sft_coef not below 0")
        if not 0 <= self.sft_other_fraction <= 1:
            raise ValueError(f"sft_other_fraction is {self.sft_other_fraction}; a share lies in 0..1")


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """Section `critic`."""

    kind: Literal["memory", "text_memory", "frozen_memory", "classic"] = field(default="memory", metadata=WHOLE_RUN)
    """What it reads (mrl/rl/critic.py)."""
    warmup_epochs: NonNegativeInt = field(default=8, metadata=WHOLE_RUN)
    """Passes over the first round before the policy moves (kind memory; the others are told its mean return)."""
    loss_coef: NonNegativeFloat = 0.5
    """Weight of the value loss beside the policy's."""
    turn_share: Share = 1.0
    """Share of the turns that an update of the critic looks at: it reads twice what the policy does, and its errors are
    much alike."""
    rows_at_once: PositiveInt | None = None
    """Most turns in one pass without gradients. Default: 2048 on an accelerator; 256 on a CPU, where what lies between
    two layers should stay in its cache."""

    def __post_init__(self) -> None:
        """Refuse a critic that would never learn."""
        if self.turn_share == 0:
            raise ValueError("turn_share is 0; a share lies above 0 and is at most 1")
        if self.kind != "memory" and self.warmup_epochs != CriticConfig.warmup_epochs:
            raise ValueError(f"warmup_epochs is {self.warmup_epochs}; only a critic of kind memory has a warm-up")

    def at_once(self, device: "torch.device") -> int:
        """`rows_at_once` on a device."""
        return self.rows_at_once or (256 if device.type == "cpu" else 2048)


@dataclass(frozen=True, kw_only=True)
class MRLStage(ReactiveStageConfig):
    """A recipe for memory reinforcement learning."""

    RENAMED: ClassVar[Mapping[str, str]] = {"replay": "update"}

    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    rewards: RewardConfig = field(default_factory=RewardConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    rounds_per_epoch: PositiveInt = 8
    """Rounds of `rollout.episodes` dialogues between two evaluations."""
    held_out_dialogues: PositiveInt = 128
    """Dialogues that an evaluation looks at (the final one takes twice as many)."""
    prerequisites: list[Prerequisite] = field(default_factory=list, metadata=RESUMABLE)
    """What is built first where it is missing."""

    def __post_init__(self) -> None:
        """Refuse settings of the supervised loop that would silently do nothing here."""
        plain = TrainerConfig(max_steps=1)
        for name, instead in (
            ("batch_size", "rollout.episodes and ppo.minibatch_episodes"),
            ("accumulation", "update.micro_batch_turns"),
            ("eval_every", "rounds_per_epoch"),
        ):
            if getattr(self.trainer, name) != getattr(plain, name):
                raise SettingError(f"trainer.{name}", f"trainer.{name} has no meaning here; set {instead}")

    def refuse_missing(self) -> None:
        """Raises InputError where weights, data or a reward model aren't there, also those of a stage's overrides."""
        super().refuse_missing()
        for turns in self.curriculum.overrides:
            self.at(int(turns)).data.refuse_missing()
        for turns in turn_counts(self.curriculum):
            for name, path in self.at(turns).rewards.models.items():
                if is_hub_name(path):
                    refuse_unreachable(path, f"rewards.models.{name}")
                elif not Path(path).is_dir():
                    raise InputError(
                        f"rewards.models.{name}: there is no folder {path}; run mrl/reward_model.py first, or give a "
                        "sequence classifier"
                    )

    def at(self, turns: int) -> "MRLStage":
        """The recipe in the stage of dialogues of so many turns: with its overrides. Raises InputError for keys that
        can't differ by stage."""
        where = f"curriculum.overrides.{turns}"
        changed = with_changes(self, self.curriculum.overrides.get(str(turns), {}), where)
        for section in fields(self):
            before, after = getattr(self, section.name), getattr(changed, section.name)
            if section.name == "curriculum":
                before = replace(before, strategies=after.strategies, resets=after.resets)
            if before != after and section.name not in BY_STAGE:
                raise InputError(
                    f"{where}: {section.name} can't differ by stage; what can: {', '.join(BY_STAGE)}, "
                    "curriculum.strategies, curriculum.resets"
                )
            for item in fields(before) if section.name in BY_STAGE else ():
                if item.metadata.get("whole_run") and getattr(before, item.name) != getattr(after, item.name):
                    raise InputError(f"{where}: {section.name}.{item.name} holds for the whole run, not for a stage")
        return changed
