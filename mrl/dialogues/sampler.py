"""The order in which training visits dialogues: a function of (seed, epoch), resumable."""

from collections.abc import Iterator

import numpy as np


def bucketed(lengths: np.ndarray, batch_size: int, rng: np.random.Generator, pool: int = 32) -> list[np.ndarray]:
    """One epoch: indices in batches of like lengths. Shuffled, cut into pools of `pool` batches, sorted by length
    inside each, and the batches shuffled again. No row is dropped: the last batch of a pool may be smaller."""
    order = rng.permutation(len(lengths))
    batches = []
    for at in range(0, len(order), pool * batch_size):
        part = order[at : at + pool * batch_size]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


class BucketBatchSampler:
    """An endless, resumable walk through epochs of bucketed batches; a Stateful part of the checkpoint."""

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, salt: int = 0) -> None:
        self.lengths, self.batch_size, self.seed, self.salt = lengths, batch_size, seed, salt
        self.epoch = self.position = 0
        self._batches: list[np.ndarray] | None = None

    @property
    def batches(self) -> list[np.ndarray]:
        if self._batches is None:
            rng = np.random.default_rng((self.seed, self.salt, self.epoch))
            self._batches = bucketed(self.lengths, self.batch_size, rng)
        return self._batches

    def next(self) -> np.ndarray:
        """Indices of the next global batch."""
        if self.position >= len(self.batches):
            self.epoch, self.position, self._batches = self.epoch + 1, 0, None
        self.position += 1
        return self.batches[self.position - 1]

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position, "rows": len(self.lengths)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        if state["rows"] != len(self.lengths):
            raise ValueError(f"the checkpoint's data had {state['rows']} rows, now there are {len(self.lengths)}")
        self.epoch, self.position, self._batches = state["epoch"], state["position"], None


def in_order(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Every index once, in batches of like lengths: for evaluation."""
    order = np.argsort(lengths, kind="stable")
    yield from (order[i : i + batch_size] for i in range(0, len(order), batch_size))
