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
import torch.nn.functional as F
from torch import Tensor

from mrl.episode import NO_TOKEN, Strategy, Trajectory, expect

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
class Vocabulary:
    """What rewards know of the tokenizer. special [V]: tokens of the frame; answer_id: [A];
    starts, ends [V]: whether a token's text begins, ends inside a word, so that `Ann` isn't found in `Anna`;
    embedding [V, D]: a frozen copy."""

    special: Tensor
    starts: Tensor
    ends: Tensor
    embedding: Tensor
    answer_id: int

    def __post_init__(self) -> None:
        size = self.embedding.shape[:1]
        expect(self.special, self.starts, self.ends, lead=size, ndim=1, name="vocabulary")
        self.embedding = self.embedding.detach().float().clone()
        self.embedding -= self.embedding.mean(0)


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


@dataclass
class StrategyTable:
    """By turn [B, K]: factor on the reward (0 = none), index of the saved write, whether the last turn is compared
    with everything, price of leaning on the old topic."""

    factor: Tensor
    saved: Tensor
    everything: Tensor
    penalty: Tensor


def strategy_table(
    strategies: tuple[Strategy, ...] | list[Strategy], lead: tuple[int, int], choice: Tensor, turns: Tensor
) -> StrategyTable:
    """What each dialogue's strategy makes of each of its turns; choice [B], turns [B, K]."""
    rows, steps = lead
    place = torch.arange(steps, device=turns.device).expand(rows, steps)
    last = turns & (place == turns.sum(1, keepdim=True) - 1)
    factor, penalty = torch.zeros(lead, device=turns.device), torch.zeros(lead, device=turns.device)
    saved, everything = place.clone(), torch.zeros(lead, dtype=torch.bool, device=turns.device)
    for index, strategy in enumerate(strategies):
        mine = (choice == index)[:, None] & turns
        if strategy.kind == "single":
            factor = torch.where(mine & (place == 0), 1.0, factor)
        elif strategy.kind == "cumulative":
            factor = torch.where(mine, 1.0, factor)
            factor = torch.where(mine & last, strategy.final_weight, factor)
            saved = torch.where(mine, (place - strategy.saved_offset + 1).clamp(min=0), saved)
            everything = everything | (mine & last & (place > 0))
        else:
            counted = mine if strategy.dense else mine & last
            factor = torch.where(counted, 1.0, factor)
            saved = torch.where(mine & last, 0, saved)
            penalty = torch.where(mine & ~last, strategy.topic_change_penalty, penalty)
    return StrategyTable(factor, saved, everything, penalty)


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
    table["running"] = _running(config, vocabulary, answer, reference, writes)
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


def _running(config, vocabulary, answer, reference, writes) -> Tensor:
    """Likeness to the running mean of the interactions before the newest, [B, K]; NaN at the first turn."""
    vectors = [mean_embedding(pair, vocabulary.embedding) for pair in (answer, reference, writes)]
    mean, means = torch.zeros_like(vectors[2][:, 0]), []
    for k in range(writes[0].shape[1]):
        means.append(mean)
        mean = (
            vectors[2][:, k] if k == 0 else (1 - config.running_decay) * vectors[2][:, k] + config.running_decay * mean
        )
    earlier = torch.stack(means, dim=1)
    return agreement(cosine(vectors[0], earlier), cosine(vectors[1], earlier))


def content(ids: Tensor, mask: Tensor, vocabulary: Vocabulary, *, whole: bool = False) -> tuple[Tensor, Tensor]:
    """ids and the mask of their words, moved to the front: no frame tokens and, unless `whole`, nothing before [A] (a
    thought)."""
    words = mask & ~vocabulary.special[ids]
    if not whole:
        words = words & ((ids == vocabulary.answer_id).cumsum(-1) > 0)
    return together((ids, words))


def together(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The same words in the same order without gaps."""
    ids, words = pair
    order = (~words).to(torch.uint8).argsort(dim=-1, stable=True)
    return ids.gather(-1, order), words.gather(-1, order)


def agreement(value: Tensor, ideal: Tensor) -> Tensor:
    """1 where value equals ideal, falling to 0 with their ratio in either direction; NaN where ideal is nearly 0."""
    near = torch.minimum(value, ideal) / torch.maximum(value, ideal).clamp(min=1e-8)
    return torch.where(ideal > 0.01, near.clamp(min=0), torch.nan)


def mean_embedding(pair: tuple[Tensor, Tensor], embedding: Tensor) -> Tensor:
    """Mean of the embeddings of the words, [..., D]; 0 where there are none."""
    ids, words = pair
    weight = words.to(embedding.dtype).unsqueeze(-1)
    return (embedding[ids] * weight).sum(-2) / weight.sum(-2).clamp(min=1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of vectors [..., D], negative ones as 0."""
    return F.cosine_similarity(a, b, dim=-1).clamp(min=0)


def _ngram_equal(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], order: int) -> Tensor:
    """[N, n, m] whether the n-gram that starts at i in a is the one that starts at j in b."""
    equal = (a[0][:, :, None] == b[0][:, None, :]) & a[1][:, :, None] & b[1][:, None, :]
    result = equal
    for shift in range(1, order):
        right, down = min(shift, equal.shape[2]), min(shift, equal.shape[1])
        result = result & F.pad(equal[:, shift:, shift:], (0, right, 0, down), value=False)
    return result


