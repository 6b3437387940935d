"""Fixtures that every room's tests may use."""

from tests.hub import hub

__all__ = ["hub"]
