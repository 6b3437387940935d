"""Playing dialogues: the policy answers query after query, and what was said goes into its memory.

The first interaction is only written. Then, for every turn, the newest interaction is written, the query answered from
the state that this leaves, and the answer (its own, or the reference with `teacher_forcing`) becomes the next thing to
write. The last answer is written nowhere. With groups, every query is answered several times from one and the same
state; the first of these answers is the one that is written.

Where it is known which answers are learnt from, only these are drawn several times. The others are there to be written:
one for a group, and none at all where the reference is written instead, or nothing is because the dialogue is over.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mrl.dialogues.seeding import Purpose, derive_seed
from mrl.losses.memory_model import MemoryModel
from mrl.model import MemoryHistory, MemoryState, Sampling, join_rows
from mrl.recipes.reinforcement import RolloutConfig
from mrl.rl.trajectory import EpisodeBatch, Rollout


@dataclass(frozen=True, eq=False)
class Played:
    """A rollout and, of its leaders (one row a group), the memory before and after each write (None unless asked for)
    and the memory left at the end."""

    rollout: Rollout
    history: MemoryHistory | None
    final: MemoryState


def generate_rollouts(
    model: MemoryModel,
    batch: EpisodeBatch,
    config: RolloutConfig,
    *,
    group: int = 1,
    learnt: Tensor | None = None,
    greedy: bool = False,
    keep_history: bool = False,
    opening: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Played:
    """Play all dialogues of a batch on the model's device. The rollout has `group` rows for each dialogue. learnt
    [B, K]: turns whose answers may be learnt from (default: all); of the others all rows of a group have the answer
    that is written, an empty one where theirs isn't. opening: what the rollout keeps of the states [n, D] and logits
    [n, V] before an answer's first word, for a critic that reads it."""
    batch = batch.to(model.device)
    learnt = batch.turns if learnt is None else batch.turns & learnt.to(model.device)
    sampling = Sampling(temperature=0.0) if greedy else config.sampling()
    with torch.no_grad():
        state = batch.start.state(model)
        newest = (batch.first_ids, batch.first_mask)
        states, writes, answers = [state], [], []
        for turn in range(batch.steps):
            newest = (newest[0], newest[1] & batch.turns[:, turn, None])
            state = model.write(state, *newest)
            writes.append(newest)
            if keep_history:
                states.append(state)
            samples = _samples(batch, turn, learnt, group, config.teacher_forcing)
            answers.append(_answer(model, batch, turn, state, config, sampling, samples, group, opening))
            if turn + 1 < batch.steps:
                newest = _next_write(model, batch, turn, answers[-1], config.teacher_forcing, group)
    history = MemoryHistory.stack(states) if keep_history else None
    return Played(_record(batch, writes, answers, group), history, state)


def _samples(batch: EpisodeBatch, turn: int, learnt: Tensor, group: int, teacher_forcing: bool) -> Tensor:
    """How many answers [B] a turn is given: as many as a group has where they are learnt from, one where it is only
    written, none where it isn't."""
    written = torch.zeros_like(batch.turns[:, turn])
    if not teacher_forcing and turn + 1 < batch.steps:
        written = batch.turns[:, turn] & batch.turns[:, turn + 1]
    return torch.where(learnt[:, turn], group, written.long())


