"""Memory reinforcement learning: what mrl/train.py does, a round at a time."""

import copy
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mrl.dialogues.corpus import warn_of_long_answers
from mrl.dialogues.seeding import Purpose, derive_seed
from mrl.model import ReactiveForCausalLM
from mrl.preferences.judges import load_judges
from mrl.recipes.reinforcement import MRLStage
from mrl.rl.algorithms.advantages import credited_turns, explained_variance
from mrl.rl.collector import EpisodeSampler, PhaseTimer, gather, gather_states, round_metrics, shares
from mrl.rl.critic import Critic, build_critic, opened, predict_values
from mrl.rl.curriculum import Curriculum, turn_counts
from mrl.rl.episode_dataset import EpisodeDataset, vocabulary_of
from mrl.rl.memory_pool import MemoryPool
from mrl.rl.replay import log_probs_again
from mrl.rl.rewards import (
    CustomRewardError,
    Judge,
    RewardConfig,
    RunningScales,
    Vocabulary,
    may_be_rewarded,
    score,
)
from mrl.rl.rollout import generate_rollouts
from mrl.rl.trajectory import EpisodeBatch, ScoredRollout, TrainingBatch
from mrl.rl.update import (
    MinibatchBuffer,
    Recipe,
    calibrate_critic,
    credit,
    minibatch_counts,
    normalized,
    update_loss,
)
from mrl.rl.validation import transcript, validate
from mrl.stages.stage_data import Dialogues, read_dialogues
from mrl.training.export import finish
from mrl.training.loop import Training, mean
from mrl.training.model_io import load_reactive
from pipeline.errors import InputError
from pipeline.run import Run

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a run works with, built whole before the first round."""

    stages: dict[int, MRLStage]
    """The recipe by turns of a dialogue."""
    policy: ReactiveForCausalLM
    critic: Critic | None
    reference: ReactiveForCausalLM | None
    """The policy that the run started from, where a distance to it is paid for."""
    tokenizer: Any
    vocabulary: Vocabulary
    dialogues: Dialogues
    judges: Mapping[str, Judge]
    """The reward models, by the name of their term."""
    scales: RunningScales = field(default_factory=RunningScales)
    """What terms are matched by, where the recipe says so."""

    def joined(self, training: Training) -> "Setup":
        """The same on the device of this process. Dropout is off: replays are to give the probabilities that were
        sampled from."""
        training.settle_precision()
        self.policy.eval()
        reference = None if self.reference is None else self.reference.to(training.device).eval()
        return replace(self, reference=reference, vocabulary=self.vocabulary.to(training.device))


def prepare(stage: MRLStage, run: Run) -> Setup:
    """Read model and data and build all that a run works with. Raises InputError where something doesn't fit."""
    policy, tokenizer = load_reactive(stage.model, needs_memory=True)
    at = {turns: stage.at(turns) for turns in turn_counts(stage.curriculum)}
    data = {turns: now.data for turns, now in at.items()}
    dialogues = read_dialogues(stage.data, data, tokenizer, policy.config.max_interaction_length, run)
    train = dialogues.train
    stages = {turns: replace(now, rollout=now.rollout.following(train[turns].data.thinks)) for turns, now in at.items()}
    vocabulary = vocabulary_of(tokenizer, policy.model.embedding.weight, policy.config.frame)
    longest: dict[EpisodeDataset, int] = {}
    for turns, now in stages.items():
        longest[train[turns]] = max(now.rollout.max_new_tokens, longest.get(train[turns], 0))
    over = [warn_of_long_answers(dataset.data, limit) for dataset, limit in longest.items()]
    run.report(references_over_the_limit=sum(over))
    for turns, now in stages.items():  # refused now, not in the stage that would miss them
        for dataset in (dialogues.train[turns], dialogues.held_out[turns]):
            dataset.require_rewards(turns, now.rewards, vocabulary, now.curriculum.strategies)
    needs_critic = any(s.ppo.needs_critic for s in stages.values())
    pays_distance = any(s.ppo.kl_coef for s in stages.values())
    return Setup(
        stages=stages,
        policy=policy,
        critic=build_critic(policy, stage.critic.kind).eval() if needs_critic else None,
        reference=copy.deepcopy(policy).requires_grad_(False) if pays_distance else None,
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        dialogues=dialogues,
        judges=load_judges({k: v for s in stages.values() for k, v in s.rewards.models.items()}, tokenizer),
    )