def _ngram_valid(words: Tensor, order: int) -> Tensor:
    valid = words
    for shift in range(1, order):
        valid = valid & F.pad(words[:, shift:], (0, min(shift, words.shape[1])), value=False)
    return valid


def bleu(candidate: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor], weights: list[float]) -> Tensor:
    """Sentence BLEU [N] in 0..1 with clipped n-gram precisions and the brevity penalty (Papineni et al. 2002).

    Orders above 1 have 1 added to both counts (Lin and Och 2004), so short answers are not lost; an answer that shares
    no word with the reference is worth 0, one equal to it 1. weights: of the orders, normalised.
    """
    length, wanted = candidate[1].sum(1).float(), reference[1].sum(1).float()
    logs = torch.zeros_like(length)
    for order, weight in enumerate(weights, start=1):
        in_reference = _ngram_equal(candidate, reference, order).sum(2)
        earlier = _ngram_equal(candidate, candidate, order).tril(-1).sum(2)
        valid = _ngram_valid(candidate[1], order)
        matched = (valid & (earlier < in_reference)).sum(1).float()
        smooth = 0.0 if order == 1 else 1.0
        precision = (matched + smooth) / (valid.sum(1) + smooth).clamp(min=1e-8)
        logs = logs + weight / sum(weights) * precision.log()
    brevity = torch.minimum(torch.zeros_like(length), 1 - wanted / length.clamp(min=1e-8))
    return torch.where((length > 0) & (wanted > 0), (logs + brevity).exp(), torch.zeros_like(length))


def shared(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], order: int) -> Tensor:
    """How many n-grams [N] of a occur in b."""
    return _ngram_equal(a, b, order).any(2).sum(1)


def repetition(pair: tuple[Tensor, Tensor]) -> Tensor:
    """Share [N] of the word pairs of a row that have stood in it before."""
    repeated = _ngram_equal(pair, pair, 2).tril(-1).any(2).sum(1)
    return repeated / _ngram_valid(pair[1], 2).sum(1).clamp(min=1)


def fact_recall(answer: tuple[Tensor, Tensor], facts: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Share [N] of the facts [N, F, V, W] that are said in the answer [N, n] in one of their spellings.

    A spelling counts only as whole words: neither its first token may continue a word nor its last be continued. NaN
    where no fact is asked for.
    """
    ids, words = answer
    spellings, width = facts.shape[2:]
    ids = torch.where(words, ids, NO_TOKEN - 1)
    padded = F.pad(ids, (1, width), value=NO_TOKEN - 1)
    windows = padded[:, 1:].unfold(1, width, 1)[:, : ids.shape[1]]
    wanted = facts.flatten(1, 2)
    equal = (windows[:, :, None] == wanted[:, None]) | (wanted == NO_TOKEN)[:, None]
    glued = _glued(padded, vocabulary)
    length = (wanted != NO_TOKEN).sum(-1)
    place = torch.arange(ids.shape[1], device=ids.device)[None, :, None]
    after = (place + length[:, None]).clamp(max=glued.shape[1] - 1)
    ends_inside = glued[:, None].expand(-1, ids.shape[1], -1).gather(2, after)
    starts_inside = glued[:, : ids.shape[1], None]
    hit = equal.all(-1) & ~ends_inside & ~starts_inside & (length > 0)[:, None]
    said = hit.any(1).unflatten(1, (-1, spellings)).any(2)
    asked = (length > 0).unflatten(1, (-1, spellings)).any(2)
    return (said & asked).sum(1) / torch.where(asked.any(1), asked.sum(1), torch.nan)


def _glued(padded: Tensor, vocabulary: Vocabulary) -> Tensor:
    """[N, n + W] whether the boundary before place i lies inside a word; `padded` has one token of frame in front."""
    real = padded >= 0
    known = padded.clamp(min=0)
    return (vocabulary.ends[known] & real)[:, :-1] & (vocabulary.starts[known] & real)[:, 1:]
