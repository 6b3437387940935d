"""Memory Reinforcement Learning: curriculum PPO that trains a memory by what is still known many turns later.

    uv run mrl/train.py                                  # the quickstart's: builds what is missing, then trains
    uv run mrl/train.py --config-path mrl/config/quickstart/mrl.yaml --set seed=7

Dialogues are played with the policy's own answers; each answer is rewarded for the facts it recalls; policy, memory and
critic are updated by playing the episodes again with the gradient through every memory write (`replay.bptt_steps`).
Dialogues grow stage by stage (`curriculum`). Start from a model of mrl/memory_sft.py. The result lies in
output_dir/model; samples.jsonl in output_dir holds dialogues to look at after each epoch.
"""

import copy
import json
import logging
import math
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mrl.dialogues.corpus import Corpus, load_corpus
from mrl.dialogues.seeding import Purpose, derive_seed
from mrl.rl.advantages import explained_variance
from mrl.rl.algorithms import ALGORITHMS, PPOConfig
from mrl.rl.collector import Rounds, figures
from mrl.rl.critic import Critic, CriticConfig
from mrl.rl.curriculum import Curriculum, CurriculumConfig
from mrl.rl.episode_dataset import Environment, vocabulary
from mrl.rl.memory_pool import StatePool
from mrl.rl.rewards import RewardConfig
from mrl.rl.rollout import RolloutConfig
from mrl.rl.update import Buffer, ReplayConfig, introduce, minibatch_counts, policy_loss
from mrl.rl.validation import examine, transcript
from mrl.training.export import finish
from mrl.training.loop import Training, mean
from mrl.training.model_io import load_reactive
from mrl.training.stage_config import ReactiveStageConfig, TrainerConfig, default_config
from pipeline.artifact import is_complete
from pipeline.config import with_changes
from pipeline.errors import InputError
from pipeline.resumable import RESUMABLE
from pipeline.run import Run, is_main_process, stage_main

logger = logging.getLogger(__name__)
OVERRIDABLE = ("ppo", "rollout", "rewards", "replay", "critic", "optimizer")
"""Sections that `curriculum.overrides` may change for a stage."""


@dataclass(kw_only=True)
class Prerequisite:
    """A folder that this run needs and the script that builds it."""

    folder: str
    script: str
    config: str
    arguments: list[str] = field(default_factory=list)
    """Further arguments of the script."""


