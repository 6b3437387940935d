"""What is trained on and held out, counted in the figures."""

import json
import logging

from mrl.dialogues.corpus import CorpusConfig, answer_lengths, load_corpus, warn_of_long_answers
from mrl.dialogues.dataset import RowSource


class Facts:
    """Stands for a run: keeps what is reported."""

    def __init__(self) -> None:
        self.facts: dict = {}

    def report(self, **facts) -> None:
        self.facts |= facts


def sources(tmp_path, name: str, rows: list[dict]) -> list[RowSource]:
    (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return [RowSource(path=str(tmp_path / f"{name}.jsonl"))]


def row(*answers: str, **marks) -> dict:
    return {"query": "who", "answer": "Ann", "interactions": [{"query": "what", "answer": a, **marks} for a in answers]}


def test_counts_are_reported_and_shared_dialogues_said(tmp_path, tokenizer, caplog):
    train = sources(tmp_path, "train", [row("cat"), row("dog"), row("owl", facts=["owl"])])
    run = Facts()
    with caplog.at_level(logging.WARNING):
        load_corpus(CorpusConfig(train=train, held_out=sources(tmp_path, "new", [row("fox")])), tokenizer, 20, run)
        assert not caplog.messages
        held_out = sources(tmp_path, "held_out", [row("dog"), row("fox")])
        load_corpus(CorpusConfig(train=train, held_out=held_out), tokenizer, 20, run)
    assert run.facts["held_out_rows_in_train"] == 1
    assert "1 of 2 held-out dialogues stand in data.train word for word" in caplog.text
    assert run.facts["data"]["train"] == {
        "read": 3, "kept": 3, "left out by where": 0, "left out by fold": 0, "turns": 6, "turns that ask": 5,
        "facts": 1, "facts that their answer doesn't say": 0, "turns cut": 0,
        "queries cut": 0, "answers cut": 0, "facts lost by a cut": 0,
        "distances given, as the words have them": 0, "distances given, the words have others": 0,
        "distances derived": 0, "turns with a fact that nobody has said before": 1,
        "answers that say that it wasn't told": 0,
        "turns that ask with nothing to reward": 4, "dialogues of one turn": 0,
    }  # fmt: skip
    load_corpus(CorpusConfig(train=train, held_out=train), tokenizer, 20, run)
    assert "all of 3 held-out dialogues" in caplog.text


def test_the_folder_stands_before_local_paths_and_not_before_names_of_the_hub(tmp_path):
    (tmp_path / "own" / "rows").mkdir(parents=True)
    names = ["steps_4", "own/rows", "org/set", "org/set-v1.1", "*.jsonl"]
    config = CorpusConfig(
        train=[RowSource(path=name) for name in names], held_out=[RowSource(path="org/set")], folder=str(tmp_path)
    )
    inside = [f"{tmp_path}/steps_4", f"{tmp_path}/own/rows", "org/set", "org/set-v1.1", f"{tmp_path}/*.jsonl"]
    assert [source.path for source in config.sources("train")] == inside


def test_answers_that_cannot_be_said_within_the_limit_are_counted(tmp_path, tokenizer, caplog):
    rows = sources(tmp_path, "train", [row("cat dog owl", "cat")])
    data = load_corpus(CorpusConfig(train=rows, held_out=rows), tokenizer, 20, Facts()).train
    assert answer_lengths(data).tolist() == [3, 5, 3]  # [A], words, [EOS]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert warn_of_long_answers(data, 5) == 0
        assert not caplog.messages
        assert warn_of_long_answers(data, 4) == 1
    assert "1 of 3 reference answers need more than rollout.max_new_tokens 4 (the longest 5)" in caplog.text