def _answer(
    model: MemoryModel,
    batch: EpisodeBatch,
    turn: int,
    state: MemoryState,
    config: RolloutConfig,
    sampling: Sampling,
    samples: Tensor,
    group: int,
    opening: Callable[[Tensor, Tensor], Tensor] | None,
) -> dict[str, Tensor]:
    """Answers of a turn in the batch's rows times `group`, of which `samples` [B] are drawn: ids, mask, sampled,
    log_probs [B * G, A], finished, thought, cut [B * G]; opening [B * G, ...] where one was asked for and there is an
    answer."""
    leaders = samples.nonzero().squeeze(1)
    total = batch.size * group
    if not len(leaders):
        empty = torch.zeros(total, 1, dtype=torch.long, device=state.device)
        blank = {"ids": empty, "mask": empty.bool(), "sampled": empty.bool(), "log_probs": empty.float()}
        return blank | {"finished": empty[:, 0].bool(), "thought": empty[:, 0], "cut": empty[:, 0].bool()}
    drawn = samples[leaders]
    first = drawn.cumsum(0) - drawn
    member = torch.arange(int(drawn.sum()), device=state.device) - first.repeat_interleave(drawn)
    width = int(batch.query_mask[leaders, turn].sum(-1).max())
    seeds = [
        derive_seed(s, Purpose.ANSWERS, turn, g)
        for s, g in zip(batch.seeds[leaders].repeat_interleave(drawn).tolist(), member.tolist(), strict=True)
    ]
    made = model.generate_answers(
        batch.query_ids[leaders, turn, :width],
        batch.query_mask[leaders, turn, :width],
        state.rows(leaders),
        max_new_tokens=config.max_new_tokens,
        max_think_tokens=config.max_think_tokens,
        forced=config.forced or "answer",
        sampling=sampling,
        seeds=None if sampling.greedy else seeds,
        samples=drawn,
        opening=opening,
    )
    answer = {
        "ids": made.ids,
        "mask": made.mask.bool(),
        "sampled": made.sampled,
        "log_probs": made.log_probs.float(),
        "finished": made.finished,
        "thought": made.thought,
        "cut": made.cut,
    }
    if made.opening is not None:
        answer["opening"] = made.opening
    if len(member) == total:
        return answer
    # Which of the answers drawn each row of a group has: its own, or the only one that there is.
    every = torch.arange(group, device=state.device)
    source = (first[:, None] + torch.minimum(every, drawn[:, None] - 1)).flatten()
    place = (leaders[:, None] * group + every).flatten()
    return {name: x.new_zeros(total, *x.shape[1:]).index_copy(0, place, x[source]) for name, x in answer.items()}


def _next_write(
    model: MemoryModel, batch: EpisodeBatch, turn: int, answer: dict[str, Tensor], teacher_forcing: bool, group: int
) -> tuple[Tensor, Tensor]:
    """What the next turn finds in memory: query and answer of this one."""
    if teacher_forcing:
        written = (batch.reference_ids[:, turn], batch.reference_mask[:, turn])
    else:
        written = (answer["ids"][::group], answer["mask"][::group])
    ids, mask, _ = join_rows(batch.query_ids[:, turn], batch.query_mask[:, turn], *written)
    limit = model.config.max_interaction_length
    return ids[:, :limit], mask[:, :limit].bool()


def _record(
    batch: EpisodeBatch, writes: list[tuple[Tensor, Tensor]], answers: list[dict[str, Tensor]], group: int
) -> Rollout:
    columns = {name: _stack([turn[name] for turn in answers]) for name in ("ids", "mask", "sampled", "log_probs")}
    kept = next((turn["opening"] for turn in answers if "opening" in turn), None)
    openings = None if kept is None else [turn.get("opening", torch.zeros_like(kept)) for turn in answers]
    return Rollout(
        batch=batch.repeat(group),
        writes=_stack([ids for ids, _ in writes]).repeat_interleave(group, 0),
        writes_mask=_stack([mask for _, mask in writes]).repeat_interleave(group, 0),
        answer_ids=columns["ids"],
        answer_mask=columns["mask"],
        sampled=columns["sampled"],
        log_probs=columns["log_probs"],
        **{name: torch.stack([turn[name] for turn in answers], dim=1) for name in ("finished", "thought", "cut")},
        opening=None if openings is None else torch.stack(openings, dim=1),
        group=group,
    )


def _stack(turns: list[Tensor]) -> Tensor:
    """[B, n] of each turn -> [B, K, longest n], filled up with zeros."""
    width = max(turn.shape[1] for turn in turns)
    return torch.stack([F.pad(turn, (0, width - turn.shape[1])) for turn in turns], dim=1)
