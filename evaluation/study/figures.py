"""study.json as pictures."""

from pathlib import Path
from typing import Any

from evaluation import plots
from evaluation.study.results import SUPERVISED
from evaluation.study.tables import shown_name


def draw_study(results: dict[str, Any], folder: Path) -> list[tuple[str, Path]]:
    """seeds.png: recall by distance of every seed; PART.png: mean recall of every run of a part. Titles and paths."""
    if "start" not in results:  # of runs that are compared by preference the tables say all
        return []
    shown = {SUPERVISED: results["start"]["recall"]}
    shown |= {f"seed {run['seed']}": run["recall"] for run in results["mrl_seeds"]}
    plots.by_turn(
        plots.curves(shown), folder / "seeds.png", xlabel="turns since it was said", ylabel="exact recall", share=True,
        zoom=True, dashed=(SUPERVISED,),
    )  # fmt: skip
    drawn = [("Study: recall by distance, every seed", folder / "seeds.png")]
    for part, variants in results["mrl_ablation"].items():
        start = results["starts"][part]
        others = results.get("other_starts", {}).get(part, {})
        rows = {
            shown_name(name, others.get(name)): [run["mean"] for run in runs]
            for name, runs in variants.items()
            if name != start["name"]
        }
        path = folder / f"{part}.png"
        line = (start["name"], start["mean"])
        plots.dots(rows, path, xlabel="exact recall, mean over distances 2 to 16", line=line)
        drawn.append((f"Study: {part.replace('_', ' ')}", path))
    return drawn