def collect_round(
    setup: Setup, now: MRLStage, sampler: EpisodeSampler, training: Training
) -> tuple[TrainingBatch, dict[str, float]]:
    """Steps 1 to 4 for the next round: every process plays its share of the dialogues and gets the whole of them, with
    advantages, on the CPU; and the round's figures."""
    timer, started = PhaseTimer(training.device), time.monotonic()
    batch = sampler.next(now.rollout.episodes, setup.policy)
    pieces, final = [], []
    for episodes in shares(batch, now.rollout.at_once, training.rank, training.world):
        rewards = now.rewards.at(training.progress)
        learnt = learnt_turns(now, rewards, episodes)
        with timer("rollout"):
            played = generate_rollouts(
                setup.policy, episodes, now.rollout, group=now.ppo.group_size, learnt=learnt,
                keep_history=setup.critic is not None,
                opening=None if setup.critic is None else setup.critic.reads(now.rollout.sampling()),
            )  # fmt: skip
        with timer("reward"):
            scales = setup.scales if rewards.match_scales else None
            scored = score(rewards, setup.vocabulary, played.rollout, setup.judges, scales)
        with timer("value"):
            scored, reference = exact_log_probs(setup, now, scored, training)
            scored = opened(
                setup.critic, setup.policy, scored, played.history, now.critic, now.rollout.sampling(),
                looks_ahead=now.ppo.looks_ahead,
            )  # fmt: skip
            values = predict_values(setup.critic, scored, played.history, now.critic, looks_ahead=now.ppo.looks_ahead)
        pieces.append(credit(scored, values, now.ppo, reference).to("cpu"))
        final.append(played.final.to("cpu"))
    whole = gather(pieces, batch.size, training.world)
    setup.scales.update(whole.terms, whole.answered)
    resets = setup.stages[batch.steps].curriculum.resets
    if resets.mode != "always":
        sampler.pool.put(batch, gather_states(final, batch.size, training.world), resets.pool_size)
    if setup.critic is not None and sampler.rounds == 1:
        whole = calibrate_critic(setup.critic, whole, now.ppo, now.critic.warmup_epochs)
    metrics = round_metrics(whole) | {name: round(seconds, 3) for name, seconds in timer.seconds.items()}
    if setup.critic is not None:
        metrics["explained_variance"] = explained_variance(whole.values, whole.returns, whole.credited)
    metrics["collect_s"] = round(time.monotonic() - started, 3)
    return normalized(whole, now.ppo), metrics


def learnt_turns(now: MRLStage, rewards: RewardConfig, episodes: EpisodeBatch) -> Tensor | None:
    """Turns [B, K] whose answers may be learnt from; None: all are drawn alike."""
    if now.rollout.decode == "all":
        return None
    return credited_turns(episodes.turns, may_be_rewarded(rewards, episodes), looks_ahead=now.ppo.looks_ahead)


