"""Weights and rows of the Hub, in the recipes of mrl/."""

import socket
import time

import pyarrow as pa
import pytest
from transformers import LlamaConfig

from mrl.dialogues.dataset import RowSource, read_conversations
from mrl.training.model_io import ModelConfig, load_reactive, resolve
from pipeline.errors import InputError


@pytest.fixture
def published(at_standin, model, tokenizer, tmp_path):
    """A reactive model and its tokenizer as `me/model-v1.0`."""
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    files = {path.name: path for path in (tmp_path / "saved").iterdir()}
    at_standin.add_repo("me/model-v1.0", files, repo_type="model")
    return at_standin


def test_a_model_of_the_hub_is_the_one_that_was_published(published, model, tokenizer):
    published.fail(1, status=503, match="GET .*model.safetensors")
    loaded, its_tokenizer = load_reactive(ModelConfig(path="me/model-v1.0"))
    ours = model.state_dict()
    assert all(value.equal(ours[name]) for name, value in loaded.state_dict().items())
    assert its_tokenizer.get_vocab() == tokenizer.get_vocab()
    own, _ = load_reactive(ModelConfig(tokenizer="me/model-v1.0", new={"hidden_size": 32, "num_hidden_layers": 1}))
    assert own.config.vocab_size == len(tokenizer)


def test_a_model_in_the_cache_is_loaded_where_the_hub_is_gone(published, model, monkeypatch, caplog):
    for name in ("HF_HUB_OFFLINE", "TRLM_HUB_UNREACHABLE"):
        monkeypatch.setenv(name, "")  # so that what is found out here ends with this test
    load_reactive(ModelConfig(path="me/model-v1.0"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening: connections are refused
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        ModelConfig(path="me/model-v1.0").refuse_missing()
        asked = len(published.requests)
        loaded, _ = load_reactive(ModelConfig(path="me/model-v1.0"))
    assert all(value.equal(model.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert len(published.requests) == asked
    assert "only what is in its cache can be used" in caplog.text


def test_names_that_are_not_on_the_hub_are_one_line(published):
    with pytest.raises(InputError, match="me/none: its tokenizer can't be loaded"):
        load_reactive(ModelConfig(path="me/none"))
    for path in ("./me/none", "outputs/none", "a/b/c"):
        with pytest.raises(InputError, match="model.path: there is no folder"):
            resolve(path)


def test_rows_of_the_hub_have_names_with_dots(at_standin):
    turns = [{"query": "who", "answer": "Ann"}]
    rows = pa.Table.from_pylist([{"query": "what", "answer": "cat", "interactions": turns}] * 3)
    at_standin.add_dataset("org/dialogues-v1.1", {"default": {"train": rows}})
    (first, *_) = read = read_conversations(RowSource(path="org/dialogues-v1.1"))
    assert len(read) == 3
    assert [e.answer for e in first.exchanges] == ["cat", "Ann"]


def test_without_a_network_by_order_models_and_rows_fail_at_once(offline):
    started = time.monotonic()
    with pytest.raises(
        InputError, match="org/none: neither a local path nor a readable Hub dataset .HF_HUB_OFFLINE is"
    ):
        read_conversations(RowSource(path="org/none"))
    with pytest.raises(InputError, match="org/none: its tokenizer can't be loaded: HF_HUB_OFFLINE is set"):
        load_reactive(ModelConfig(path="org/none"))
    assert time.monotonic() - started < 5


def test_a_model_of_another_kind_is_refused_by_its_kind(tmp_path, tokenizer):
    LlamaConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8).save_pretrained(
        tmp_path
    )
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="holds a model of type llama, not a reactive one"):
        load_reactive(ModelConfig(path=str(tmp_path)))
