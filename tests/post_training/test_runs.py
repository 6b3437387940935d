"""Whole runs of sft and dpo in this process: what a start, a stop, a resume and damage lead to."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback
from transformers.models.llama.modeling_llama import LlamaMLP

from pipeline.errors import InputError
from post_training import preferences, stage_trainer
from tests.post_training import toy


@pytest.fixture(scope="module")
def chats(tmp_path_factory) -> Path:
    return toy.write_rows(tmp_path_factory.mktemp("rows") / "chat.jsonl", toy.rows(40))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    return toy.write_rows(tmp_path_factory.mktemp("rows") / "pairs.jsonl", toy.pairs(24))


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model" / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def steps_logged(output: Path) -> list[int]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if "loss" in line]


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_a_finished_run_is_known_as_finished_whatever_is_lost_after_its_last_checkpoint(
    stage, start, chats, pairs, tmp_path
):
    """max_steps ends inside an epoch; tokens are counted over all starts."""
    recipe = toy.recipe(
        start, chats if stage == "sft" else pairs, tmp_path, save_strategy="steps", save_steps=2, max_steps=5
    )
    first = toy.run(stage, recipe)
    before, lines = weights(tmp_path), (tmp_path / "metrics.jsonl").read_text()
    shutil.rmtree(tmp_path / "model")  # a kill between the last checkpoint and the model
    for _ in range(2):
        again = toy.run(stage, recipe)
        assert same(weights(tmp_path), before)
        for fact in ("steps", "tokens", "final_loss", "rows", "trained_tokens"):
            assert again[fact] == first[fact] is not None, fact
        # Rounded, summed and rounded again: a hundredth of a second is no difference.
        assert again["train_s"] == pytest.approx(first["train_s"], abs=0.02)
    assert (tmp_path / "metrics.jsonl").read_text() == lines
    assert steps_logged(tmp_path) == [1, 2, 3, 4, 5]
    assert not list(tmp_path.rglob("training_args.bin"))
    shutil.rmtree(tmp_path / "checkpoint-5")  # from the middle: the rest is trained again, to the same end
    again = toy.run(stage, recipe)
    assert same(weights(tmp_path), before)
    assert (again["tokens"], again["steps"]) == (first["tokens"], 5)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert max(line.get("num_tokens", 0) for line in lines) == first["tokens"]
    assert (tmp_path / "preview.txt").read_text().count("<|im_start|>user") == (1 if stage == "sft" else 2)


def test_other_data_another_template_or_another_start_is_not_continued(start, tmp_path):
    rows = toy.write_rows(tmp_path / "rows.jsonl", toy.rows(12))
    template = tmp_path / "chat.jinja"
    template.write_text(toy.CHATML)
    model = shutil.copytree(start, tmp_path / "start")
    recipe = toy.recipe(model, rows, tmp_path / "out", save_strategy="steps", save_steps=1)
    recipe["chat_template"] = str(template)
    toy.run("sft", recipe)
    toy.write_rows(rows, toy.rows(12, seed=5))
    with pytest.raises(InputError, match="trained on other data"):
        toy.run("sft", recipe)
    toy.write_rows(rows, toy.rows(12))
    template.write_text(toy.CHATML.replace("im_start|>{{", "im_start|> {{"))
    with pytest.raises(InputError, match="template"):
        toy.run("sft", recipe)
    template.write_text(toy.CHATML)
    assert toy.run("sft", recipe)["steps"] == 2
    toy.save(tmp_path / "start", seed=9)  # the folder that the recipe names holds other weights now
    with pytest.raises(InputError, match="other weights"):
        toy.run("sft", recipe)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt"])
def test_a_flipped_bit_in_a_checkpoint_is_noticed_and_an_older_one_continued(file, start, chats, tmp_path, caplog):
    recipe = toy.recipe(start, chats, tmp_path, save_strategy="steps", save_steps=1, max_steps=3)
    toy.run("sft", recipe)
    before = weights(tmp_path)
    damaged = tmp_path / "checkpoint-3" / file
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    caplog.set_level("INFO")
    toy.run("sft", recipe)
    assert "passing over checkpoint-3" in caplog.text
    assert f"continuing from {tmp_path / 'checkpoint-2'}" in caplog.text
    assert same(weights(tmp_path), before)


def test_a_signal_saves_and_the_run_goes_on_as_if_nothing_had_been(start, chats, tmp_path, monkeypatch):
    whole = toy.recipe(start, chats, tmp_path / "whole", max_steps=6)
    toy.run("sft", whole)

    class Terminate(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            if state.global_step == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    recipe = toy.recipe(start, chats, tmp_path / "stopped", max_steps=6)
    with monkeypatch.context() as patch:
        patch.setattr("post_training.recipe.stopping", lambda _: [Terminate()])
        with pytest.raises(KeyboardInterrupt):
            toy.run("sft", recipe)
    assert json.loads((tmp_path / "stopped" / "metrics.json").read_text())["status"] == "interrupted"
    assert (tmp_path / "stopped" / "checkpoint-3" / "manifest.json").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert toy.run("sft", recipe)["steps"] == 6
    assert same(weights(tmp_path / "stopped"), weights(tmp_path / "whole"))


class Poison(TrainerCallback):
    """Makes a weight NaN before the third step, or after the last one."""

    def __init__(self, *, last: bool) -> None:
        self.last = last

    def poison(self, model) -> None:
        with torch.no_grad():
            next(model.parameters()).view(-1)[7] = float("nan")

    def on_step_begin(self, args, state, control, model=None, **_):
        if state.global_step == 2 and not self.last:
            self.poison(model)

    def on_train_end(self, args, state, control, model=None, **_):
        if self.last:
            self.poison(model)


@pytest.mark.parametrize(("last", "save"), [(False, "no"), (False, "steps"), (True, "no")])
@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_numbers_that_are_not_finite_never_end_as_complete(
    stage, last, save, start, chats, pairs, tmp_path, monkeypatch
):
    data = chats if stage == "sft" else pairs
    monkeypatch.setattr("post_training.recipe.stopping", lambda _: [Poison(last=last)])
    recipe = toy.recipe(start, data, tmp_path, max_steps=4, save_strategy=save, save_steps=1, logging_steps=100)
    with pytest.raises(InputError, match=r"loss is|aren't finite"):
        toy.run(stage, recipe)
    assert json.loads((tmp_path / "metrics.json").read_text())["status"] != "complete"
    assert not (tmp_path / "model").exists()
    if save == "steps":
        assert {folder.name for folder in tmp_path.glob("checkpoint-*")} == {"checkpoint-1", "checkpoint-2"}


def test_a_start_that_is_damaged_is_refused(start, chats, tmp_path):
    broken = shutil.copytree(start, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    name = next(iter(tensors))
    save_file(
        {**tensors, name: torch.full_like(tensors[name], float("nan"))}, broken / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(InputError, match="aren't finite"):
        toy.run("sft", toy.recipe(broken, chats, tmp_path / "a"))
    save_file({k: v for k, v in tensors.items() if k != name}, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="lacks 2 weights"):
        toy.run("sft", toy.recipe(broken, chats, tmp_path / "b"))
    for file in ("model.safetensors", "tokenizer.json", "config.json"):
        cut = shutil.copytree(start, tmp_path / f"cut {file}")
        (cut / file).write_bytes((cut / file).read_bytes()[:100])
        with pytest.raises(InputError, match="can't be loaded"):
            toy.run("sft", toy.recipe(cut, chats, tmp_path / "c"))


def test_a_full_disk_is_named_in_a_line(start, chats, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise RuntimeError(
            "[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0: No space left on device"
        )

    monkeypatch.setattr(stage_trainer.Trainer, "_save_optimizer_and_scheduler", full)
    with pytest.raises(OSError, match="checkpoint-2") as raised:
        toy.run("sft", toy.recipe(start, chats, tmp_path, save_strategy="steps", save_steps=2))
    assert raised.value.filename.endswith("checkpoint-2")


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_an_adapter_is_trained_and_merged_or_kept_alone(stage, start, chats, pairs, tmp_path):
    data = chats if stage == "sft" else pairs
    recipe = toy.recipe(start, data, tmp_path / "merged", max_steps=3, save_strategy="steps", save_steps=2)
    recipe["peft"] = {"r": 4, "target_modules": ["q_proj", "v_proj"]}
    facts = toy.run(stage, recipe)
    assert 0 < facts["trained_parameters"] < facts["parameters"] / 5
    assert facts["laid_end_to_end"]
    merged, base = weights(tmp_path / "merged"), load_file(start / "model.safetensors")
    changed = {name for name in base if not torch.equal(base[name], merged[name])}
    assert changed == {name for name in base if "q_proj" in name or "v_proj" in name}
    # The adapter alone over its base gives the merged model, and a resume the same adapter.
    recipe = {**recipe, "output_dir": str(tmp_path / "alone"), "peft": {**recipe["peft"], "output": "adapter"}}
    toy.run(stage, recipe)
    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "alone" / "model")
    both = AutoModelForCausalLM.from_pretrained(tmp_path / "merged" / "model")
    ids = torch.randint(3, 300, (1, 12))
    torch.testing.assert_close(alone(ids).logits, both(ids).logits, atol=1e-4, rtol=1e-4)
    shutil.rmtree(tmp_path / "merged" / "checkpoint-3")
    toy.run(stage, {**recipe, "output_dir": str(tmp_path / "merged"), "peft": {**recipe["peft"], "output": "merged"}})
    assert same(weights(tmp_path / "merged"), merged)
    with pytest.raises(InputError, match="is an adapter"):
        toy.run(stage, toy.recipe(tmp_path / "alone", data, tmp_path / "next"))


def test_adapters_refuse_what_they_can_not_train(start, chats, tmp_path):
    recipe = toy.recipe(start, chats, tmp_path)
    with pytest.raises(InputError, match="q_proj"):
        toy.run("sft", {**recipe, "peft": {"target_modules": ["q_prj"]}})
    with pytest.raises(InputError, match="trains no embeddings"):
        toy.run("sft", {**recipe, "peft": {}, "model": {"name": str(start), "special_tokens": ["<think>"]}})


def test_early_stopping_keeps_the_best_weights_and_stays_stopped(start, chats, tmp_path):
    recipe = toy.recipe(
        start, chats, tmp_path, dataset={"held_out": {"rows": 8}}, max_steps=30, learning_rate=2.0, optim="sgd",
        eval_strategy="steps", eval_steps=1, save_total_limit=2,
    )  # fmt: skip
    recipe["trainer"].pop("save_strategy")
    recipe["early_stopping"] = {"patience": 2}
    facts = toy.run("sft", recipe)
    assert facts["steps"] < 30
    assert facts["evaluation"]["eval_loss"] == pytest.approx(facts["best_metric"], rel=1e-4)
    before = weights(tmp_path)
    again = toy.run("sft", recipe)
    assert (again["steps"], again["best_step"]) == (facts["steps"], facts["best_step"])
    assert same(weights(tmp_path), before)


def test_packing_trains_what_the_rows_hold_and_shows_it(start, chats, tmp_path):
    recipe = toy.recipe(start, chats, tmp_path, packing=True, max_length=64, assistant_only_loss=True)
    facts = toy.run("sft", recipe)
    assert facts["rows"] == facts["rows_read"] == 40
    assert facts["trained_answer_tokens"] == facts["trained_tokens"]
    assert (tmp_path / "preview.txt").read_text().count("<|im_start|>user") > 1  # the packed row, as it is trained


def test_a_reference_model_beside_the_policy_scores_as_the_one_computed_before(start, pairs, tmp_path):
    losses = []
    for name, precompute in (("before", True), ("beside", False)):
        recipe = toy.recipe(start, pairs, tmp_path / name, precompute_ref_log_probs=precompute, loss_type="apo_zero")
        recipe["model"]["special_tokens"] = ["<think>", "</think>"]  # the reference has them as well
        losses.append(toy.run("dpo", recipe)["last_losses"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_preferences_are_scored_in_the_same_precision_before_and_after(start, pairs, tmp_path, monkeypatch):
    found: list[torch.Tensor] = []

    def recorded(model, batch):
        scores = answer_scores(model, batch)
        found.append(scores[1])
        return scores

    answer_scores = preferences.answer_scores
    monkeypatch.setattr(preferences, "answer_scores", recorded)
    held_out = {"held_out": {"rows": 6}}
    toy.run("dpo", toy.recipe(start, pairs, tmp_path, dataset=held_out, max_steps=1, learning_rate=1e-30, bf16=True))
    before, after = torch.cat(found[: len(found) // 2]), torch.cat(found[len(found) // 2 :])
    assert len(before) == 12
    assert torch.equal(before, after)


def test_pairs_that_are_scored_and_never_trained_are_told(start, pairs, tmp_path, caplog):
    rows = toy.run("dpo", toy.recipe(start, pairs, tmp_path / "all", max_steps=1))["rows"]
    assert rows > 4
    assert f"of {rows} pairs, and trainer.max_steps reads 4 of them" in caplog.text
    caplog.clear()
    toy.run("dpo", toy.recipe(start, pairs, tmp_path / "four", dataset={"rows": 4}, max_steps=1))
    assert "of them" not in caplog.text


def test_a_batch_that_is_never_full_is_refused(start, chats, tmp_path):
    recipe = toy.recipe(start, chats, tmp_path, per_device_train_batch_size=64, dataloader_drop_last=True)
    with pytest.raises(InputError, match="40 examples fill no batch of 64"):
        toy.run("sft", recipe)


@pytest.mark.parametrize("stage", ["sft", "dpo"])
@pytest.mark.parametrize("optimizer", ["adamw_bnb_8bit", "lomo", "galore_adamw", "adamw_torch_xla"])
def test_an_optimizer_that_is_not_installed_is_refused_before_anything_is_measured(
    optimizer, stage, start, chats, pairs, tmp_path
):
    recipe = toy.recipe(start, chats if stage == "sft" else pairs, tmp_path, optim=optimizer)
    with pytest.raises(InputError, match=r"^trainer\.optim: .*(install|import|optim_target_modules)"):
        toy.run(stage, recipe)


def test_what_spares_memory_is_done(start, chats, pairs, tmp_path, monkeypatch):
    """Layers are computed twice under checkpointing; moments are as small as the optimizer promises; losses agree."""
    calls, optimizers = [], []
    forward, create = LlamaMLP.forward, Trainer.create_optimizer
    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: calls.append(1) or forward(self, x))
    monkeypatch.setattr(
        Trainer, "create_optimizer", lambda self, *rest: optimizers.append(create(self, *rest)) or optimizers[-1]
    )

    def figures(name: str, **trainer: object) -> tuple[int, float, list[float]]:
        """Layers computed, numbers that the optimizer keeps for each weight, and the losses."""
        calls.clear()
        facts = toy.run("sft", toy.recipe(start, chats, tmp_path / name, **trainer))
        moments = sum(
            x.numel() for state in optimizers[-1].state.values() for x in state.values() if torch.is_tensor(x)
        )
        return len(calls), moments / facts["parameters"], facts["last_losses"]

    layers, moments, losses = figures("plain")
    assert (layers, round(moments, 2)) == (2 * 2, 2.0)  # two layers, two steps
    twice, _, same_losses = figures("checkpointing", activation_checkpointing=True)
    assert twice == 2 * layers
    assert same_losses == pytest.approx(losses)
    singly, _, same_losses = figures("accumulation", per_device_train_batch_size=1, gradient_accumulation_steps=4)
    assert singly == 4 * layers
    assert same_losses == pytest.approx(losses, rel=1e-4)
    assert figures("adafactor", optim="adafactor")[1] < 0.1
    assert figures("sgd", optim="sgd")[1] == 0


def test_named_sets_are_evaluated_and_the_first_one_decides(start, chats, tmp_path):
    dataset = {"held_out": {"rows": 4}, "evaluate_on": {"more": {"name": str(chats), "rows": 6}}}
    recipe = toy.recipe(start, chats, tmp_path, dataset=dataset, eval_strategy="steps", eval_steps=1)
    recipe["trainer"].pop("save_strategy")
    recipe["early_stopping"] = {"patience": 5}
    facts = toy.run("sft", recipe)
    assert {"eval_held_out_loss", "eval_more_loss"} <= set(facts["evaluation"])
    assert facts["best_metric"] == pytest.approx(facts["evaluation"]["eval_held_out_loss"], rel=1e-4)
    assert facts["held_out_rows"]["more"]["rows"] == 6
    recipe["trainer"]["metric_for_best_model"] = "accuracy"
    with pytest.raises(InputError, match="held_out_loss"):
        toy.run("sft", {**recipe, "output_dir": str(tmp_path / "other")})


@pytest.mark.parametrize(
    ("stage", "trainer", "losses"),
    [
        ("sft", {"assistant_only_loss": True, "neftune_noise_alpha": 5.0}, [6.4860, 5.4401, 5.7315, 4.7991]),
        ("sft", {"packing": True, "max_length": 64}, [6.3564, 5.6871, 4.8972, 4.3928]),
        ("dpo", {"loss_type": ["apo_zero"]}, [1.0, 0.84970, 0.77521, 0.73724]),
    ],
)
def test_the_first_losses_stay_what_they_were(stage, trainer, losses, start, tmp_path):
    """Pinned on a CPU in fp32 at the commit before examples were rewritten, against a silent drift."""
    data = toy.write_rows(tmp_path / "rows.jsonl", toy.rows(64) if stage == "sft" else toy.pairs(48))
    settings = {"per_device_train_batch_size": 8, "max_steps": 6, **trainer}
    recipe = toy.recipe(start, data, tmp_path / "out", dataset={"held_out": {"rows": 8}}, **settings)
    recipe["model"]["special_tokens"] = ["<think>", "</think>"]
    toy.run(stage, recipe)
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines if "loss" in line][:4] == pytest.approx(losses, rel=1e-3)
