"""What becomes of a question that is asked again: whether a wrong answer, which the memory took in, comes back.

    uv run evaluation/asked_again.py FOLDER/answers.jsonl [MORE …] [--name recall]

reads what evaluation/retention.py wrote and prints a JSON line for each file. A pair is a question and the next turn of
the same dialogue at which the same is asked and the same is right. Of the pairs first answered wrong: `then_right`, the
share answered right the second time, `same_wrong`, the share with the same wrong answer; of those first answered right:
`right_again`. Each share has its 95 per cent interval over dialogues and its n. With several files, `paired` compares
the later ones with the first in the pairs that both first answered wrong: how much more often they are right then.
Asked with the model's own answers in memory (`--own-answers`) and with the data's, that is what a wrong answer costs.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.metrics import bootstrap_interval, numbered, paired_difference
from pipeline.errors import InputError
from pipeline.run import exit_status


class Pair(NamedTuple):
    """A question that was asked twice: its dialogue, the turns, and both answers with whether they were right."""

    where: str
    turns: tuple[int, int]
    answers: tuple[str, str]
    right: tuple[bool, bool]


def pairs_of(path: Path, name: str = "recall") -> list[Pair]:
    """The pairs of an answers' file, by what it says of the model called `name`. Raises InputError for a file that
    isn't one."""
    found, last = [], {}
    try:
        asked = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for question in sorted((x for x in asked if x["distance"] > 0), key=lambda x: (x["where"], x["turn"])):
            same = question["where"], question["query"], question["wanted"]
            if (before := last.get(same)) is not None:
                said = [both[name] for both in (before, question)]
                turns, answers = (before["turn"], question["turn"]), (said[0]["answer"], said[1]["answer"])
                right = bool(said[0]["recalled"]), bool(said[1]["recalled"])
                found.append(Pair(question["where"], turns, answers, right))
            last[same] = question
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} has no answers of {name}: {error!r}") from None
    return found


def asked_again(pairs: Sequence[Pair]) -> dict[str, Any]:
    """The figures of one file."""
    wrong, right = ([pair for pair in pairs if pair.right[0] == was] for was in (False, True))
    return {
        "pairs": len(pairs),
        "then_right": _share([pair.right[1] for pair in wrong], wrong),
        "same_wrong": _share([pair.answers[0] == pair.answers[1] for pair in wrong], wrong),
        "right_again": _share([pair.right[1] for pair in right], right),
    }


def _share(hits: Sequence[bool], pairs: Sequence[Pair]) -> dict[str, Any]:
    if not pairs:
        return {"share": None, "n": 0}
    low, high = bootstrap_interval(hits, numbered(pair.where for pair in pairs))
    return {"share": round(sum(hits) / len(hits), 4), "low": low, "high": high, "n": len(hits)}


def more_often_right(before: Sequence[Pair], after: Sequence[Pair]) -> dict[str, Any] | None:
    """Of the pairs that both first answered wrong: how much larger the share is that `after` then answers right, with
    its paired interval over dialogues. None where there are no such pairs."""
    known = {(pair.where, pair.turns): pair for pair in before if not pair.right[0]}
    both = [pair for pair in after if not pair.right[0] and (pair.where, pair.turns) in known]
    if not both:
        return None
    firsts = [float(known[pair.where, pair.turns].right[1]) for pair in both]
    return paired_difference(firsts, [float(pair.right[1]) for pair in both], numbered(pair.where for pair in both))


def main(options: argparse.Namespace) -> None:
    """Read, count, print."""
    first = None
    for path in options.answers:
        pairs = pairs_of(path, options.name)
        figures = {"answers": str(path), **asked_again(pairs)}
        if first is None:
            first = pairs
        else:
            figures["paired"] = more_often_right(first, pairs)
        print(json.dumps(figures))


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "answers", type=Path, nargs="+", metavar="FILE", help="answers.jsonl of evaluation/retention.py"
    )
    parser.add_argument("--name", default="recall", help="of the model in these files (retention.py's --name)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    chosen = parse_options()
    with exit_status():
        main(chosen)
