"""Episodes per second of memory reinforcement learning: playing, rewarding, and one update over all of it.

    uv run evaluation/speed/memory_rl.py [--episodes 64 --steps 4 --batch 16 --tokens 64 --update-epochs 1]
                                        [--width 128 --layers 4 --slots 32]

prints one JSON line. The work: every episode has `steps` answered turns, every answer runs to `tokens` tokens (no end
token), every turn is written to memory; then rewards, critic values and advantages, and `update-epochs` passes of PPO
with the gradient through all memory writes. `batch` is the size of an update's minibatch in episodes, of which
`turns-at-once` turns are computed at once (`update.micro_batch_turns`: the activations of so many are kept, and on a
CPU 64 are no faster than 16); rollouts play all episodes at once. Words are random: nothing is skipped. Figures are
medians over `--repeats` rounds after a warm-up; peak_mb is the whole process. `gflop` are the multiplications and
additions of one round's matrix products, forward and backward; `floor_s` is what they alone would take at the rate of
long matrix products in fp32, measured at the end, `floor_share` that as a share of the round's time.
"""

import argparse

from evaluation.command_line import at_least


def main() -> None:
    """Read the options, then load what measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {
        "episodes": 64, "steps": 4, "batch": 16, "tokens": 64, "prompt": 32, "width": 128, "layers": 4, "heads": 4,
        "slots": 32, "vocab": 2000, "update-epochs": 1, "turns-at-once": 16, "repeats": 3,
    }  # fmt: skip
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=at_least(1), default=value)
    parser.add_argument("--critic", choices=("memory", "text_memory", "frozen_memory", "classic"), default="memory")
    arguments = parser.parse_args()
    from evaluation.speed.round_timing import measure

    measure(arguments)


if __name__ == "__main__":
    main()
