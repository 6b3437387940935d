"""bAbI from memory: accuracy per task on the test stories, beside the figures of published memory networks.

    uv run evaluation/babi.py --model outputs/babi/memory_sft
    uv run evaluation/babi.py --model PATH --json --output-dir outputs/babi

Facts arrive one interaction at a time. Each question is answered greedily from its own words and the memory that the
turns before left, after a thought with --think, and counts only when the whole answer is right.
"""

import argparse
import sys
from pathlib import Path

from evaluation.command_line import add_thinking, at_least
from mrl.recipes.model import ModelConfig
from pipeline.run import exit_status, setup_logging

DATA = "../shared/data/mrl/babi_episodes.parquet"


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="output_dir of a stage, a folder with weights, or a Hub name")
    parser.add_argument("--data", default=DATA, help="episodes with columns task and split")
    parser.add_argument("--tasks", nargs="+", help="numbers; default: all that the data has")
    parser.add_argument("--episodes", type=at_least(1), help="at most so many")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the initial states")
    add_thinking(parser)
    parser.add_argument("--output-dir", type=Path)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser.parse_args(arguments)


def main(options: argparse.Namespace) -> None:
    """Refuse what is missing, then measure, write, print."""
    ModelConfig(path=options.model).refuse_missing()
    from evaluation.memory.babi import run

    run(options)


if __name__ == "__main__":
    chosen = parse_options()
    setup_logging("WARNING" if chosen.json else "INFO")
    with exit_status():
        main(chosen)
    sys.exit(0)
