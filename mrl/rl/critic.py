"""The critic: how much reward a dialogue will still bring, judged before an answer is given.

It reads the newest interaction and the query (a context twice as long as one interaction) with an encoder that starts
as a copy of the actor's. Three kinds:

    memory          also reads the memory that the actor answers from, through cross-attention of its own that starts as
                    a copy of the decoder's and learns
    frozen_memory   the same, but that cross-attention stays as it is
    classic         sees the text alone

The memory comes in detached: what the critic learns never moves it.
"""

import copy
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from mrl.dialogues.seeding import Purpose, turn_uniforms
from mrl.model import MemoryHistory, MemoryState, ReactiveForCausalLM, join_rows
from mrl.model.attention import key_mask, rotary_table
from mrl.rl.algorithms.advantages import credited_turns
from mrl.rl.trajectory import Rollout, ScoredRollout, TrainingBatch
from pipeline.ranges import NonNegativeFloat, PositiveInt, Share
from pipeline.resumable import WHOLE_RUN


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """Section `critic`."""

    kind: Literal["memory", "frozen_memory", "classic"] = field(default="memory", metadata=WHOLE_RUN)
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

    def at_once(self, device: torch.device) -> int:
        """`rows_at_once` on a device."""
        return self.rows_at_once or (256 if device.type == "cpu" else 2048)


class Critic(nn.Module):
    """Encoder with a value head. `forward(ids [N, T], mask [N, T], state or None) -> values [N]`."""

    def __init__(self, actor: ReactiveForCausalLM, kind: str) -> None:
        super().__init__()
        body, config = actor.model, actor.config
        self.kind, self.head_dim, self.rope_base = kind, config.head_dim, config.rope_base
        self.scale = body.embedding_scale
        self.embedding = copy.deepcopy(body.embedding)
        self.encoder = copy.deepcopy(body.encoder)
        self.norm = copy.deepcopy(body.encoder_norm)
        self.readers: nn.ModuleList | None = None
        if kind != "classic":
            self.readers = nn.ModuleList(
                nn.ModuleList(
                    [
                        copy.deepcopy(layer.cross_norm),
                        copy.deepcopy(layer.memory_norm),
                        copy.deepcopy(layer.cross_attention),
                    ]
                )
                for layer in body.decoder
            )
        width = config.hidden_size
        self.head = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))
        # Every turn starts out worth the same: nothing, until `set_value_bias` says what turns bring on average.
        nn.init.zeros_(self.head[2].weight)
        nn.init.zeros_(self.head[2].bias)
        self.requires_grad_(True)
        if kind == "frozen_memory":
            self.readers.requires_grad_(False)

    def forward(self, ids: Tensor, mask: Tensor, state: MemoryState | None) -> Tensor:
        """Values [N] in units of reward."""
        x = self.embedding(ids) * self.scale
        table = rotary_table(x.shape[1], self.head_dim, self.rope_base, x.device, x.dtype)
        readable = key_mask(mask)
        for index, layer in enumerate(self.encoder):
            if self.readers is not None and state is not None:
                cross_norm, memory_norm, cross = self.readers[index]
                key, value = cross.project_memory(memory_norm(state.slots[index]))
                x = x + cross(cross_norm(x), key, value, table)
            x = layer(x, table, readable)
        weight = mask.to(x.dtype).unsqueeze(-1)
        pooled = (self.norm(x) * weight).sum(1) / weight.sum(1).clamp(min=1)
        return self.head(pooled).squeeze(-1).float()

    def values(self, rollout: Rollout, history: MemoryHistory, wanted: Tensor | None = None) -> Tensor:
        """Values [B, K] of all turns or the `wanted` [B, K], 0 elsewhere; history: of the leaders, one row a group."""
        batch, turns = rollout.batch, rollout.turns if wanted is None else wanted
        if not bool(turns.any()):
            return torch.zeros(turns.shape, device=turns.device)
        ids, mask, _ = join_rows(
            rollout.writes[turns], rollout.writes_mask[turns], batch.query_ids[turns], batch.query_mask[turns]
        )
        row, turn = turns.nonzero(as_tuple=True)
        memory = None
        if self.readers is not None:
            memory = history.detach().after(turn + 1, row // rollout.group)
        values = self(ids, mask, memory)
        return torch.zeros(turns.shape, device=values.device).index_put((row, turn), values)


def set_value_bias(critic: Critic, value: float) -> None:
    """Let a fresh critic say `value` of everything. One that is told the mean return learns at once what lies above and
    below it; left to find the mean by itself it is still there when a short run ends (mrl/RESULTS.md)."""
    with torch.no_grad():
        critic.head[2].bias.fill_(value)


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
    groups = max(1, config.at_once(history.slots.device) // (scored.batch.steps * scored.group))
    pieces = []
    with torch.no_grad():
        for at in range(0, len(scored), groups):
            index = slice(at, at + groups)
            chosen = wanted[at * scored.group : (at + groups) * scored.group]
            pieces.append(critic.values(scored.rows(index), history.rows(index), chosen))
    return torch.cat(pieces)
