"""The toy model, saved once."""

from pathlib import Path

import pytest

from tests.post_training import toy


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the toy model with its tokenizer."""
    return toy.save(tmp_path_factory.mktemp("start") / "toy")


@pytest.fixture(autouse=True)
def no_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is logged outside the run's folder."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
