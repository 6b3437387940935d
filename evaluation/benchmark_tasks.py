"""lm_eval's tasks on some of their items, and how the answers that a model writes end."""

import logging
import random
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import Any

import torch
from lm_eval.evaluator import simple_evaluate
from lm_eval.loggers import EvaluationTracker
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from evaluation.benchmark_config import BenchmarkConfig, BenchmarksConfig
from pipeline.artifact import atomic_dir, contents_digest, read_manifest
from pipeline.config import nearest
from pipeline.device import best_device, has_bf16
from pipeline.errors import InputError
from pipeline.run import Run
from post_training.policy import resolve_model

logger = logging.getLogger(__name__)
TASKS = Path(__file__).parent / "tasks"
OPEN, CLOSE = "<think>", "</think>"


class CountingLM(HFLM):
    """lm_eval's model, which also counts how written answers end and how long their thoughts are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.forget()

    def forget(self) -> None:
        """Count from nothing."""
        self.answers: list[dict[str, int]] = []

    def _model_generate(self, context: Any, max_length: int, stop: list[str], **generation_kwargs: Any) -> torch.Tensor:
        written = super()._model_generate(context, max_length, stop, **generation_kwargs)
        new = written[:, context.shape[1] :].tolist()
        self.answers += [counted(self.tokenizer, ids, self.eot_token_id) for ids in new]
        return written


def counted(tokenizer: Any, ids: list[int], eos: int) -> dict[str, int]:
    """Of one answer's tokens: whether it ended by EOS, opened a thought, closed it; how many tokens the thought has."""
    text = tokenizer.decode(ids[: ids.index(eos)] if eos in ids else ids)
    before, closed, _ = text.partition(CLOSE)
    _, opened, thought = before.partition(OPEN)
    tokens = len(tokenizer(thought, add_special_tokens=False)["input_ids"])
    return {"ended": eos in ids, "thinks": bool(opened), "closed": bool(opened and closed), "tokens": tokens}


def summary(answers: list[dict[str, int]]) -> dict[str, float]:
    """Shares of answers that ended by EOS, opened a thought, closed it; mean tokens of the thoughts; how many."""
    n, thoughts = len(answers), [answer["tokens"] for answer in answers if answer["thinks"]]
    shares = {key: sum(answer[key] for answer in answers) / n for key in ("ended", "thinks", "closed")}
    return {**shares, "thought_tokens": sum(thoughts) / len(thoughts) if thoughts else 0.0, "n": n}


def chosen(sizes: dict[str, int], items: int, seed: int) -> dict[str, list[int]]:
    """Which items of each task, in their order. sizes: how many items the task, or each member of a group, has."""
    each = ceil(items / len(sizes))
    return {
        name: sorted(random.Random(f"{seed} {name}").sample(range(size), min(each, size)))
        for name, size in sorted(sizes.items())
    }


def ask(
    lm: CountingLM, name: str, task: BenchmarkConfig, config: BenchmarksConfig, folder: Path, manager: TaskManager
) -> None:
    """Evaluate one task and leave lm_eval's files in the folder, its results with the key `answers`."""
    members = manager.load([name])["tasks"]
    samples = chosen({key: len(member.eval_docs) for key, member in members.items()}, task.items, config.seed)
    lm.forget()
    lm.batch_size_per_gpu = task.batch_size or config.batch_size
    tracker = EvaluationTracker(output_path=str(folder))
    seed = config.seed
    limits = {"max_gen_toks": task.max_new_tokens} if task.max_new_tokens is not None else None
    results: Any = simple_evaluate(
        lm, model_args=f"pretrained={config.model}", tasks=[name], samples=samples, num_fewshot=task.num_fewshot,
        gen_kwargs=limits, task_manager=manager, apply_chat_template=True, fewshot_as_multiturn=True,
        evaluation_tracker=tracker, random_seed=seed, numpy_random_seed=seed, torch_random_seed=seed,
        fewshot_random_seed=seed,
    )  # fmt: skip
    rows = results.pop("samples")
    results["answers"] = {name: summary(lm.answers)} if lm.answers else {}
    tracker.save_results_aggregated(results=results, samples=rows)
    for member, written in rows.items():
        tracker.save_results_samples(task_name=member, samples=written)
    if not list(folder.rglob("results_*.json")):
        raise OSError(f"{folder}: lm_eval has written no results")


def ask_all(config: BenchmarksConfig, run: Run) -> None:
    """Load the model once, ask every task that isn't done."""
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    for name in config.tasks:
        if name not in manager.all_tasks:
            raise InputError(f"tasks.{name}: evaluation/tasks has none{nearest(name, manager.all_tasks)}")
    path = resolve_model(config.model)
    device, dtype = best_device(), config.dtype
    if dtype == "bfloat16" and not has_bf16(device):
        logger.warning("dtype: this %s has no bf16 instructions, so the model is asked in float32", device.type)
        dtype = "float32"
    # A stage that was trained anew leaves its model under the same name.
    same = {"kind": "benchmark", "model": path, "seed": config.seed, "dtype": dtype}
    same |= {"weights": contents_digest(Path(path), "*.safetensors")} if Path(path).is_dir() else {}
    lm = None
    for name, task in config.tasks.items():
        folder = run.dir / name
        asked = {**same, **asdict(task)}
        asked.pop("batch_size")  # how many are asked at once isn't what is asked
        done = read_manifest(folder) or {}
        if all(done.get(key) == value for key, value in asked.items()):
            continue
        if lm is None:
            lm = CountingLM(pretrained=path, dtype=dtype, device=str(device), batch_size=config.batch_size)
            tokenizer: Any = lm.tokenizer
            lm.think_end_token = CLOSE if CLOSE in tokenizer.get_vocab() else None
        with atomic_dir(folder, asked) as partial:
            ask(lm, name, task, config, partial, manager)
    run.report(tasks=len(config.tasks))
