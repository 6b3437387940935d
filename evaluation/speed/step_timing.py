"""How long a step of memory-aware training takes (evaluation/speed/memory_training.py)."""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from evaluation.speed.random_models import llama_model, reactive_model
from mrl.dialogues.collation import Episodes
from mrl.losses.answer_lm import MemoryAwareConfig, memory_aware_counts, memory_aware_loss
from mrl.training.optimizer import Optimizer, OptimizerConfig
from pipeline.run import peak_memory_mb


def reactive(arguments: argparse.Namespace) -> tuple[Callable[[], float], int]:
    """A training step of the reactive model, and its parameters."""
    model = reactive_model(arguments, arguments.tokens)
    shape = (arguments.batch, arguments.turns, arguments.tokens)
    ids = torch.randint(8, arguments.vocab, shape)
    batch = Episodes(
        ids=ids,
        mask=torch.ones_like(ids),
        labels=ids,
        facts=torch.zeros(shape, dtype=torch.bool),
        thoughts=torch.zeros(shape, dtype=torch.bool),
        distance=torch.ones(shape[:2], dtype=torch.long),
        asks=torch.ones(shape[:2], dtype=torch.bool),
        seeds=torch.arange(arguments.batch),
        group=torch.zeros(arguments.batch, dtype=torch.long),
    )
    config = MemoryAwareConfig()
    counts = memory_aware_counts(batch, config)
    optimizer = Optimizer(model, OptimizerConfig())

    def step() -> float:
        optimizer.prepare(100, 0.0, 1000)
        loss = memory_aware_loss(model, batch, counts, config).loss
        loss.backward()
        optimizer.clip()
        optimizer.step()
        return float(loss.detach())

    return step, sum(p.numel() for p in model.parameters())


def plain(arguments: argparse.Namespace, whole: bool) -> tuple[Callable[[], float], int]:
    """A training step of a Llama on whole episodes or on single turns, and its parameters."""
    model = llama_model(arguments, arguments.turns * arguments.tokens)
    ids = torch.randint(8, arguments.vocab, (arguments.batch, arguments.turns * arguments.tokens))
    if not whole:
        ids = ids.view(-1, arguments.tokens)
    adam = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step() -> float:
        adam.zero_grad()
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        return float(loss.detach())

    return step, sum(p.numel() for p in model.parameters())


def measure(arguments: argparse.Namespace) -> None:
    """Measure the three in turns, so that drift hits all."""
    steps = {
        "": reactive(arguments),
        "plain_": plain(arguments, whole=True),
        "stateless_": plain(arguments, whole=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(arguments.repeats + 1):
        for name, (step, _) in steps.items():
            started = time.perf_counter()
            step()
            if repeat:
                seconds[name].append(time.perf_counter() - started)
    tokens = arguments.batch * arguments.turns * arguments.tokens
    figures: dict[str, float] = {}
    for name, (_, parameters) in steps.items():
        figures[f"{name}tokens_per_s"] = round(tokens / statistics.median(seconds[name]), 1)
        figures[f"{name}tokens_per_s_slowest"] = round(tokens / max(seconds[name]), 1)
        figures[f"{name}parameters"] = parameters
    threads = torch.get_num_threads()
    print(json.dumps({**figures, "peak_mb": round(peak_memory_mb(), 1), "threads": threads, **vars(arguments)}))
