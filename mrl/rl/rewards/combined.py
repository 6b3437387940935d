"""What an answer is worth: batched on the device, and never worth more than the reference answer.

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
A term that says nothing about a turn (no facts given, a reference unlike the saved data) leaves its weight to others;
where no term says anything the turn isn't rewarded (which isn't a reward of 0).
An empty answer is worth 0. The tokens of the frame ([A], [EOS], padding, thoughts before [A]) are left out everywhere.

Symbols: B dialogues, K turns, N = B * K rows, n and m tokens.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mrl.rl.rewards.facts import fact_recall
from mrl.rl.rewards.overlap import bleu, repetition, shared
from mrl.rl.rewards.similarity import agreement, cosine, mean_embedding, running_similarity
from mrl.rl.rewards.strategies import strategy_table
from mrl.rl.rewards.words import Vocabulary, content, together
from mrl.rl.trajectory import Trajectory, expect

TERMS = ("facts", "bleu", "bleu_saved", "cosine", "cosine_saved", "running", "length", "repetition")


@dataclass(kw_only=True)
class RewardConfig:
    """Weights of the terms (their sum is normalised away) and the scale of the whole."""

    weights: dict[str, float] = field(
        default_factory=lambda: {"facts": 0.6, "bleu": 0.2, "cosine": 0.05, "length": 0.05, "repetition": 0.1}
    )
    scale: float = 1.0
    """Reward of a perfect answer."""
    bleu_orders: list[float] = field(default_factory=lambda: [0.2, 0.2, 0.3, 0.3])
    """Weights of 1-grams, 2-grams, ..."""
    length_slack: float = 1.5
    """Facts are worth the full in answers up to this many times as long as the reference."""
    running_decay: float = 0.2
    """How much of the running mean survives each new interaction."""

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if weight < 0:
                raise ValueError(f"weights.{name} is {weight}; a term can't be worth less than nothing")
        if not any(self.weights.values()):
            raise ValueError("weights are all 0: nothing would be rewarded")
        if self.scale <= 0:
            raise ValueError(f"scale is {self.scale}; it must be positive")
        if not self.bleu_orders or sum(self.bleu_orders) <= 0:
            raise ValueError("bleu_orders needs at least one positive weight")


@dataclass
class Rewards:
    """rewards, rewarded, recall, exact [B, K]: worth, whether it counts, share of facts said, all facts said (both
    facts figures NaN where no facts are needed); terms by name [B, K], NaN where a term said nothing."""

    rewards: Tensor
    rewarded: Tensor
    recall: Tensor
    exact: Tensor
    terms: dict[str, Tensor]


def score(
    config: RewardConfig, vocabulary: Vocabulary, trajectory: Trajectory, extra: dict[str, Tensor] | None = None
) -> Rewards:
    """Rewards of all answers of a trajectory, with what each dialogue's strategy counts.

    extra: further terms [B, K] in 0..1 computed elsewhere (a preference model), weighed by their name in `weights`.
    Raises ValueError for a weight without a term.
    """
    extra = extra or {}
    unknown = set(config.weights) - set(TERMS) - set(extra)
    if unknown:
        raise ValueError(f"weights.{min(unknown)} is no term of the reward; there are {', '.join([*TERMS, *extra])}")
    batch, lead = trajectory.batch, trajectory.turns.shape
    answer = content(trajectory.answer_ids, trajectory.answer_mask, vocabulary)
    reference = content(batch.reference_ids, batch.reference_mask, vocabulary)
    table = strategy_table(batch.strategies, lead, batch.strategy, batch.turns)
    terms, recall, lean = _all_terms(config, vocabulary, trajectory, answer, reference, table.saved)
    final = table.everything.any()
    if bool(final):
        rows = table.everything.any(1).nonzero().squeeze(1)
        _final_terms(config, vocabulary, trajectory, answer, reference, rows, terms)
    terms |= extra
    total, weight_sum = torch.zeros(lead, device=answer[0].device), torch.zeros(lead, device=answer[0].device)
    for name, weight in config.weights.items():
        said = ~terms[name].isnan()
        total += weight * terms[name].nan_to_num(0.0)
        weight_sum += weight * said
    worth = total / weight_sum.clamp(min=1e-8) - table.penalty * lean
    rewarded = (table.factor > 0) & (weight_sum > 0)
    rewards = config.scale * worth * table.factor
    exact = torch.where(recall.isnan(), recall, (recall > 1 - 1e-6).float())
    result = Rewards(torch.where(rewarded, rewards, torch.zeros_like(rewards)), rewarded, recall, exact, terms)
    expect(result.rewards, result.rewarded, result.recall, result.exact, lead=lead, ndim=2, name="rewards")
    return result


def _all_terms(config, vocabulary, trajectory, answer, reference, saved_index):
    writes = content(trajectory.writes, trajectory.writes_mask, vocabulary, whole=True)
    width = trajectory.writes.shape[-1]
    index = saved_index[..., None].expand(-1, -1, width)
    saved = tuple(x.gather(1, index) for x in writes)
    flat = [tuple(x.flatten(0, 1) for x in pair) for pair in (answer, reference, saved)]
    lead = trajectory.turns.shape
    table = {name: x.unflatten(0, lead) for name, x in _compare(config, vocabulary, *flat).items()}
    recall = fact_recall(flat[0], trajectory.batch.fact_ids.flatten(0, 1), vocabulary).unflatten(0, lead)
    table["facts"] = recall * table.pop("honesty")
    table["running"] = running_similarity(config, vocabulary, answer, reference, writes)
    lean = table.pop("lean")
    return table, recall, lean


def _final_terms(config, vocabulary, trajectory, answer, reference, rows, terms) -> None:
    """Overwrite the saved-data terms of the last turn of `rows` with a comparison to everything written so far."""
    last = trajectory.turns.sum(1)[rows] - 1
    writes = content(trajectory.writes[rows], trajectory.writes_mask[rows], vocabulary, whole=True)
    before = torch.arange(trajectory.turns.shape[1], device=last.device) <= last[:, None]
    everything = together((writes[0].flatten(1), (writes[1] & before[..., None]).flatten(1)))
    pairs = [tuple(x[rows, last] for x in pair) for pair in (answer, reference)]
    compared = _compare(config, vocabulary, *pairs, everything)
    for name in ("bleu_saved", "cosine_saved"):
        terms[name][rows, last] = compared[name]


def _compare(config, vocabulary, answer, reference, saved) -> dict[str, Tensor]:
    """All terms that compare token rows [N, .]: answer, reference, saved data as (ids, mask)."""
    said, meant = answer[1].sum(1).float(), reference[1].sum(1).float()
    spoken = (said > 0).float()
    orders = config.bleu_orders
    to_saved, ideal_saved = bleu(answer, saved, orders), bleu(reference, saved, orders)
    vectors = [mean_embedding(pair, vocabulary.embedding) for pair in (answer, reference, saved)]
    near, ideal_near = cosine(vectors[0], vectors[2]), cosine(vectors[1], vectors[2])
    copied = (shared(answer, saved, 3) - shared(reference, saved, 3)) / meant.clamp(min=1)
    brevity = (config.length_slack * meant.clamp(min=1) / said.clamp(min=1)).clamp(max=1)
    repeated = repetition(answer) - repetition(reference)
    return {
        "honesty": brevity * (1 - copied.clamp(0, 1)),
        "lean": (near - ideal_near).clamp(min=0),
        "bleu": bleu(answer, reference, orders),
        "bleu_saved": agreement(to_saved, ideal_saved),
        "cosine": cosine(vectors[0], vectors[1]),
        "cosine_saved": agreement(near, ideal_near),
        "length": spoken * torch.minimum(said, meant) / torch.maximum(said, meant).clamp(min=1),
        "repetition": spoken * (1 - repeated.clamp(min=0)),
    }
