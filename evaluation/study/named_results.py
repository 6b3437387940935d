"""The keys of study.json that stand for one claim each, from the parts of that name."""

import statistics
from collections.abc import Mapping
from typing import Any

Runs = list[dict[str, Any]]
BEYOND = "beyond_supervision"
MRL, SFT = "_mrl", "_sft"
"""How the two variants of a case of `BEYOND` end."""


def named_results(
    by_part: Mapping[str, Mapping[str, Runs]], starts: Mapping[str, Mapping[str, Any]], pairs: Mapping[str, Any]
) -> dict[str, Any]:
    """`critic`, `delayed`, `rewards_alone` and `beyond_supervision`, as far as their runs are finished. Shares are of
    all questions. pairs: of each case of `beyond_supervision` the paired gain of reinforcement over supervision."""
    found: dict[str, Any] = {}
    if critics := by_part.get("critic"):
        found["critic"] = {
            name: {"explained_variance": round(statistics.fmean(run["explained_variance"] for run in runs), 3)}
            for name, runs in critics.items()
        }
    for part in ("delayed", "rewards_alone"):
        if part in by_part:
            found[part] = _start_and_end(next(iter(by_part[part].values())), starts[part])
    if cases := by_part.get(BEYOND):
        found[BEYOND] = [
            {
                "case": case, "mrl": _all(cases[case + MRL]), "sft": _all(cases[case + SFT]),
                "difference": gain["gain"], "low": gain["low"], "high": gain["high"],
                "seeds": min(len(cases[case + MRL]), len(cases[case + SFT])),
            }
            for case, gain in pairs.items()
        ]  # fmt: skip
    return found


def _all(runs: Runs) -> float:
    return round(statistics.fmean(run["recall"]["all"] for run in runs), 4)


def _start_and_end(runs: Runs, start: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "start": start["recall"].get("all"),
        "end": _all(runs),
        "seconds": round(statistics.fmean(run["train_s"] for run in runs), 1),
        "seeds": len(runs),
    }
