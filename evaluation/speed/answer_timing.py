"""How long answers take: of the reactive model, of plain decoders (evaluation/speed/generation.py)."""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaForCausalLM

from evaluation.speed.matmul_rate import matmul_rate
from evaluation.speed.random_models import llama_model, reactive_model
from mrl.model import MemoryState, ReactiveForCausalLM, Sampling
from pipeline.provenance import peak_memory_mb

TURNS = 64
Generate = Callable[[int, int], object]
"""Answer with (rows, tokens)."""


def seconds_each(repeats: int, *works: Callable[[], object]) -> list[list[float]]:
    """Seconds of `repeats` calls of each work, taken in turns after one uncounted call, so that drift hits all."""
    times: list[list[float]] = [[] for _ in works]
    for round_number in range(repeats + 1):
        for work, taken in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            if round_number:
                taken.append(time.perf_counter() - start)
    return times


def median_ms(repeats: int, work: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    return 1e3 * statistics.median(seconds_each(repeats, work)[0])


def random_ids(arguments: argparse.Namespace, length: int) -> torch.Tensor:
    """Ids without padding, [batch, length]."""
    return torch.randint(8, arguments.vocab, (arguments.batch, length), generator=torch.Generator().manual_seed(1))


def reactive(arguments: argparse.Namespace, slots: int) -> ReactiveForCausalLM:
    """A random model; slots = 0 leaves out encoder, memory attention and memory cross-attention."""
    longest = arguments.prompt + arguments.tokens
    room = max(256, longest if slots else TURNS * longest)
    return reactive_model(arguments, room, num_key_value_heads=arguments.kv_heads, memory_slots=slots).eval()


def llama(arguments: argparse.Namespace) -> LlamaForCausalLM:
    """The plain decoder with room for all turns."""
    longest = TURNS * (arguments.prompt + arguments.tokens) + 1
    return llama_model(arguments, longest, num_key_value_heads=arguments.kv_heads).eval()


def speeds(arguments: argparse.Namespace, answer: Generate) -> dict[str, float]:
    """Tokens per second of the batch and of one row."""
    taken = seconds_each(arguments.repeats, lambda: answer(arguments.batch, arguments.tokens))[0]
    generated = arguments.batch * arguments.tokens
    alone = median_ms(arguments.repeats, lambda: answer(1, arguments.tokens))
    return {
        "tokens_per_s": generated / statistics.median(taken),
        "tokens_per_s_slowest": generated / max(taken),
        "single_tokens_per_s": 1e3 * arguments.tokens / alone,
        "floor_share": floor_s(lambda: answer(arguments.batch, arguments.tokens)) / statistics.median(taken),
    }


def floor_s(work: Callable[[], object]) -> float:
    """Seconds that the matrix products of some work would take at the rate of long ones in fp32."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / matmul_rate(1024)


def turn_latencies(early_seconds: list[float], late_seconds: list[float]) -> dict[str, float]:
    """Median time to the first token at turn 1 and at turn 64, and their ratio."""
    early, late = (1e3 * statistics.median(taken) for taken in (early_seconds, late_seconds))
    return {"first_token_ms": early, "first_token_turn_64_ms": late, "latency_ratio_64_1": late / early}


def one_after_the_other(repeats: int, first: Callable[[], object], last: Callable[[], object]) -> dict[str, float]:
    """Latencies of a plain decoder: its long passes would empty the caches that the short ones find filled."""
    return turn_latencies(seconds_each(5 * repeats, first)[0], seconds_each(min(5, repeats), last)[0])


def measure_reactive(arguments: argparse.Namespace, slots: int) -> dict[str, float]:
    """Speed, first token and, with memory, the write of one interaction."""
    model = reactive(arguments, slots)
    prompt = random_ids(arguments, arguments.prompt)
    whole = random_ids(arguments, arguments.prompt + arguments.tokens)
    state = model.initial_state(seeds=range(arguments.batch)) if slots else None
    sampling = Sampling(temperature=arguments.temperature)

    def answer(rows: int, tokens: int, ids: torch.Tensor = prompt, memory: MemoryState | None = state) -> None:
        part = None if memory is None else memory.rows(slice(rows))
        model.generate_answers(
            ids[:rows], None, part, forced=None, stop=(), sampling=sampling, max_new_tokens=tokens
        )  # fmt: skip

    def remember(rows: int, memory: MemoryState) -> MemoryState:
        with torch.inference_mode():
            return model.write(memory.rows(slice(rows)), whole[:rows])

    numbers = speeds(arguments, answer)
    if state is not None:
        numbers["memory_update_ms"] = median_ms(arguments.repeats, lambda: remember(1, state))
        numbers["memory_update_batch_ms"] = median_ms(arguments.repeats, lambda: remember(arguments.batch, state))
        numbers["peak_mb"] = peak_memory_mb()
        late = state
        for _ in range(TURNS - 1):
            late = remember(arguments.batch, late)
        both = seconds_each(5 * arguments.repeats, lambda: answer(1, 1), lambda: answer(1, 1, prompt, late))
        numbers |= turn_latencies(*both)
    else:
        numbers["peak_mb"] = peak_memory_mb()
        history = torch.cat([whole.repeat(1, TURNS - 1), prompt], dim=1)
        numbers |= one_after_the_other(arguments.repeats, lambda: answer(1, 1), lambda: answer(1, 1, history))
    decoder = sum(p.numel() for p in model.model.decoder.parameters()) + model.lm_head.weight.numel()
    return numbers | {"decoder_parameters": decoder}


def measure_llama(arguments: argparse.Namespace) -> dict[str, float]:
    """The same of transformers' Llama through `generate()`, with its KV cache."""
    model, prompt = llama(arguments), random_ids(arguments, arguments.prompt)
    options: dict[str, Any] = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    if arguments.temperature > 0:
        options |= {"do_sample": True, "top_k": 0, "temperature": arguments.temperature}

    def answer(rows: int, tokens: int, ids: torch.Tensor = prompt) -> None:
        mask = torch.ones_like(ids[:rows])
        model.generate(  # ty: ignore[invalid-argument-type] - transformers types its own `self` as a protocol
            ids[:rows], attention_mask=mask, max_new_tokens=tokens, **options
        )  # fmt: skip

    numbers = speeds(arguments, answer) | {"peak_mb": peak_memory_mb()}
    history = random_ids(arguments, TURNS * (arguments.prompt + arguments.tokens) - arguments.tokens)
    numbers |= one_after_the_other(arguments.repeats, lambda: answer(1, 1), lambda: answer(1, 1, history))
    layers = sum(p.numel() for p in model.model.layers.parameters()) + model.lm_head.weight.numel()
    return numbers | {"decoder_parameters": layers}


def measure(arguments: argparse.Namespace) -> None:
    """Measure the three, each in a process of its own, and print one line."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.only:
        numbers = {"start_mb": peak_memory_mb()}
        if arguments.only == "plain":
            numbers |= measure_llama(arguments)
        else:
            numbers |= measure_reactive(arguments, arguments.slots if arguments.only == "reactive" else 0)
        print(json.dumps({key: round(value, 6) for key, value in numbers.items()}))
        return
    report: dict[str, object] = {}
    # Peak memory belongs to a process, so each of the three is measured in one of its own.
    for part, prefix in (("reactive", ""), ("plain", "plain_"), ("stateless", "stateless_")):
        done = subprocess.run([sys.executable, *sys.argv, "--only", part], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(done.returncode)
        report |= {prefix + key: value for key, value in json.loads(done.stdout).items()}
    print(json.dumps(report | {"threads": torch.get_num_threads(), "settings": vars(arguments)}))
