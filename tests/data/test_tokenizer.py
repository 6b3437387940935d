"""The trained tokenizer: digits alone, words whole, special tokens unsplit, the same from the same rows."""

import json

import pytest
from transformers import AutoTokenizer

from data.tokenizer import SpecialTokens, TokenizerConfig, main
from pipeline.errors import InputError
from pipeline.run import open_run


def train(folder, rows, **settings):
    """Train on `rows` in `folder`/rows and load as a user would."""
    source = folder / "rows"
    source.mkdir(parents=True, exist_ok=True)
    (source / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = TokenizerConfig(
        output_dir=folder / "out",
        datasets=[source],
        special_tokens=SpecialTokens(pad_token="<|pad|>", eos_token="<|im_end|>", additional=["<think>", "</think>"]),
        **settings,
    )
    with open_run(config, stage="tokenizer", output_dir=config.output_dir, seed=1) as run:
        main(config, run)
    return AutoTokenizer.from_pretrained(folder / "out" / "tokenizer")


def test_a_tokenizer_reads_digits_one_by_one_and_keeps_what_it_is_given(tmp_path):
    rows = [{"messages": [{"role": "user", "content": f"the garden {i} and the garden {i + 1}"}]} for i in range(200)]
    # A blend of ours carries provenance; it isn't text to learn from.
    rows = [{**row, "_source_dataset": "provenance " * 20} for row in rows]
    made = train(tmp_path / "a", rows, vocab_size=300)
    assert 262 < len(made) <= 300  # bytes, special tokens and what there was to merge
    assert [made.decode(i) for i in made.encode(" garden")] == [" garden"]
    assert [made.decode(i) for i in made.encode("1234")] == ["1", "2", "3", "4"]
    assert made.encode("<think>") == [made.convert_tokens_to_ids("<think>")]
    text = "Ünïcode, 12 <think>\nlines\n</think> and\ttabs"
    assert made.decode(made.encode(text)) == text
    assert (made.eos_token, made.pad_token) == ("<|im_end|>", "<|pad|>")
    assert not any("provenance" in token for token in made.get_vocab())
    again = train(tmp_path / "b", rows, vocab_size=300)
    assert again.get_vocab() == made.get_vocab()


def test_impossible_requests_are_refused(tmp_path):
    with pytest.raises(ValueError, match="twice"):
        SpecialTokens(additional=["<a>", "<a>"])
    config = {"output_dir": tmp_path, "datasets": [tmp_path / "missing"], "vocab_size": 300}
    with pytest.raises(InputError, match="no file matches"):
        made = TokenizerConfig(**config)
        with open_run(made, stage="tokenizer", output_dir=tmp_path / "out", seed=1) as run:
            main(made, run)
