"""The chat script: what it refuses before anything is loaded, and a model of the Hub that it talks to."""

import io
import runpy
from pathlib import Path

import pytest

from mrl.training.model_io import save_reactive
from pipeline.errors import InputError

CHAT = runpy.run_path(str(Path(__file__).parents[2] / "mrl" / "chat.py"))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--model", "nowhere"], "--model: there is no folder nowhere"),
        (["--model", ".", "--max-new-tokens", "1"], "--max-new-tokens is 1"),
        (["--model", ".", "--max-think-tokens", "0"], "--max-think-tokens is 0"),
        (["--model", ".", "--temperature", "nan"], "--temperature is nan"),
        (["--model", ".", "--port", "80"], "--port is 80"),
    ],
)
def test_what_cannot_work_is_named_at_once(options, word):
    with pytest.raises(InputError, match=word):
        CHAT["check"](CHAT["parse_options"](options))


def test_a_model_of_the_hub_talks_without_its_code(at_standin, model, tokenizer, tmp_path, capsys, monkeypatch):
    save_reactive(model, tokenizer, tmp_path / "model")
    files = {p.name: p for p in (tmp_path / "model").iterdir() if p.is_file()}
    poisoned = tmp_path / "modeling_reactive.py"
    poisoned.write_text("raise RuntimeError('code of a checkpoint was run')")
    at_standin.add_repo("me/tiny", {**files, "modeling_reactive.py": poisoned}, repo_type="model")
    monkeypatch.setattr("sys.stdin", io.StringIO("Ann has the cat .\n"))
    CHAT["main"](CHAT["parse_options"](["--model", "me/tiny", "--cli", "--max-new-tokens", "4"]))
    assert "memory 1,024 bytes" in capsys.readouterr().out  # 2 layers of 4 slots with 32 numbers, 4 bytes each
