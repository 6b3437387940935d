"""What preference learning did to a model: win rate against its start by a verifier that trained neither, and what it
still remembers.

    uv run evaluation/preferences.py --start DIR --model DIR --data outputs/quickstart/tour/preferences/data/test

Both models answer the same held-out dialogues (data/generators/dialogue_preferences.py) greedily, each with its own
answers in its memory. The verifier is a rule: a share of what applies to a turn is in the answer (a word of courtesy;
at most eight words; all facts that were asked for, or for what nobody has told that it isn't known). A model wins a
turn where its answer has the larger share; a tie is half a win. Intervals are 95 per cent, over dialogues for the win
rate and paired over questions for recall.

With --output-dir: preferences.json (what evaluation/report.py reads).
"""

import argparse
from pathlib import Path

from evaluation.command_line import at_least
from mrl.recipes.model import ModelConfig
from pipeline.run import exit_status, setup_logging


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", required=True, help="the model that preference learning started from")
    parser.add_argument("--model", required=True, nargs="+", help="models that came of it")
    parser.add_argument("--data", required=True, help="held-out dialogues")
    parser.add_argument("--episodes", type=at_least(1), help="at most so many")
    parser.add_argument("--max-new-tokens", type=at_least(2), default=32)
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the initial states")
    parser.add_argument("--output-dir", type=Path)
    return parser.parse_args(arguments)


def main(options: argparse.Namespace) -> None:
    """Refuse what is missing, then measure, write, print."""
    for path in (options.start, *options.model):
        ModelConfig(path=path).refuse_missing()
    from evaluation.memory.preferences import run

    run(options)


if __name__ == "__main__":
    chosen = parse_options()
    setup_logging("INFO")
    with exit_status():
        main(chosen)
