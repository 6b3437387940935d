"""Preference learning: a start in all manners against DPO, a reward model's favourite, and both rewards at once."""

from typing import Any

from evaluation.reporting.markdown import table
from evaluation.reporting.tour_stage import Files, TourStage

RUNS = ("dpo", "rlhf", "combined")
WON = ("win_rate", "recall_8_before", "recall_8_after")


def keys(files: Files) -> dict[str, Any]:
    """`dpo`, `rlhf` and `combined`, and `abstention`, which is DPO's."""
    compared = files["compared"]
    return {run: {key: compared[run][key] for key in WON} for run in RUNS} | {
        "abstention": compared["dpo"]["abstention"]
    }


def section(files: Files) -> str:
    """A table of the three, with how many turns and questions stand behind it."""
    rows = []
    for run in RUNS:
        found = files["compared"][run]
        asked = found["abstention"]
        rows.append(
            [
                run,
                f"{percent(found['win_rate'])} ({between(found['win_rate_interval'])})",
                f"{percent(found['recall_8_before'])} → {percent(found['recall_8_after'])} "
                f"({between(found['recall_8_change_interval'])})",
                f"{percent(asked['untold_before'])} → {percent(asked['untold_after'])}",
                f"{percent(asked['told_before'])} → {percent(asked['told_after'])}",
            ]
        )
    one = files["compared"]["dpo"]
    head = ["run", "win rate", "recall at 8 (change)", "abstains, untold", "right, told"]
    return (
        "## Preferences\n\nEach run against its common start on the same held-out dialogues, each with its own answers "
        "in memory; who is better a rule decides that trained none of them. Per cent, 95% intervals in brackets. "
        f"{one['turns']} turns of {one['dialogues']} dialogues; {one['recall_8_questions']} questions 8 turns back; "
        f"{one['abstention_n']['untold']} untold and {one['abstention_n']['told']} told ones.\n\n{table(head, rows)}\n"
    )


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def between(interval: Any) -> str:
    """Both ends of an interval."""
    return "–" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


STAGE = TourStage(
    order=45, files={"compared": "tour/preferences/compared/preferences.json"}, keys=keys, section=section
)
