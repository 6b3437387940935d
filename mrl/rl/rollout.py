"""Playing dialogues: the policy answers query after query, and what was said goes into its memory.

The first interaction is only written. Then, for every turn, the newest interaction is written, the query answered from
the state that this leaves, and the answer (its own, or the reference with `teacher_forcing`) becomes the next thing to
write. The last answer is written nowhere. With groups, every query is answered several times from one and the same
state; the first of these answers is the one that is written.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mrl.dialogues.seeding import Purpose, derive_seed
from mrl.losses.memory_model import MemoryModel
from mrl.model import MemoryHistory, MemoryState, Sampling, join_rows
from mrl.rl.trajectory import EpisodeBatch, Trajectory


@dataclass(kw_only=True)
class RolloutConfig:
    """Section `rollout`."""

    episodes: int = 128
    """Dialogues that are played before each update, over all processes."""
    at_once: int = 256
    """Most dialogues of a process in one batch; more rows are played one batch after another."""
    max_new_tokens: int = 32
    """Longest answer, its forced first token included."""
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    forced: Literal["answer", "think", "auto"] = "answer"
    """How an answer begins: at once, with a thought, or as the model likes."""
    teacher_forcing: bool = False
    """Write the reference answers into memory instead of the policy's own."""

    def __post_init__(self) -> None:
        """Refuse counts without a meaning, and greedy rollouts: they explore nothing."""
        if self.episodes < 1 or self.at_once < 1 or self.max_new_tokens < 2:
            raise ValueError("episodes and at_once must be at least 1, max_new_tokens at least 2")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}; greedy answers explore nothing: give more than 0")
        self.sampling()

    def sampling(self) -> Sampling:
        """The distribution that is sampled from; log-probs belong to it."""
        return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)


@dataclass
class Played:
    """A trajectory and, of its leaders (one row a group), the memory before all writes and after each: turn k reads the
    state after k + 1; None unless asked for. final: the memory left at the end."""

    trajectory: Trajectory
    history: MemoryHistory | None
    final: MemoryState


def play(
    model: MemoryModel,
    batch: EpisodeBatch,
    config: RolloutConfig,
    *,
    group: int = 1,
    greedy: bool = False,
    keep_states: bool = False,
) -> Played:
    """Play all dialogues of a batch on the model's device. The trajectory has `group` rows for each dialogue."""
    batch = batch.to(model.device)
    sampling = Sampling(temperature=0.0) if greedy else config.sampling()
    with torch.no_grad():
        state = batch.start.state(model)
        saved = (batch.first_ids, batch.first_mask)
        states, writes, said = [state], [], []
        for turn in range(batch.steps):
            open_rows = batch.turns[:, turn]
            saved = (saved[0], saved[1] & open_rows[:, None])
            state = model.write(state, *saved)
            writes.append(saved)
            if keep_states:
                states.append(state)
            said.append(_answer(model, batch, turn, state, config, sampling, group))
            if turn + 1 < batch.steps:
                saved = _to_write(batch, turn, said[-1], config.teacher_forcing, group, model)
    history = MemoryHistory.stack(states) if keep_states else None
    return Played(_record(batch, writes, said, group), history, state)


def _answer(
    model: MemoryModel,
    batch: EpisodeBatch,
    turn: int,
    state: MemoryState,
    config: RolloutConfig,
    sampling: Sampling,
    group: int,
) -> dict[str, Tensor]:
    """Answers of a turn in the batch's rows times `group`: ids, mask, sampled, log_probs [B * G, A], finished."""
    leaders = batch.turns[:, turn].nonzero().squeeze(1)
    total = batch.rows * group
    if not len(leaders):
        empty = torch.zeros(total, 1, dtype=torch.long, device=state.device)
        blank = {"ids": empty, "mask": empty.bool(), "sampled": empty.bool(), "log_probs": empty.float()}
        return blank | {"finished": empty[:, 0].bool()}
    rows = leaders.repeat_interleave(group)
    member = torch.arange(group, device=rows.device).repeat(len(leaders))
    width = int(batch.query_mask[leaders, turn].sum(-1).max())
    seeds = [
        derive_seed(s, Purpose.ANSWERS, turn, g)
        for s, g in zip(batch.seeds[rows].tolist(), member.tolist(), strict=True)
    ]
    made = model.generate_answers(
        batch.query_ids[rows, turn, :width],
        batch.query_mask[rows, turn, :width],
        state.rows(rows),
        max_new_tokens=config.max_new_tokens,
        forced=config.forced,
        sampling=sampling,
        seeds=None if sampling.greedy else seeds,
    )
    place = rows * group + member
    found = {
        "ids": made.ids,
        "mask": made.mask.bool(),
        "sampled": made.sampled,
        "log_probs": made.log_probs.float(),
        "finished": made.finished,
    }
    if len(place) == total:
        return found
    return {name: x.new_zeros(total, *x.shape[1:]).index_copy(0, place, x) for name, x in found.items()}


def _to_write(
    batch: EpisodeBatch, turn: int, said: dict[str, Tensor], teacher_forcing: bool, group: int, model: MemoryModel
) -> tuple[Tensor, Tensor]:
    """What the next turn finds in memory: query and answer of this one."""
    if teacher_forcing:
        answer = (batch.reference_ids[:, turn], batch.reference_mask[:, turn])
    else:
        answer = (said["ids"][::group], said["mask"][::group])
    ids, mask, _ = join_rows(batch.query_ids[:, turn], batch.query_mask[:, turn], *answer)
    limit = model.config.max_interaction_length
    return ids[:, :limit], mask[:, :limit].bool()


def _record(
    batch: EpisodeBatch, writes: list[tuple[Tensor, Tensor]], said: list[dict[str, Tensor]], group: int
) -> Trajectory:
    ids, mask = _stack([w[0] for w in writes]), _stack([w[1] for w in writes])
    columns = {name: [turn[name] for turn in said] for name in said[0]}
    repeated = batch.repeat(group) if group > 1 else batch
    if group > 1:
        ids, mask = ids.repeat_interleave(group, 0), mask.repeat_interleave(group, 0)
    return Trajectory(
        repeated,
        ids,
        mask,
        _stack(columns["ids"]),
        _stack(columns["mask"]),
        _stack(columns["sampled"]),
        _stack(columns["log_probs"]),
        torch.stack(columns["finished"], dim=1),
        group=group,
    )


def _stack(turns: list[Tensor]) -> Tensor:
    """[B, n] of each turn -> [B, K, longest n], filled up with zeros."""
    width = max(turn.shape[1] for turn in turns)
    return torch.stack([torch.nn.functional.pad(turn, (0, width - turn.shape[1])) for turn in turns], dim=1)
