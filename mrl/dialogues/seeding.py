"""Random numbers that follow from a seed and from what they are for, and from nothing else.

Every number is drawn from numpy's SeedSequence (O'Neill 2015, "Developing a seed_seq alternative") with the purpose and
the place as its spawn key. So a row's numbers depend neither on its neighbours nor on slices or processes, and two
purposes never share a stream.
"""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Purpose(IntEnum):
    """What random numbers are for. A number stays with its purpose: it decides what is drawn."""

    BATCH = 1
    HELD_OUT = 2
    MEMORY_TARGETS = 3
    DECODED_TURNS = 4
    VALUED_TURNS = 5
    LEARNT_REFERENCES = 6
    ANSWERS = 7
    MINIBATCHES = 8


def derive_seed(seed: int, purpose: Purpose, *place: int) -> int:
    """A seed in 0 .. 2**62 for one place (a step, a turn, a member of a group), each a number from 0."""
    sequence = np.random.SeedSequence(seed, spawn_key=(int(purpose), *place))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(2))


def turn_uniforms(seeds: Tensor | Sequence[int], turns: int, purpose: Purpose) -> Tensor:
    """A number in [0, 1) for each turn [B, turns] that its row's seed [B] decides; more turns change none of them."""
    listed = seeds.tolist() if isinstance(seeds, Tensor) else list(seeds)
    rows = [
        np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(purpose),))).random(turns, np.float32)
        for seed in listed
    ]
    drawn = torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, turns)
    return drawn.to(seeds.device) if isinstance(seeds, Tensor) else drawn


__all__ = ["Purpose", "derive_seed", "turn_uniforms"]