@dataclass(kw_only=True, frozen=True)
class MRLStage(ReactiveStageConfig):
    """A recipe for memory reinforcement learning."""

    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    rewards: RewardConfig = field(default_factory=RewardConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    rounds_per_epoch: int = 8
    """Rounds of `rollout.episodes` dialogues between two evaluations."""
    held_out_dialogues: int = 128
    """Dialogues that an evaluation looks at (the final one takes twice as many)."""
    prerequisites: list[Prerequisite] = field(default_factory=list, metadata=RESUMABLE)
    """What is built first where it is missing."""

    def __post_init__(self) -> None:
        """Refuse settings of the supervised loop that would silently do nothing here."""
        plain = TrainerConfig(max_steps=1)
        for name, instead in (
            ("batch_size", "rollout.episodes and ppo.minibatch_episodes"),
            ("accumulation", "replay.turns_at_once"),
            ("eval_every", "rounds_per_epoch"),
        ):
            if getattr(self.trainer, name) != getattr(plain, name):
                raise ValueError(f"trainer.{name} has no meaning here; set {instead}")
        if self.rounds_per_epoch < 1 or self.held_out_dialogues < 1:
            raise ValueError("rounds_per_epoch and held_out_dialogues must be at least 1")


def staged(stage: MRLStage, steps: int) -> MRLStage:
    """The recipe as it is at a step count: with its overrides. Raises InputError for keys that can't be overridden."""
    changes = stage.curriculum.overrides.get(str(steps), {})
    if not changes:
        return stage
    where = f"curriculum.overrides.{steps}"
    for key in changes:
        section, _, name = key.partition(".")
        if MRLStage.RENAMED.get(section, section) not in OVERRIDABLE or not name:
            raise InputError(f"{where}: {key} can't differ by stage; sections that can: {', '.join(OVERRIDABLE)}")
    return with_changes(stage, changes, where)


def build_missing(stage: MRLStage) -> None:
    """Run the scripts whose folder isn't there yet, in their order. Raises InputError where one fails."""
    while not is_main_process() and any(not _built(needed.folder) for needed in stage.prerequisites):
        time.sleep(1)  # the main process builds; where it fails the launcher ends us all
    for needed in stage.prerequisites:
        folder = Path(needed.folder)
        if _built(needed.folder):
            continue
        logger.info("%s is missing: building it with %s --config-path %s", folder, needed.script, needed.config)
        command = [sys.executable, needed.script, "--config-path", needed.config, *needed.arguments]
        if subprocess.run(command, check=False).returncode:
            raise InputError(
                f"prerequisites: {needed.script} --config-path {needed.config} failed; its message is above"
            )


def _built(folder: str) -> bool:
    """Whether a script has finished its folder: data, a tokenizer or a model."""
    return any(is_complete(Path(folder) / inner) for inner in ("", "tokenizer", "model"))


class Learner:
    """What one run consists of, besides the loop's state in `Training`."""

    def __init__(self, stage: MRLStage, run: Run) -> None:
        self.stage, self.run = stage, run
        self.model, self.tokenizer = load_reactive(stage.model, needs_memory=True)
        self.corpus: Corpus = load_corpus(stage.data, self.tokenizer, self.model.config.max_interaction_length, run)
        self.curriculum = Curriculum(stage.curriculum, stage.seed)
        self.stages = {steps: staged(stage, steps) for steps in self.curriculum.steps}
        self.train = Environment(self.corpus.train, self.tokenizer, "data.train")
        self.held_out = Environment(self.corpus.held_out, self.tokenizer, "data.held_out")
        for steps in self.curriculum.steps:
            self.train.members(steps)
            self.held_out.members(steps)
        needs = any(ALGORITHMS[s.ppo.algorithm].needs_critic for s in self.stages.values())
        self.critic = Critic(self.model, stage.critic.kind) if needs else None
        kept = any(s.ppo.kl_coef for s in self.stages.values())
        self.reference = copy.deepcopy(self.model).eval().requires_grad_(False) if kept else None
        self.pool, self.buffer, self.progress = StatePool(stage.curriculum.resets, stage.seed), Buffer(), Progress()
        self.last = {"reward": 0.0, "recall": 0.0, "episodes": 0.0}
        self.since, self.speed = time.monotonic(), 0.0

    def join(self, training: Training) -> None:
        """Everything that needs to know the device and the other processes."""
        model = self.model.eval()  # dropout off: replays are to give the probabilities that were sampled from
        if self.critic is not None:
            self.critic.eval()
        if self.reference is not None:
            self.reference.to(training.device)
        words = vocabulary(self.tokenizer, model.get_input_embeddings().weight, model.config.answer_token_id)
        self.words = words = words.to(training.device)
        self.rounds.words, self.rounds.rank, self.rounds.world = words, training.rank, training.world

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds beside weights and optimizer."""
        self.rounds = Rounds(self.train, self.curriculum, self.pool, None, self.stage.seed)
        own = {"curriculum": self.curriculum, "pool": self.pool, "buffer": self.buffer, "rounds": self.rounds}
        return own | {"progress": self.progress}

    @property
    def now(self) -> MRLStage:
        """The recipe of the present stage."""
        return self.stages[self.curriculum.steps[self.curriculum.stage]]

    def play(self, training: Training) -> dict[str, float]:
        """Fill the buffer with a new round; returns its figures."""
        now, exact = self.now, training.precision == "fp32"
        started = time.monotonic()
        with training.autocast():
            trajectory = self.rounds.collect(
                self.model, self.critic, self.reference, rollout=now.rollout, rewards=now.rewards, ppo=now.ppo,
                critic_config=now.critic, exact_log_probs=exact,
            )  # fmt: skip
        if self.critic is not None and self.progress.rounds == 0:
            introduce(self.critic, trajectory, now.ppo)
        self.buffer.fill(trajectory, now.ppo, derive_seed(self.stage.seed, Purpose.MINIBATCHES, self.rounds.made))
        self.progress.rounds += 1
        found = figures(trajectory)
        self.last = {"reward": found["reward"], "recall": found["recall"], "episodes": len(trajectory)}
        self.since = started
        if self.critic is not None:
            found["explained_variance"] = explained_variance(trajectory.values, trajectory.returns, trajectory.credited)
        spent = {f"{phase}_s": round(s, 3) for phase, s in self.rounds.seconds.items()}
        return {**found, **spent, "episode_steps": trajectory.batch.steps, "episodes": len(trajectory)}

    def shown(self, kl: float) -> dict[str, float]:
        """What the progress bar says."""
        speed = self.last["episodes"] / max(1e-9, time.monotonic() - self.since) if not self.buffer else 0.0
        shown = {"reward": self.last["reward"], "recall": self.last["recall"], "kl": kl}
        self.speed = speed or self.speed
        return shown | {"episodes/s": self.speed}

    def improve(self, training: Training) -> dict[str, float]:
        """One optimizer step on the next minibatch."""
        now = self.now
        minibatch = self.buffer.next()
        training.optimizer.learning = self.curriculum.trainable() | {"critic"}
        training.optimizer.config = now.optimizer
        counts = minibatch_counts(minibatch, now.replay, now.critic)
        loss = partial(
            policy_loss, self.model, self.critic, counts=counts, ppo=now.ppo, config=now.replay,
            sampling=now.rollout.sampling(), judging=now.critic,
        )  # fmt: skip
        turns = len(minibatch) / training.world * minibatch.batch.steps * minibatch.group
        tokens = int(minibatch.writes_mask.sum())
        return training.step(minibatch, loss, tokens, slices=math.ceil(turns / now.replay.turns_at_once))

    def examine(self, training: Training, dialogues: int) -> dict[str, float]:
        """Held-out figures at the present length; sample dialogues go to samples.jsonl."""
        now = self.now
        with training.evaluating():
            found, shown = examine(
                self.model, self.held_out, self.curriculum.steps[self.curriculum.stage], dialogues=dialogues,
                rollout=now.rollout, rewards=now.rewards, words=self.words, training=training, seed=self.stage.seed,
            )  # fmt: skip
        if shown is not None and is_main_process():
            self.show(training, transcript(self.tokenizer, shown))
        return found

    def show(self, training: Training, rows: list[dict[str, Any]]) -> None:
        """Sample dialogues: to samples.jsonl and, as a table, to wandb where that is on."""
        with (self.run.dir / "samples.jsonl").open("a") as file:
            file.writelines(json.dumps({"step": training.done, **row}) + "\n" for row in rows)
        for tracker in training.accelerator.trackers:
            if tracker.name == "wandb":
                columns = list(rows[0])
                tracker.log_table("samples", columns, [[row[c] for c in columns] for row in rows], step=training.done)


@dataclass
class Progress:
    """Rounds so far; a part of the checkpoint."""

    rounds: int = 0

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def means(sums: dict[str, float]) -> dict[str, float]:
    """Figures of the updates since the last log line."""
    found = {
        name: mean(sums, name, "scored_n") for name in ("entropy", "approx_kl", "ratio", "clipfrac", "reference_kl")
    }
    found = {name: value for name, value in found.items() if name in sums}
    if "supervised" in sums:
        found["supervised_loss"] = mean(sums, "supervised", "reference_n")
    return found | {name: sums[name] / sums["steps"] for name in ("policy_loss", "value_loss", "drift") if name in sums}


def main(stage: MRLStage, run: Run) -> None:
    """Build what is missing, train, evaluate, save."""
    build_missing(stage)
    learner = Learner(stage, run)
    critic = {} if learner.critic is None else {"critic": learner.critic}
    with Training(
        stage.trainer, stage.optimizer, learner.model, learner.tokenizer, run, learner.parts(),
        learner.corpus.fingerprint, critic,
    ) as training:  # fmt: skip
        training.settle_precision()
        learner.join(training)
        if training.done == 0:
            start = learner.examine(training, stage.held_out_dialogues)
            training.record({f"eval_{k}": v for k, v in start.items()} | learner.curriculum.metrics())
        for _ in training.steps():
            if not learner.buffer:
                training.record({f"rollout_{k}": v for k, v in learner.play(training).items()})
            totals = learner.improve(training)
            if (limit := learner.now.ppo.target_kl) and mean(totals, "approx_kl", "scored_n") > limit:
                learner.buffer.drop()
            training.log(means, **learner.curriculum.metrics())
            training.metrics.shown = learner.shown(mean(totals, "approx_kl", "scored_n"))
            if not learner.buffer and learner.progress.rounds % stage.rounds_per_epoch == 0:
                evaluate(learner, training, tell=True)
            elif training.ended:  # the last updates, those of the lowest rate, may be the best
                evaluate(learner, training)
        training.restore_best()
        run.report(stages=learner.curriculum.steps[: learner.curriculum.stage + 1], rounds=learner.progress.rounds)
        finish(training, stage, learner.examine(training, 2 * stage.held_out_dialogues))


def evaluate(learner: Learner, training: Training, tell: bool = False) -> None:
    """Examine the model and remember it where it is the best so far; `tell` the curriculum that an epoch is over."""
    curriculum = learner.curriculum
    found = learner.examine(training, learner.stage.held_out_dialogues)
    found |= {f"gradient_{part}": norm for part, norm in training.optimizer.norms().items()}
    position, metrics = curriculum.stage, curriculum.metrics()
    worth = found["reward"] / learner.now.rewards.scale
    # Before anything is saved: a run that is taken up here must not be at the old stage.
    if tell and curriculum.observe(reward=found["reward"], recall=found.get("recall")):
        logger.info("step %d: on to %d steps", training.done, curriculum.steps[curriculum.stage])
    if curriculum.finished:
        training.stop()
    # A later stage is always better than an earlier one, and within a stage the reward decides.
    training.record_evaluation({**found, **metrics}, position + 0.5 * worth)


if __name__ == "__main__":
    stage_main(MRLStage, main, default_config=default_config("mrl"), description=__doc__)
