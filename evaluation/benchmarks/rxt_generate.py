"""Generated tokens per second of the reactive model, beside a plain decoder of the same size without memory.

    uv run evaluation/benchmarks/rxt_generate.py [--batch 16 --tokens 64 --width 128 --layers 4 --slots 32]

prints one JSON line. The weights are random (speed doesn't depend on them), no end token is set, so every row
generates exactly `--tokens` tokens after a prompt of `--prompt` tokens; tokens_per_s counts the whole call, prompt
included. Vocabulary 2,000: the size behind the figures this benchmark is compared with (their shared embedding has
0.26M parameters at width 128). Each figure is the median over `--repeats` calls after one warm-up call.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from mrl.model import ReactiveConfig, ReactiveForCausalLM, Sampling


def median_seconds(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and spread (largest - smallest) of `repeats` timed calls, after one that isn't counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:]), max(times[1:]) - min(times[1:])


def build(arguments: argparse.Namespace, slots: int) -> ReactiveForCausalLM:
    """A random model; slots = 0 leaves out encoder, memory attention and memory cross-attention."""
    torch.manual_seed(0)
    config = ReactiveConfig(
        vocab_size=arguments.vocab,
        hidden_size=arguments.width,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.heads,
        num_key_value_heads=arguments.kv_heads,
        intermediate_size=3 * arguments.width,
        memory_slots=slots,
        max_interaction_length=max(256, arguments.prompt + arguments.tokens),
    )
    return ReactiveForCausalLM(config).eval()


def measure(arguments: argparse.Namespace, slots: int) -> dict[str, float]:
    """Speed, first token and (with memory) the write of one interaction; times in ms, at the given batch."""
    model = build(arguments, slots)
    prompt = torch.randint(8, arguments.vocab, (arguments.batch, arguments.prompt))
    whole = torch.randint(8, arguments.vocab, (arguments.batch, arguments.prompt + arguments.tokens))
    state = model.initial_state(seeds=range(arguments.batch)) if slots else None
    sampling = Sampling(temperature=arguments.temperature)

    def answer(rows: int, tokens: int) -> None:
        part = None if state is None else state[:, :rows]
        model.generate_answers(
            prompt[:rows], None, part, max_new_tokens=tokens, forced=None, stop=(), sampling=sampling
        )

    def remember(rows: int) -> None:
        with torch.inference_mode():
            model.write(state[:, :rows], whole[:rows])

    seconds, spread = median_seconds(lambda: answer(arguments.batch, arguments.tokens), arguments.repeats)
    generated = arguments.batch * arguments.tokens
    numbers = {
        "tokens_per_s": generated / seconds,
        "tokens_per_s_slowest": generated / (seconds + spread),
        "first_token_ms": 1e3 * median_seconds(lambda: answer(1, 1), arguments.repeats)[0],
        "single_tokens_per_s": arguments.tokens / median_seconds(lambda: answer(1, arguments.tokens), 3)[0],
        "decoder_parameters": sum(p.numel() for p in model.model.decoder.parameters()) + model.lm_head.weight.numel(),
    }
    if slots:
        numbers["memory_update_ms"] = 1e3 * median_seconds(lambda: remember(1), arguments.repeats)[0]
        numbers["memory_update_batch_ms"] = (
            1e3 * median_seconds(lambda: remember(arguments.batch), arguments.repeats)[0]
        )
    numbers["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {key: round(value, 2) for key, value in numbers.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"batch": 16, "tokens": 64, "width": 128, "layers": 4, "slots": 32, "prompt": 32, "vocab": 2000}
    for name, value in {**sizes, "heads": 4, "kv-heads": 4, "repeats": 9, "threads": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--temperature", type=float, default=1.0, help="0 is greedy")
    parser.add_argument("--plain-only", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.plain_only:
        print(json.dumps(measure(arguments, 0)))
        return
    report = measure(arguments, arguments.slots)
    # Peak memory belongs to a process, so the plain decoder is measured in one of its own.
    plain = subprocess.run([sys.executable, *sys.argv, "--plain-only"], check=True, capture_output=True, text=True)
    report |= {f"plain_{key}": value for key, value in json.loads(plain.stdout).items()}
    print(json.dumps(report | {"threads": torch.get_num_threads(), "settings": vars(arguments)}))


if __name__ == "__main__":
    main()
