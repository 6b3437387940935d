"""Fixtures that every room's tests may use, and the same generated cases on every machine."""

import os

from hypothesis import settings

from tests.hub import hub

__all__ = ["hub"]

# What a landing is decided by must not depend on luck; look for new cases with HYPOTHESIS_PROFILE=search.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