def exact_log_probs(
    setup: Setup, now: MRLStage, scored: ScoredRollout, training: Training
) -> tuple[ScoredRollout, Tensor | None]:
    """The rollout with log-probs as the update will compute them (in bf16 the sampler's differ by rounding), and those
    of the policy that the run started from, if a distance to it is paid for; of the turns that something is learnt
    from."""
    wanted = credited_turns(scored.turns, scored.rewarded, looks_ahead=now.ppo.looks_ahead)
    sampling = now.rollout.sampling()
    rows = max(1, now.critic.at_once(training.device) // (scored.batch.steps * scored.group))
    if training.precision != "fp32":
        again = log_probs_again(setup.policy, scored, sampling, rows, wanted)
        scored = replace(scored, log_probs=torch.where(wanted[..., None], again, scored.log_probs))
    if setup.reference is None or not now.ppo.kl_coef:
        return scored, None
    return scored, log_probs_again(setup.reference, scored, sampling, rows, wanted)


def means(sums: Mapping[str, float]) -> dict[str, float]:
    """Figures of the updates since the last log line."""
    per_token = ("entropy", "approx_kl", "ratio", "clipfrac", "reference_kl")
    metrics = {name: mean(sums, name, "scored_n") for name in per_token if name in sums}
    if "sft" in sums:
        metrics["sft_loss"] = mean(sums, "sft", "sft_n")
    return metrics | {
        name: sums[name] / sums["steps"] for name in ("policy_loss", "value_loss", "drift") if name in sums
    }


def run_stage(stage: MRLStage, run: Run) -> None:
    """Train, validate, save. Raises InputError also where a custom reward gives no reward."""
    try:
        train(prepare(stage, run), stage, run)
    except CustomRewardError as error:
        raise InputError(str(error)) from None


def train(setup: Setup, stage: MRLStage, run: Run) -> None:
    """The rounds, from where a checkpoint stands to the last one."""
    curriculum = Curriculum(stage.curriculum, stage.seed, {turns: s.curriculum for turns, s in setup.stages.items()})
    sampler = EpisodeSampler(setup.dialogues.train, curriculum, MemoryPool(stage.seed), stage.seed)
    buffer = MinibatchBuffer()
    parts = {"curriculum": curriculum, "pool": sampler.pool, "sampler": sampler, "buffer": buffer}
    parts["scales"] = setup.scales
    beside = {} if setup.critic is None else {"critic": setup.critic}
    with Training(
        stage.trainer, stage.optimizer, setup.policy, setup.tokenizer, run, parts, setup.dialogues.fingerprint, beside
    ) as training:
        setup = setup.joined(training)
        if training.done == 0:
            start = validate_now(setup, curriculum, training, stage.held_out_dialogues)
            training.record({f"eval_{name}": value for name, value in start.items()} | curriculum.metrics())
        metrics: dict[str, float] = {}
        for _ in training.steps():
            now = setup.stages[curriculum.present]
            if not buffer:
                with training.autocast():
                    batch, metrics = collect_round(setup, now, sampler, training)
                order = torch.Generator().manual_seed(derive_seed(stage.seed, Purpose.MINIBATCHES, sampler.rounds))
                buffer.fill(batch, now.ppo, order)
                training.record({f"rollout_{name}": value for name, value in metrics.items()})
            totals = update(setup, now, buffer.next(), curriculum, training)
            approx_kl = mean(totals, "approx_kl", "scored_n")
            if now.ppo.target_kl is not None and approx_kl > now.ppo.target_kl:
                buffer.drop()
            training.log(means, **curriculum.metrics())
            training.metrics.shown = {k: metrics.get(k, 0.0) for k in ("reward", "recall")} | {"approx_kl": approx_kl}
            epoch_over = not buffer and sampler.rounds % stage.rounds_per_epoch == 0
            if epoch_over or training.ended:  # the last updates, those of the lowest rate, may be the best
                evaluate(setup, curriculum, training, stage.held_out_dialogues, epoch_over=epoch_over)
        training.restore_best()
        run.report(stages=curriculum.turns[: curriculum.stage + 1], rounds=sampler.rounds)
        finish(training, stage, validate_now(setup, curriculum, training, 2 * stage.held_out_dialogues))


def update(
    setup: Setup, now: MRLStage, minibatch: TrainingBatch, curriculum: Curriculum, training: Training
) -> dict[str, float]:
    """Step 5: one optimizer step on a minibatch. Returns the sums of its figures."""
    training.optimizer.learning = curriculum.trainable() | {"critic"}
    training.optimizer.config = now.optimizer
    recipe = Recipe(ppo=now.ppo, update=now.update, critic=now.critic, sampling=now.rollout.sampling())
    counts = minibatch_counts(minibatch, recipe)
    loss = partial(update_loss, setup.policy, setup.critic, counts=counts, recipe=recipe)
    turns = minibatch.batch.size / training.world * minibatch.batch.steps
    slices = math.ceil(turns / now.update.micro_batch_turns)
    return training.step(minibatch, loss, int(minibatch.writes_mask.sum()), slices=slices)


def validate_now(setup: Setup, curriculum: Curriculum, training: Training, dialogues: int) -> dict[str, float]:
    """Step 6: held-out figures at the present length; sample dialogues go to samples.jsonl."""
    now = setup.stages[curriculum.present]
    with training.evaluating():
        metrics, sample = validate(
            setup.policy, setup.dialogues.held_out[curriculum.present], curriculum.present, dialogues=dialogues,
            rollout=now.rollout, rewards=now.rewards, vocabulary=setup.vocabulary, judges=setup.judges, seed=now.seed,
            strategies=now.curriculum.strategies, rank=training.rank, world=training.world, total=training.total,
        )  # fmt: skip
    if sample is not None:
        training.metrics.record_samples(transcript(setup.tokenizer, sample, setup.vocabulary.frame))
    return metrics


def evaluate(setup: Setup, curriculum: Curriculum, training: Training, dialogues: int, *, epoch_over: bool) -> None:
    """Validate the model and remember it where it is the best so far; tell the curriculum that an epoch is over."""
    metrics = validate_now(setup, curriculum, training, dialogues)
    metrics |= {f"gradient_{part}": norm for part, norm in training.optimizer.norms().items()}
    stage, position = curriculum.stage, curriculum.metrics()
    share = metrics["reward"] / setup.stages[curriculum.present].rewards.scale
    # Before anything is saved: a run that is taken up here must not be at the old stage.
    if epoch_over and curriculum.observe(reward=metrics["reward"], recall=metrics.get("recall")):
        logger.info("step %d: on to dialogues of %d turns", training.done, curriculum.present)
    if curriculum.finished:
        training.stop()
    # A later stage is always better than an earlier one, and within a stage the reward decides.
    training.record_evaluation({**metrics, **position}, stage + 0.5 * share)
