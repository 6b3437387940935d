"""What there is to say of files of dialogues before anything is trained on them.

    uv run data/check_dialogues.py chats.jsonl
    uv run data/check_dialogues.py train.jsonl --held-out test.jsonl --tokenizer outputs/own/tokenizer --limit 64

Rows are read as training reads them (docs/own_dialogues.md says what they look like) and counted: kept or left out and
why, facts that their own answer doesn't say, distances that are given, derived or contradicted by the words, questions
that nothing can reward, turns and answers over the limits with what a cut takes, dialogues that two files share. A row
that can't be used is refused with its place, or with --bad-rows drop left out and counted.
"""

import argparse
import json
import sys

from mrl.dialogues.report import Limits, RowSource, as_text, report_of
from pipeline.errors import InputError
from pipeline.run import exit_status, setup_logging


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE", help="dialogues: files, folders, names on the Hub")
    parser.add_argument("--held-out", nargs="+", default=[], metavar="FILE", help="dialogues to measure on")
    parser.add_argument("--split", help="split of the files; default: train where there are splits, else all rows")
    parser.add_argument("--conversations", choices=["messages", "sharegpt"], default="messages")
    parser.add_argument("--bad-rows", choices=["refuse", "drop"], default="refuse")
    parser.add_argument(
        "--tokenizer",
        metavar="DIR",
        help="lengths in its tokens (a folder or a name of the Hub); default: words and signs",
    )
    parser.add_argument("--limit", type=int, help="max_interaction_length to hold the turns against")
    parser.add_argument("--answer-limit", type=int, help="max_new_tokens to hold the answers against")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser.parse_args(arguments)


def main(options: argparse.Namespace) -> None:
    """Read, count, print."""
    for name in ("limit", "answer_limit"):
        if (given := getattr(options, name)) is not None and given < 4:
            raise InputError(f"--{name.replace('_', '-')}: {given} leaves no room for a question and an answer; give 4")

    def sources(paths: list[str]) -> list[RowSource]:
        more = {"split": options.split, "conversations": options.conversations, "bad_rows": options.bad_rows}
        return [RowSource(path=path, **more) for path in paths]

    limits = Limits(options.limit, options.answer_limit)
    report = report_of(sources(options.files), sources(options.held_out), options.tokenizer, limits)
    print(json.dumps(report) if options.json else as_text(report))


if __name__ == "__main__":
    chosen = parse_options()
    setup_logging("ERROR")
    with exit_status():
        main(chosen)
    sys.exit(0)
