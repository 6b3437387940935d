"""The critic: how much reward a dialogue will still bring, judged before an answer is given.

    memory          reads what the actor sees before the first word of its answer: its state after the question and the
                    memory, and how sure it is (`opening_critic`)

The others (`text_critic`) have an encoder that starts as a copy of the actor's. They read the saved data, which is the
interaction that the dialogue's strategy compares the answer with (the first, one some turns ago, the newest, or all of
them for the last question of a cumulative dialogue), and the query. Kept to compare with (mrl/RESULTS.md):

    text_memory     also reads the memory that the actor answers from, through cross-attention of its own that starts as
                    a copy of the decoder's and learns
    frozen_memory   the same, but that cross-attention stays as it is
    classic         sees the text alone

The memory comes in detached: what the critic learns never moves it.
"""

import torch
from torch import Tensor

from mrl.dialogues.seeding import Purpose, turn_uniforms
from mrl.losses.memory_model import MemoryModel
from mrl.model import MemoryHistory, ReactiveForCausalLM, Sampling
from mrl.recipes.reinforcement import CriticConfig
from mrl.rl.algorithms.advantages import credited_turns
from mrl.rl.opening_critic import OpeningCritic
from mrl.rl.text_critic import TextCritic
from mrl.rl.trajectory import Rollout, ScoredRollout, TrainingBatch
from pipeline.errors import InputError

Critic = OpeningCritic | TextCritic
"""Both have `turn_values`, `reads` and `opened` (what a rollout keeps for them) and `calibrate` (what a first round
teaches them)."""


def build_critic(actor: ReactiveForCausalLM, kind: str) -> Critic:
    """A critic; every turn starts out worth the same: nothing, until it is told of a first round. Raises InputError
    where the actor has no encoder for one of this kind."""
    if kind == "memory":
        return OpeningCritic(actor.config.hidden_size).to(actor.device)
    try:
        critic = TextCritic.from_causal_lm(actor, reads_memory=kind != "classic")
    except ValueError as error:
        raise InputError(f"critic.kind: {kind} can't be built, for {error}; set memory") from None
    if critic.model.readers is not None:
        critic.model.readers.requires_grad_(kind != "frozen_memory")
    return critic


def turn_values(
    critic: Critic, rollout: Rollout, history: MemoryHistory | None, wanted: Tensor | None = None
) -> Tensor:
    """Values [B, K], in units of reward, of all turns or the `wanted` [B, K], 0 elsewhere; history: of the leaders, one
    row a group."""
    turns = rollout.turns if wanted is None else wanted
    if not bool(turns.any()):
        return torch.zeros(turns.shape, device=turns.device)
    return critic.turn_values(rollout, history, turns)


def value_turns(batch: TrainingBatch, config: CriticConfig) -> Tensor:
    """Turns [B, K] that an update of the critic looks at; which ones the dialogues' seeds decide."""
    if config.turn_share == 1:
        return batch.credited
    draw = turn_uniforms(batch.batch.seeds, batch.turns.shape[1], Purpose.VALUED_TURNS).to(batch.turns.device)
    return batch.credited & (draw < config.turn_share)


def predict_values(
    critic: Critic | None,
    scored: ScoredRollout,
    history: MemoryHistory | None,
    config: CriticConfig,
    *,
    looks_ahead: bool,
) -> Tensor:
    """Values [B, K] of the turns that some reward can speak for, without gradients, a piece at a time; 0 elsewhere
    (after the last reward of a dialogue there is nothing to expect) and everywhere without a critic. history: of the
    leaders, one row a group."""
    if critic is None or history is None:
        return torch.zeros(scored.turns.shape, device=scored.turns.device)
    wanted = credited_turns(scored.turns, scored.rewarded, looks_ahead=looks_ahead)
    groups = groups_at_once(scored, history, config)
    pieces = []
    with torch.no_grad():
        for at in range(0, len(scored), groups):
            index = slice(at, at + groups)
            chosen = wanted[at * scored.group : (at + groups) * scored.group]
            pieces.append(turn_values(critic, scored.rows(index), history.rows(index), chosen))
    return torch.cat(pieces)


def groups_at_once(scored: ScoredRollout, history: MemoryHistory, config: CriticConfig) -> int:
    """Groups in one pass without gradients."""
    return max(1, config.at_once(history.slots.device) // (scored.batch.steps * scored.group))


def opened(
    critic: Critic | None,
    model: MemoryModel,
    scored: ScoredRollout,
    history: MemoryHistory | None,
    config: CriticConfig,
    sampling: Sampling,
    *,
    looks_ahead: bool,
) -> ScoredRollout:
    """The rollout with what its critic reads beside it: openings of the turns that some reward can speak for. history:
    of the leaders, one row a group."""
    if critic is None or history is None:
        return scored
    wanted = credited_turns(scored.turns, scored.rewarded, looks_ahead=looks_ahead)
    return critic.opened(model, scored, history, wanted, sampling, groups_at_once(scored, history, config))
