"""What models recall more than others that were asked the same questions, with paired intervals.

    uv run evaluation/recall_gain.py --before FOLDER/answers.jsonl [MORE …] --after FOLDER/answers.jsonl [MORE …]

reads what evaluation/retention.py wrote. Several files on a side are several seeds, of which the mean is compared. By
distance from 2 to 16, in the mean over 2, 4, 8 and 16, and over all questions of any distance: how many points more
are recalled afterwards, with the 95 per cent interval over dialogues; only questions that all files have. `--json`: the
same as one JSON line, in shares.
"""

import argparse
import json
from pathlib import Path

from evaluation.gains import gain_of_all, in_points, mean_hits, read_hits, recall_gains
from pipeline.errors import InputError
from pipeline.run import exit_status


def main(options: argparse.Namespace) -> None:
    """Read, compare, print."""
    name = options.name
    try:
        before, after = (
            mean_hits([read_hits(path, given) for path in paths])
            for paths, given in ((options.before, options.before_name or name), (options.after, name))
        )
        figures = {**recall_gains(before, after), "all": gain_of_all(before, after)}
    except ValueError as error:
        raise InputError(str(error)) from None
    if options.json:
        print(json.dumps(figures))
        return
    for over, gain in figures.items():
        print(f"{over.rjust(4)}  {in_points(gain)}  n {gain['n']}")


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for side in ("before", "after"):
        parser.add_argument(f"--{side}", type=Path, nargs="+", required=True, metavar="FILE", help="answers.jsonl")
    parser.add_argument("--name", default="recall", help="of the model in these files (retention.py's --name)")
    parser.add_argument("--before-name", help="of the model in the files before, if it is another")
    parser.add_argument("--json", action="store_true", help="one JSON line")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    chosen = parse_options()
    with exit_status():
        main(chosen)
