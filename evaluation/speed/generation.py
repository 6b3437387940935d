"""Generated tokens per second of the reactive model, beside plain decoders of the same width and depth.

    uv run evaluation/speed/generation.py [--batch 16 --tokens 64 --width 128 --layers 4 --slots 32]

prints one JSON line. The weights are random (speed doesn't depend on them), no end token is set, so every row generates
exactly `--tokens` tokens after a prompt of `--prompt` tokens; tokens_per_s counts the whole call, prompt included.
Vocabulary 2,000: the size behind the figures this benchmark is compared with. Each figure is the median over
`--repeats` calls after one warm-up call; tokens_per_s_slowest is the slowest of them.

Keys without a prefix are the reactive model's; `plain_` is a transformers Llama with its own `generate()`,
`stateless_` this project's decoder without memory (what memory costs). Times are for one row unless named batch.
first_token_turn_64_ms: time to the first token after 63 earlier turns of prompt + answer, which the reactive model
has in its memory and the plain ones read again. floor_share: what the matrix products of the batch would take at the
rate of long ones, as a share of what it took. peak_mb is the whole process, start_mb the part that Python and the
libraries had taken before there was a model.
"""

import argparse

from evaluation.command_line import at_least, temperature


def main() -> None:
    """Read the options, then load what measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"batch": 16, "tokens": 64, "width": 128, "layers": 4, "slots": 32, "prompt": 32, "vocab": 2000}
    for name, value in {**sizes, "heads": 4, "kv-heads": 4, "repeats": 9}.items():
        parser.add_argument(f"--{name}", type=at_least(1), default=value)
    parser.add_argument("--threads", type=at_least(0), default=0, help="0: as many as torch takes")
    parser.add_argument("--temperature", type=temperature, default=1.0, help="0 is greedy")
    parser.add_argument("--only", choices=("reactive", "plain", "stateless"), help="one of the three, in this process")
    arguments = parser.parse_args()
    from evaluation.speed.answer_timing import measure

    measure(arguments)


if __name__ == "__main__":
    main()
