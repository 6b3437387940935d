"""Trained tokens per second of the reactive model's memory-aware training, beside a plain decoder of the same width.

    uv run evaluation/speed/memory_training.py [--batch 16 --turns 8 --tokens 32 --width 128 --layers 4 --slots 32]

prints one JSON line. A step is forward, backward through all memory writes of the episode, clipping and AdamW, on
random ids without padding. Tokens are those of the episode, each counted once. `plain_` is a transformers Llama of the
same width, depth, heads and feed-forward width that reads each episode as one sequence and predicts every token;
`stateless_` the same Llama over single turns, which can remember nothing. The reactive model encodes each turn and
decodes it from memory, so it does about twice a plain decoder's work. Figures are medians over `--repeats` steps after
a warm-up; peak_mb is the whole process.
"""

import argparse

from evaluation.command_line import at_least


def main() -> None:
    """Read the options, then load what measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"batch": 16, "turns": 8, "tokens": 32, "width": 128, "layers": 4, "heads": 4, "slots": 32, "vocab": 2000}
    for name, value in (sizes | {"repeats": 5}).items():
        parser.add_argument(f"--{name}", type=at_least(1), default=value)
    arguments = parser.parse_args()
    from evaluation.speed.step_timing import measure

    measure(arguments)


if __name__ == "__main__":
    main()
