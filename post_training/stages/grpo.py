"""Reinforcement learning with verifiable rewards: what post_training/grpo.py does."""

from importlib.util import find_spec
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from pipeline.errors import InputError
from pipeline.run import Run
from post_training.accuracy import compared, rights
from post_training.arguments import settle_process, training_arguments
from post_training.checkpoint import resume_point
from post_training.dataset import load_splits
from post_training.policy import Policy, load_policy
from post_training.prompts import encode_prompts
from post_training.recipe import build_trainer, report_inputs
from post_training.recipes.stages import GRPOStage
from post_training.results import finish, train
from post_training.rewards import reward_functions
from post_training.stage_trainer import StageTrainer


class RewardedTrainer(StageTrainer, GRPOTrainer):
    """GRPOTrainer whose checkpoints are sealed."""

    @property
    def tokens_seen(self) -> int:
        """Tokens of prompts and completions so far, over all starts of this run; the Trainer's state keeps them."""
        return int(self.state.num_input_tokens_seen)

    @tokens_seen.setter
    def tokens_seen(self, tokens: int) -> None:
        """Nothing: the state of the checkpoint brings it."""


def settled(section: dict[str, Any]) -> dict[str, Any]:
    """The trainer section with vLLM where it is installed and a GPU is there. Raises InputError for what can't be
    resumed, or isn't here."""
    accumulation = section.get("gradient_accumulation_steps", 1)
    if section.get("num_iterations", 1) != 1 or section.get("steps_per_generation") not in (None, accumulation):
        raise InputError(
            "trainer.num_iterations and trainer.steps_per_generation: answers are used for one step, since a run that "
            "stops between two steps of the same answers couldn't go on as it was; take them out"
        )
    there = find_spec("vllm") is not None and torch.cuda.is_available()
    if section.get("use_vllm") and not there:
        raise InputError("trainer.use_vllm: needs the package vllm and a GPU; take it out, transformers then generates")
    return {"use_vllm": there, **section}


def measure(
    stage: GRPOStage, policy: Policy, trainer: RewardedTrainer, held_out: dict[str, Dataset], tokens: int
) -> dict[str, list]:
    """The greedy answers' rewards for each held-out set, in the precision that training leaves the model in."""
    with trainer.accelerator.autocast():
        return {
            name: rights(trainer.trained, policy.tokenizer, rows, stage.measured, max_new_tokens=tokens)
            for name, rows in held_out.items()
        }


def run_stage(stage: GRPOStage, run: Run) -> None:
    """Load, measure, train, measure again, save."""
    settle_process()
    args = training_arguments(GRPOConfig, settled(stage.trainer), run, evaluates=False)
    args.reward_weights = [reward.weight for reward in stage.rewards]
    policy = load_policy(stage.model, stage.chat_template, stage.peft)
    examples, held_out = encode_prompts(load_splits(stage.dataset, seed=stage.seed), stage.dataset, policy.tokenizer)
    report_inputs(run, examples, policy.model)
    first = examples.train[0]
    asked = policy.tokenizer.apply_chat_template(first["prompt"], add_generation_prompt=True, tokenize=False)
    run.preview(f"{asked}\nright: {first['reference']}")
    resume = resume_point(run)
    trainer = build_trainer(
        RewardedTrainer, run, stage, policy, args, examples, reward_funcs=reward_functions(stage.rewards)
    )
    tokens = int(args.max_completion_length or 256)
    before = measure(stage, policy, trainer, held_out, tokens)
    train(trainer, run, resume)
    after = measure(stage, policy, trainer, held_out, tokens)
    for name in held_out:
        run.report(**{"answers" if name == "held_out" else f"answers_{name}": compared(before[name], after[name])})
    finish(trainer, run, examples, stage.peft)
