"""The reward of an answer: named terms, weighed; computed in one batch on the device.

Terms, each in 0..1 and 1 for the reference answer itself:
    facts         share of the needed facts that are said; worth less when said amid too many words, or by repeating
                  more of the stored interaction than the reference does
    bleu          BLEU of answer against reference
    bleu_saved    whether the answer overlaps with the saved data as much as the reference does (more is copying)
    cosine        likeness of mean token embeddings (a frozen, centred copy of the table) to the reference
    cosine_saved  the same comparison with the saved data
    running       ... with the running mean of earlier interactions
    length        shorter over longer of the two lengths
    repetition    1 minus the share of repeated token pairs beyond the reference's
and, of an answer by itself:
    polite        a word of courtesy is in it
    brief         at most `most_words` words
    format        the whole answer matches `pattern`
    thought       something is thought before it
    abstention    it says that it isn't known exactly where the reference says so
Further terms: reward models (`models`, mrl/preferences/judges.py), functions of one's own (`custom`).
A term that says nothing about a turn (no facts given, a reference unlike the saved data) leaves its weight to others;
where no term says anything the turn isn't rewarded (which isn't a reward of 0).
An empty answer is worth 0. The tokens of the frame ([A], [EOS], padding, thoughts before [A]) are left out everywhere.
No answer earns more than the reference. Terms of one's own are functions named in `custom`.

Symbols: B dialogues, K turns.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mrl.recipes.rewards import RewardConfig
from mrl.rl.rewards import facts, overlap, similarity, verifiers
from mrl.rl.rewards.comparison import Comparison, Term
from mrl.rl.rewards.custom import custom_term
from mrl.rl.rewards.scales import RunningScales
from mrl.rl.rewards.strategies import strategy_table
from mrl.rl.rewards.words import Vocabulary, Words, before_answer, content, pack
from mrl.rl.trajectory import Rollout, ScoredRollout, extended

TERMS: dict[str, Term] = {**facts.TERMS, **overlap.TERMS, **similarity.TERMS, **verifiers.TERMS}
"""All terms by name; a family of terms is a module of this package."""
OF_SAVED = ("bleu_saved", "cosine_saved")
"""Terms that compare with the saved data: at the end of a cumulative dialogue with everything that was saved."""


def term_of(config: RewardConfig, name: str) -> Term:
    """A term by its name."""
    return TERMS[name] if name in TERMS else custom_term(name, config.custom[name])


type Judge = Callable[[Rollout], Tensor]
"""What a reward model says of the answers of a rollout: 0..1 for each turn [B, K], 0 where there is none."""


def score(
    config: RewardConfig,
    vocabulary: Vocabulary,
    rollout: Rollout,
    judges: Mapping[str, Judge] = {},
    scales: RunningScales | None = None,
) -> ScoredRollout:
    """A rollout with the rewards of all its answers, as each dialogue's strategy counts them. judges: of
    `config.models`, by name; scales: what terms are matched by."""
    batch, lead = rollout.batch, (rollout.batch.size, rollout.batch.steps)
    table = strategy_table(batch.strategies, lead, batch.strategy, batch.turns)
    turns = compare(config, vocabulary, rollout, table.saved)
    weights = {name: weight for name, weight in config.weights.items() if weight > 0}
    terms = {
        name: judges[name](rollout) if name in config.models else term_of(config, name)(turns)
        for name in dict.fromkeys([*weights, *config.watched])
    }
    _compare_last_with_everything(turns, batch.turns, table.everything, terms)
    total = torch.zeros(lead, device=batch.turns.device)
    weight_sum = torch.zeros_like(total)
    for name, weight in weights.items():
        worth = terms[name] if scales is None else scales.matched(name, terms[name])
        total += weight * worth.nan_to_num(0.0)
        weight_sum += weight * ~terms[name].isnan()
    worth = total / weight_sum.clamp(min=1e-8)
    if bool((table.penalty > 0).any()):
        worth = worth - table.penalty * similarity.lean_on_saved(turns)
    rewarded = (table.factor > 0) & (weight_sum > 0)
    rewards = torch.where(rewarded, config.scale * worth * table.factor, torch.zeros_like(worth))
    recall = facts.recall(turns)
    return extended(ScoredRollout, rollout, rewards=rewards, rewarded=rewarded, recall=recall, terms=terms)


def compare(config: RewardConfig, vocabulary: Vocabulary, rollout: Rollout, saved: Tensor) -> Comparison:
    """The words of a rollout's turns beside what they are compared with; saved [B, K]: index of the write."""
    batch = rollout.batch
    writes = content(rollout.writes, rollout.writes_mask, vocabulary, whole=True)
    index = saved[..., None].expand(-1, -1, rollout.writes.shape[-1])
    return Comparison(
        query=content(batch.query_ids, batch.query_mask, vocabulary, whole=True),
        answer=content(rollout.answer_ids, rollout.answer_mask, vocabulary),
        thought=before_answer(rollout.answer_ids, rollout.answer_mask, vocabulary),
        reference=content(batch.reference_ids, batch.reference_mask, vocabulary),
        saved=Words(writes.ids.gather(1, index), writes.mask.gather(1, index)),
        writes=writes,
        fact_ids=batch.fact_ids,
        vocabulary=vocabulary,
        settings=config.settings,
    )


def _compare_last_with_everything(
    turns: Comparison, present: Tensor, everything: Tensor, terms: dict[str, Tensor]
) -> None:
    """Where `everything` [B, K] says so (the last turn of some dialogues), put the terms of the saved data in `terms`
    to the comparison with all that was written before that turn."""
    names = [name for name in OF_SAVED if name in terms]
    rows = everything.any(1).nonzero().squeeze(1)
    if not names or not len(rows):
        return
    last = present.sum(1)[rows] - 1
    before = torch.arange(present.shape[1], device=last.device) <= last[:, None]
    words = Words(turns.writes.ids[rows], turns.writes.mask[rows] & before[..., None])
    whole = pack(Words(words.ids.flatten(1), words.mask.flatten(1)))
    alone = replace(
        turns,
        query=_turn(turns.query, rows, last),
        answer=_turn(turns.answer, rows, last),
        thought=_turn(turns.thought, rows, last),
        reference=_turn(turns.reference, rows, last),
        saved=Words(whole.ids[:, None], whole.mask[:, None]),
        fact_ids=turns.fact_ids[rows, last][:, None],
    )
    for name in names:
        terms[name][rows, last] = TERMS[name](alone)[:, 0]


def _turn(words: Words, rows: Tensor, turn: Tensor) -> Words:
    """One turn of each row, [R, 1, n]."""
    return Words(words.ids[rows, turn][:, None], words.mask[rows, turn][:, None])
