"""Words that stand in no training row: recall of them and of known ones by one model, with their controls."""

from typing import Any

from evaluation.reporting.markdown import table
from evaluation.reporting.tour_stage import Files, TourStage

REPORTED = ("1", "2", "4", "8")
"""Distances in turns."""
MEMORIES = {
    "memory_sft": "from memory",
    "reset_control": "memory reset",
    "foreign_control": "another dialogue's memory",
}


def shares(retention: Any) -> dict[str, Any]:
    """Recall by distance, and `n`, of how many questions in all."""
    found, sizes = retention["recall"]["memory_sft"], retention["questions"]
    there = [distance for distance in REPORTED if distance in found]
    return {distance: found[distance] for distance in there} | {"n": sum(sizes[distance] for distance in there)}


def keys(files: Files) -> dict[str, Any]:
    """`unseen_words` and, of the same model, `unseen_words_known`."""
    return {"unseen_words": shares(files["unseen"]), "unseen_words_known": shares(files["known"])}


def section(files: Files) -> str:
    """A table of both, by distance."""
    rows = []
    for name, words in (("unseen", "words of no training row"), ("known", "known words")):
        for memory, said in MEMORIES.items():
            found = files[name]["recall"][memory]
            cells = [f"{100 * found[distance]:.1f}" if distance in found else "–" for distance in REPORTED]
            rows.append([f"{words}, {said}", *cells])
        rows.append([f"questions, {words}", *(str(files[name]["questions"].get(d, 0)) for d in REPORTED)])
    head = ["exact recall at distance", *REPORTED]
    return (
        "## Words never seen\n\nNames and values that stand in no training row can only be copied, from the slots'"
        f" windows of tokens (`copy_window`).\n\n{table(head, rows)}\n"
    )


STAGE = TourStage(
    order=40,
    files={
        "unseen": "tour/unseen_words/retention_unseen/retention.json",
        "known": "tour/unseen_words/retention_known/retention.json",
    },
    keys=keys,
    section=section,
)
