"""A run that dies in the middle, in this process."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mrl.training.loop import Training


class Killed(Exception):
    """Not an error that a stage would catch."""


@contextmanager
def killed_after(updates: int) -> Iterator[None]:
    """The run inside takes so many updates and dies in the next one."""
    whole, taken = Training.step, []

    def step(self, *arguments, **options):
        taken.append(None)
        if len(taken) > updates:
            raise Killed
        return whole(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Training, "step", step)
        yield
