"""A curriculum: the order that examples come in, and that it is the same after a stop and in several processes."""

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl.trainer.utils import RepeatSampler

from pipeline.config import load_yaml, parse_config
from pipeline.errors import InputError
from post_training.chat import IGNORED
from post_training.recipes.dataset import RowCurriculumConfig
from post_training.recipes.stages import SFTStage
from post_training.sampler import CurriculumSampler, begin_epoch, curriculum_order
from post_training.stages.sft import PackedSFTTrainer
from tests.post_training import toy
from tests.post_training.test_runs import same, weights

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "post_training" / "config" / "quickstart"


def order(count: int, mix: float = 0.0, seed: int = 0) -> np.ndarray:
    """The order of examples whose difficulty is their number, ten of each."""
    return curriculum_order(np.arange(count) // 10, mix, np.random.default_rng(seed))


def test_examples_come_from_easy_to_hard_and_equal_ones_in_any_order():
    first, second = order(200), order(200, seed=1)
    assert list(first // 10) == sorted(first // 10)
    assert not np.array_equal(first, second)
    assert sorted(first) == sorted(second) == list(range(200))


def test_a_share_of_the_examples_comes_anywhere_and_each_still_once():
    found = order(1000, mix=0.2)
    assert sorted(found) == list(range(1000))
    # 200 examples are put down anywhere; those that stay in the row are still in order.
    longest = [0] * 100
    for level in found // 10:  # length of the longest part that never falls, by its last level
        longest[level] = max(longest[: level + 1]) + 1
    assert 800 <= max(longest) < 850
    last = found[-250:]
    assert 20 < sum(last < 500) < 80  # easy ones keep coming: about a tenth of what comes last is of the easier half
    assert sum(order(1000)[-250:] < 500) == 0


def test_every_epoch_has_an_order_of_its_own_and_later_ones_are_shuffled():
    config = RowCurriculumConfig(hardest="lowest", mix=0.0, epochs=2)
    sampler = CurriculumSampler(np.arange(100) // 10, config, seed=3)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
        assert list(sampler) == orders[-1]
    falls = [sum(a // 10 < b // 10 for a, b in pairwise(found)) for found in orders]
    assert falls[:2] == [0, 0]  # the lowest number is the hardest: it comes last
    assert falls[2] > 20
    assert len({tuple(found) for found in orders}) == 3
    assert list(CurriculumSampler(np.arange(100) // 10, config, seed=4)) != orders[0]


@pytest.mark.parametrize("kind", ["curriculum", "grouped", "repeated"])
def test_two_processes_deal_from_one_order_also_where_a_run_goes_on_in_a_later_epoch(kind):
    """The loaders are those that accelerate makes; the second epoch is begun afresh, or taken up after two batches."""
    rows = list(range(48))

    def loader(process: int) -> DataLoader:
        torch.manual_seed(process)  # whatever torch's own generator would give
        sampler = {
            "curriculum": lambda: CurriculumSampler(np.arange(48) // 4, RowCurriculumConfig(mix=0.25), seed=5),
            "grouped": lambda: LengthGroupedSampler(8, lengths=[1 + n % 7 for n in rows]),
            "repeated": lambda: RepeatSampler(rows, mini_repeat_count=2, seed=5),
        }[kind]()
        plain = DataLoader(rows, batch_size=4, sampler=sampler, collate_fn=list)
        return prepare_data_loader(plain, num_processes=2, process_index=process, put_on_device=False)

    def read(loader: DataLoader, *, epoch: int, skipped: int = 0) -> list[list[int]]:
        begin_epoch(loader, epoch, seed=5)
        if skipped:
            loader = skip_first_batches(loader, skipped)
        loader.set_epoch(epoch)
        return list(loader)

    unbroken = [loader(process) for process in range(2)]
    for own in unbroken:
        first = read(own, epoch=0)
    dealt = [read(own, epoch=1) for own in unbroken]
    together = [row for pair in zip(*dealt, strict=True) for batch in pair for row in batch]
    assert sorted(together) == sorted(rows * (2 if kind == "repeated" else 1))
    assert dealt[1] != first
    for process in range(2):
        assert read(loader(process), epoch=1, skipped=2) == dealt[process][2:]


def seen(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Tokens that are trained in each example of each batch, as they come to the model."""
    batches: list[list[int]] = []
    before = PackedSFTTrainer.training_step

    def step(self, model, inputs, *rest):
        batches.append((inputs["labels"][:, 1:] != IGNORED).sum(dim=1).tolist())
        return before(self, model, inputs, *rest)

    monkeypatch.setattr(PackedSFTTrainer, "training_step", step)
    return batches


def test_the_model_sees_rows_by_the_length_of_what_is_trained_or_by_a_column(start, tmp_path, monkeypatch):
    made = toy.rows(24)
    for n, row in enumerate(made):
        row["effort"] = (n * 7) % 24
        row["messages"][0]["content"] += " please" * ((n * 5) % 11)  # questions aren't what is trained
    rows = toy.write_rows(tmp_path / "rows.jsonl", made)
    batches = seen(monkeypatch)
    recipe = toy.recipe(
        start, rows, tmp_path / "length", dataset={"curriculum": {"difficulty": "length"}, "held_out": {"rows": 4}},
        assistant_only_loss=True, num_train_epochs=2, max_steps=-1, per_device_train_batch_size=5,
    )  # fmt: skip
    facts = toy.run("sft", recipe)
    lengths = [length for batch in batches for length in batch]
    assert len(lengths) == 40
    for epoch in (lengths[:20], lengths[20:]):
        assert epoch == sorted(epoch)
    assert facts["difficulty"] == {"lowest": min(lengths), "median": np.median(lengths), "highest": max(lengths)}
    batches.clear()
    # The hardest effort is the lowest, so the rows come by falling effort; held-out rows have no such column.
    others = toy.write_rows(tmp_path / "others.jsonl", toy.rows(3))
    by_effort = {"difficulty": "effort", "hardest": "lowest"}
    dataset = {"curriculum": by_effort, "evaluate_on": {"others": {"name": str(others)}}}
    toy.run("sft", toy.recipe(start, rows, tmp_path / "effort", dataset=dataset, max_steps=6, assistant_only_loss=True))
    answers = [row["messages"][1]["content"] for row in sorted(made, key=lambda row: -row["effort"])]
    encode = toy.tokenizer().encode
    assert [length for batch in batches for length in batch] == [len(encode(answer)) + 1 for answer in answers]


@pytest.mark.parametrize(
    "settings", [{}, {"packing": True, "max_length": 64}, {"train_sampling_strategy": "group_by_length"}]
)
def test_a_run_that_goes_on_in_its_second_epoch_ends_as_the_unbroken_one(settings, start, tmp_path, monkeypatch):
    rows = toy.write_rows(tmp_path / "rows.jsonl", toy.rows(40))
    ordered = {} if "train_sampling_strategy" in settings else {"curriculum": {"mix": 0.25}}
    recipe = toy.recipe(
        start, rows, tmp_path / "run", dataset=ordered, num_train_epochs=2, max_steps=-1, save_strategy="steps",
        save_steps=1, gradient_accumulation_steps=2, **settings,
    )  # fmt: skip
    batches = seen(monkeypatch)
    steps = toy.run("sft", recipe)["steps"]
    unbroken, seen_whole = weights(tmp_path / "run"), list(batches)
    assert seen_whole[: len(seen_whole) // 2] != seen_whole[len(seen_whole) // 2 :]
    there = sorted(int(folder.name.split("-")[1]) for folder in (tmp_path / "run").glob("checkpoint-*"))
    kept = next(step for step in there if step > steps // 2)  # in the middle of the second epoch
    assert kept < steps
    for step in there:
        if step > kept:
            shutil.rmtree(tmp_path / "run" / f"checkpoint-{step}")
    shutil.rmtree(tmp_path / "run" / "model")
    batches.clear()
    assert toy.run("sft", recipe)["steps"] == steps
    assert batches == seen_whole[len(seen_whole) - len(batches) :]
    assert 0 < len(batches) < len(seen_whole) // 2
    assert same(weights(tmp_path / "run"), unbroken)


IN_EACH_PROCESS = """
import json
import logging
import shutil
import sys

from pipeline.config import parse_config
from pipeline.run import is_main_process, open_run
from post_training import sft
from post_training.checkpoint import barrier
from post_training.recipes.stages import SFTStage

logging.basicConfig(level="INFO")
config = parse_config(SFTStage, json.loads(sys.argv[1]))
for start in ("whole", "again"):
    with open_run(config, stage="sft", output_dir=config.output_dir, seed=config.seed) as opened:
        sft.main(config, opened)
    barrier()
    if is_main_process():
        (config.output_dir / "model").rename(config.output_dir / start)
        for step in (5, 6):
            shutil.rmtree(config.output_dir / f"checkpoint-{step}")
    barrier()
"""
"""What the processes of a run do: train to the end, then again from the fourth of six steps."""


@pytest.mark.slow
def test_two_processes_train_what_one_does_and_go_on_in_the_second_epoch(start, tmp_path):
    """24 rows are three steps an epoch: of eight in one process, of two times four in two."""
    rows = toy.write_rows(tmp_path / "rows.jsonl", toy.rows(24))
    settings = {"num_train_epochs": 2, "max_steps": -1, "save_strategy": "steps", "save_steps": 1}
    dataset = {"curriculum": {"mix": 0.25}}
    two = toy.recipe(start, rows, tmp_path / "two", dataset=dataset, **settings)
    one = toy.recipe(start, rows, tmp_path / "one", dataset=dataset, per_device_train_batch_size=8, **settings)
    (tmp_path / "each.py").write_text(IN_EACH_PROCESS)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port"]
    command = [*launcher, str(29900 + os.getpid() % 99), str(tmp_path / "each.py"), json.dumps(two)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    whole, again = (load_file(tmp_path / "two" / name / "model.safetensors") for name in ("whole", "again"))
    assert "continuing from" in done.stderr
    assert same(whole, again)
    toy.run("sft", one)
    for name, weight in weights(tmp_path / "one").items():
        torch.testing.assert_close(weight, whole[name], atol=1e-3, rtol=1e-3, msg=name)


def test_packed_rows_are_neighbours(start, tmp_path, monkeypatch):
    """Of short rows more fit into a packed one: the batches hold fewer and fewer documents."""
    batches = []
    before = PackedSFTTrainer.training_step

    def step(self, model, inputs, *rest):
        batches.append(int((inputs["position_ids"] == 0).sum()))
        return before(self, model, inputs, *rest)

    monkeypatch.setattr(PackedSFTTrainer, "training_step", step)
    rows = toy.write_rows(tmp_path / "rows.jsonl", toy.rows(300))
    dataset = {"curriculum": {"difficulty": "length"}}
    recipe = toy.recipe(start, rows, tmp_path / "run", dataset=dataset, packing=True, max_length=64, max_steps=-1)
    recipe["trainer"] |= {"num_train_epochs": 1, "per_device_train_batch_size": 16}
    toy.run("sft", recipe)
    assert sum(batches) == 300
    assert all(a >= b - 2 for a, b in pairwise(batches)), (
        batches
    )  # where a bundle of neighbours ends, rows are less full
    assert batches[0] > 1.5 * batches[-2]


@pytest.mark.parametrize(
    ("dataset", "trainer", "said"),
    [
        ({}, {"train_sampling_strategy": "group_by_length"}, "trainer.train_sampling_strategy: the curriculum decides"),
        ({}, {"shuffle_dataset": True}, "trainer.shuffle_dataset: the curriculum would undo it"),
        ({}, {"ignore_data_skip": True}, "trainer.ignore_data_skip: a run that goes on"),
        ({}, {"dataloader_in_order": False}, "trainer.dataloader_in_order: batches"),
        ({"epochs": 3}, {"num_train_epochs": 3}, "dataset.curriculum.epochs: of 3 epochs"),
        ({"mix": 1.0}, {}, "dataset.curriculum.mix"),
        ({"epochs": 0}, {}, "dataset.curriculum.epochs"),
        ({"hardest": "first"}, {}, "highest"),
        ({"dificulty": "length"}, {}, "did you mean difficulty"),
    ],
)
def test_what_a_curriculum_can_not_be_had_with_is_refused_by_name(dataset, trainer, said, tmp_path):
    recipe = toy.recipe(tmp_path, tmp_path, tmp_path / "run", dataset={"curriculum": dataset})
    recipe["trainer"] = trainer
    with pytest.raises(InputError, match=said):
        parse_config(SFTStage, recipe)
    if trainer and not dataset:
        recipe["dataset"].pop("curriculum")
        assert parse_config(SFTStage, recipe).trainer == trainer


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("efort", [1, 2, 3], "has no column efort; did you mean effort"),
        ("effort", ["a", "b", "c"], "the column effort of .* holds string, not numbers"),
        ("effort", [1, None, 3], r"rows.jsonl:2: its difficulty is None"),
        ("messages", [1, 2, 3], "the column messages of .* holds lists, not numbers"),
    ],
)
def test_a_column_that_orders_nothing_is_refused(column, values, said, start, tmp_path):
    made = [{**row, "effort": value} for row, value in zip(toy.rows(3), values, strict=True)]
    rows = toy.write_rows(tmp_path / "rows.jsonl", made)
    recipe = toy.recipe(start, rows, tmp_path / "run", dataset={"curriculum": {"difficulty": column}})
    with pytest.raises(InputError, match=said):
        toy.run("sft", recipe)
    if None in values:
        recipe["dataset"]["bad_rows"] = "drop"
        recipe["trainer"]["max_steps"] = 1
        assert toy.run("sft", recipe)["dropped_bad"] == 1


def test_other_difficulties_are_other_data(start, tmp_path):
    def recipe(*efforts: int) -> dict:
        made = [{**row, "effort": effort} for row, effort in zip(toy.rows(4), efforts, strict=True)]
        rows = toy.write_rows(tmp_path / "rows.jsonl", made)
        dataset = {"curriculum": {"difficulty": "effort"}}
        return toy.recipe(start, rows, tmp_path / "run", dataset=dataset, save_strategy="steps", save_steps=1)

    toy.run("sft", recipe(1, 2, 3, 4))
    with pytest.raises(InputError, match="trained on other data"):
        toy.run("sft", recipe(4, 2, 3, 1))
    changed = recipe(1, 2, 3, 4)
    changed["dataset"]["curriculum"]["mix"] = 0.5
    with pytest.raises(InputError, match=r"other settings \(dataset.curriculum.mix\)"):
        toy.run("sft", changed)


@pytest.mark.parametrize(("steps", "warned"), [(2, True), (3, False)])
def test_a_curriculum_that_ends_before_the_hardest_rows_is_warned_of(steps, warned, start, tmp_path, caplog):
    rows = toy.write_rows(tmp_path / "rows.jsonl", toy.rows(12))
    toy.run("sft", toy.recipe(start, rows, tmp_path / "run", dataset={"curriculum": {}}, max_steps=steps))
    assert ("trainer.max_steps ends after 8 of 12 examples" in caplog.text) == warned


def test_the_ordered_recipe_differs_from_the_quickstarts_in_its_order_alone():
    plain, ordered = (load_yaml(CONFIG / f"stage_2{end}.yaml") for end in ("", "_ordered"))
    assert ordered["dataset"].pop("curriculum") == {"difficulty": "length", "mix": 0.2}
    for recipe in (plain, ordered):
        for own in ("name", "description", "output_dir"):
            recipe.pop(own)
    assert ordered == plain
