"""Subsets of lm_eval's items that are the same for every model, and how written answers end."""

import json

import pytest

from evaluation.benchmark_config import BenchmarkConfig, BenchmarksConfig
from evaluation.benchmark_tasks import CountingLM, ask_all, chosen, counted, summary
from evaluation.benchmarks import main
from evaluation.reporting.reader import read_results
from pipeline.errors import InputError
from pipeline.run import open_run
from tests.post_training import toy


def test_items_are_drawn_by_seed_and_equally_from_the_members_of_a_group():
    drawn = chosen({"b": 100, "a": 3, "c": 50}, 12, seed=1)
    assert {name: len(items) for name, items in drawn.items()} == {"a": 3, "b": 4, "c": 4}
    assert all(items == sorted(set(items)) for items in drawn.values())
    assert drawn == chosen({"a": 3, "c": 50, "b": 100}, 12, seed=1) != chosen({"a": 3, "b": 100, "c": 50}, 12, seed=2)


def test_shares_of_answers_that_end_think_and_close():
    answers = [
        {"ended": True, "thinks": True, "closed": True, "tokens": 4},
        {"ended": False, "thinks": True, "closed": False, "tokens": 8},
        {"ended": True, "thinks": False, "closed": False, "tokens": 0},
        {"ended": True, "thinks": False, "closed": False, "tokens": 0},
    ]
    assert summary(answers) == {"ended": 0.75, "thinks": 0.5, "closed": 0.25, "thought_tokens": 6.0, "n": 4}


def test_an_answer_counts_up_to_its_end():
    tokenizer = toy.tokenizer()
    end = tokenizer.eos_token_id

    def of(text: str, *after: int) -> tuple[bool, bool, bool, bool]:
        ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], *after]
        found = counted(tokenizer, ids, end)
        return found["ended"], found["thinks"], found["closed"], found["tokens"] > 0

    assert of("<think>red</think> blue", end, end) == (True, True, True, True)
    assert of("<think>red") == (False, True, False, True)
    assert of("blue", end, *tokenizer("<think>red</think>")["input_ids"]) == (True, False, False, False)


def test_models_are_asked_the_same_items_once(tmp_path, monkeypatch, caplog):
    puzzles = [
        {"messages": [{"role": "user", "content": f"{i} + 1?"}], "answer": f"{i}", "task": "sums"} for i in range(9)
    ]
    toy.write_rows(tmp_path / "held_out" / "test.jsonl", puzzles)
    monkeypatch.setenv("TRLM_HELD_OUT", str(tmp_path / "held_out"))

    def asked(name: str, at_once: int | None = None) -> list[int]:
        config = BenchmarksConfig(
            output_dir=tmp_path / "lm_eval" / name, model=str(tmp_path / name), seed=3, batch_size=4,
            tasks={"quickstart_sums": BenchmarkConfig(items=4, max_new_tokens=5, batch_size=at_once)},
        )  # fmt: skip
        with open_run(config, stage="benchmarks", output_dir=config.output_dir, seed=3) as run:
            main(config, run)
        (samples,) = config.output_dir.rglob("samples_*.jsonl")
        return [json.loads(line)["doc_id"] for line in samples.read_text().splitlines()]

    items = [asked(toy.save(tmp_path / name, seed=seed).name) for name, seed in (("one", 0), ("two", 1))]
    assert items[0] == items[1]
    assert len(items[0]) == 4
    found = read_results([tmp_path]).evaluations
    assert {name: found[name].figures["quickstart_sums"]["exact_match,final-answer"].n for name in found} == {
        "one": 4,
        "two": 4,
    }
    assert found["one"].answers["quickstart_sums"]["n"] == 4

    loaded = []
    real = CountingLM.__init__
    monkeypatch.setattr(CountingLM, "__init__", lambda lm, **kw: (loaded.append(kw["dtype"]), real(lm, **kw))[1])
    assert asked("one", at_once=2) == items[0]
    assert loaded == []  # it isn't loaded where all is done
    toy.save(tmp_path / "one", seed=2)  # other weights under the same name are asked anew
    asked("one")
    assert loaded == ["float32"]
    with pytest.raises(InputError, match="tasks.local_gsm8: evaluation/tasks has none; did you mean local_gsm8k"):
        ask_all(BenchmarksConfig(output_dir=tmp_path, model="x", tasks={"local_gsm8": BenchmarkConfig(items=1)}), None)
