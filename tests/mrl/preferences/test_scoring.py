"""Both answers of a pair read the memory before their interaction, in which neither of them is."""

import copy
import math

import numpy as np
import pytest
import torch

from mrl.losses.preference import PreferenceConfig
from mrl.preferences.scoring import (
    memory_before,
    pair_log_probs,
    preference_counts,
    preference_loss,
    reference_log_probs,
)
from tests.mrl.preferences.conftest import ROWS

CPU = torch.device("cpu")


def scores(model, data) -> dict[tuple[int, int], torch.Tensor]:
    """Log-probs of chosen and rejected by (dialogue, turn)."""
    batch = data.batch(np.arange(len(data)))
    with torch.no_grad():
        sums, _, _ = pair_log_probs(model, batch)
    return dict(zip(map(tuple, batch.paired.nonzero().tolist()), sums.T, strict=True))


def with_answer(place: int, **changes: str) -> list[dict]:
    rows = copy.deepcopy(ROWS)
    rows[0]["interactions"][place - 1] |= changes
    return rows


def test_pairs_are_scored_as_a_plain_walk_through_the_dialogue_scores_them(model, pairs):
    model.eval()
    data = pairs()
    found = scores(model, data)
    assert set(found) == {(0, 1), (0, 2), (0, 3), (1, 1), (2, 0), (2, 1)}
    batch = data.batch(np.arange(3))
    for (row, turn), both in found.items():
        state = model.initial_state(seeds=batch.seeds[row : row + 1].tolist())
        for before in range(turn):
            state = model.write(state, batch.ids[row : row + 1, before], batch.mask[row : row + 1, before])
        for ids, mask, scored, said in (
            (batch.ids, batch.mask, batch.scored, both[0]),
            (batch.rejected, batch.rejected_mask, batch.rejected_scored, both[1]),
        ):
            places = scored[row, turn].nonzero().squeeze(1).tolist()
            everywhere = torch.ones_like(mask[row : row + 1, turn], dtype=torch.bool)
            out = model.decode(ids[row : row + 1, turn], mask[row : row + 1, turn], state, logits_at=everywhere)
            log_probs = out.logits.log_softmax(-1)
            slow = sum(float(log_probs[place - 1, ids[row, turn, place]]) for place in places)
            assert float(said) == pytest.approx(slow, abs=1e-4)


def test_neither_answer_leaks_into_the_memory_that_they_are_read_from(model, pairs):
    model.eval()
    before = scores(model, pairs())
    rejected = scores(model, pairs(with_answer(2, rejected="fox fox fox")))
    for place, both in before.items():
        same = rejected[place].isclose(both, atol=1e-5)
        assert same.tolist() == [True, place != (0, 2)], "a rejected answer changes its own score alone"
    chosen = scores(model, pairs(with_answer(2, answer="sun sun")))
    assert torch.isclose(chosen[0, 2][1], before[0, 2][1], atol=1e-5), "the chosen answer isn't in memory yet"
    assert not torch.isclose(chosen[0, 2][0], before[0, 2][0], atol=1e-3)
    assert torch.isclose(chosen[0, 1], before[0, 1], atol=1e-5).all()
    assert not torch.isclose(chosen[0, 3], before[0, 3], atol=1e-5).any(), "memory moves on with the chosen answer"


def test_at_the_start_every_ratio_is_one_and_the_loss_that_of_a_coin(model, pairs):
    model.eval()
    data = pairs()
    data.reference = reference_log_probs(model, data, CPU, 0, 1)
    batch = data.batch(np.arange(3))
    out = preference_loss(model, batch, preference_counts(batch), PreferenceConfig())
    assert float(out.loss) == pytest.approx(math.log(2), abs=1e-5)
    assert float(out.metrics["rewards/margins"]) == pytest.approx(0.0, abs=1e-4)
    assert batch.reference[~batch.paired].abs().sum() == 0


def test_the_gradient_reaches_as_many_writes_as_asked_for(model, pairs):
    model.eval()
    batch = pairs().batch(np.array([0]))
    reached = []
    for steps in (1, None):
        history = memory_before(model, batch, steps)
        first = torch.autograd.grad(history.slots[3].sum(), model.model.embedding.weight, retain_graph=True)[0]
        reached.append(first[batch.ids[0, 0][batch.mask[0, 0] > 0]].abs().sum())
    assert reached[1] > reached[0], "with one step the first write's words get no gradient from the third state"


def test_slices_add_up_to_the_whole_batch(model, pairs):
    model.eval()
    data = pairs()
    data.reference = np.random.default_rng(0).normal(-5, 1, (len(data.other), 2)).astype(np.float32)
    batch = data.batch(np.arange(3))
    config = PreferenceConfig(loss_type=["sigmoid", "sft"])
    counts = preference_counts(batch)
    whole = preference_loss(model, batch, counts, config).loss
    parts = [preference_loss(model, batch.rows(slice(i, None, 2)).trim(), counts, config).loss for i in range(2)]
    assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-5)
