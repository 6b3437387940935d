"""Fixtures that every room's tests may use, and the same generated cases on every machine."""

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.hub import at_standin, hub, offline

__all__ = ["at_standin", "hub", "offline"]

# What a landing is decided by must not depend on luck; look for new cases with HYPOTHESIS_PROFILE=search.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(autouse=True)
def denormals_as_they_were() -> Iterator[None]:
    """A stage that runs in this process flushes denormals to 0; the tests after it are to find numbers as they are."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)
