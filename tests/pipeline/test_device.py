"""What a process settles before its first product."""

import os

from pipeline.device import keep_few_kernels

NAMES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")


def test_few_kernels_are_kept_unless_the_environment_says_how_many(monkeypatch):
    monkeypatch.delenv(NAMES[0], raising=False)
    monkeypatch.setenv(NAMES[1], "7")
    keep_few_kernels()
    assert [os.environ[name] for name in NAMES] == ["128", "7"]
