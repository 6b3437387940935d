"""Seeds that depend on purpose and place alone."""

import numpy as np
import pytest
import torch

from mrl.dialogues.seeding import Purpose, derive_seed, turn_uniforms


def test_a_seed_follows_from_purpose_and_place_and_is_the_same_everywhere():
    # Recorded: another number here changes every run.
    assert derive_seed(42, Purpose.BATCH, 0) == 4150648696419053870
    assert 0 <= derive_seed(2**62 - 1, Purpose.ANSWERS, 500, 7) < 2**62
    seeds = {derive_seed(s, purpose, place) for s in (0, 1, 2**40) for purpose in Purpose for place in range(50)}
    assert len(seeds) == 3 * len(Purpose) * 50
    assert derive_seed(1, Purpose.BATCH, 2, 3) != derive_seed(1, Purpose.BATCH, 3, 2)


def test_a_turns_number_depends_on_its_row_alone():
    seeds = torch.tensor([5, 2**61, 7])
    whole = turn_uniforms(seeds, 6, Purpose.DECODED_TURNS)
    assert whole.shape == (3, 6)
    assert turn_uniforms(seeds[1:2], 6, Purpose.DECODED_TURNS).equal(whole[1:2]), "another row beside it"
    assert turn_uniforms(seeds, 4, Purpose.DECODED_TURNS).equal(whole[:, :4]), "fewer turns"
    assert not turn_uniforms(seeds, 6, Purpose.VALUED_TURNS).equal(whole)
    assert turn_uniforms(seeds[:0], 6, Purpose.DECODED_TURNS).shape == (0, 6)


def test_turn_numbers_are_spread_evenly():
    drawn = turn_uniforms(list(range(400)), 50, Purpose.DECODED_TURNS)
    counts = np.histogram(drawn.numpy(), bins=10, range=(0, 1))[0]
    assert counts.sum() == 20_000
    assert counts == pytest.approx(2000, abs=200)  # 4.7 standard deviations
    neighbours = np.corrcoef(drawn[:-1, 0].numpy(), drawn[1:, 0].numpy())[0, 1]
    assert abs(neighbours) < 0.2
