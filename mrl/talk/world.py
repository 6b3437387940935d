"""What a model of a made-up world can be told and asked: from the data that its run was trained on, where that is."""

import json
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mrl.dialogues.dataset import RowSource, read_conversations
from pipeline.errors import InputError

logger = logging.getLogger(__name__)
MOST_EXAMPLES = 8


@dataclass(frozen=True)
class World:
    """A sentence about the data, and messages of one of its held-out dialogues to try, in their order."""

    description: str
    examples: tuple[str, ...]


def describe_world(model: str) -> World | None:
    """The world of a run's output_dir (or its model/), from the data that its config.json names: folder, description
    and held-out rows. None for a model that isn't one of a run, or whose data is elsewhere."""
    folder = Path(model)
    run = folder.parent if (folder.parent / "metrics.json").is_file() else folder
    try:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        data = config["data"]
        # Folders of a run lie beside each other, wherever they were moved together.
        episodes = run / os.path.relpath(data["folder"], config["output_dir"])
        facts = json.loads((episodes / "dataset_metadata.json").read_text(encoding="utf-8"))
        sentence = f"Its little world is {facts['name']}: {facts['description']}"
        return World(sentence, _examples(episodes, data["held_out"][0]))
    except (OSError, ValueError, KeyError, TypeError, IndexError, InputError) as problem:
        logger.debug("no examples: %r", problem)
        return None


def _examples(episodes: Path, source: dict[str, Any]) -> tuple[str, ...]:
    """Of the first dialogues, the beginning that asks for something told some turns ago and says the most different
    things."""
    rows = replace(RowSource(**source), path=str(episodes / source["path"]), limit=40)
    begun = [c.exchanges[:MOST_EXAMPLES] for c in read_conversations(rows)]
    asking = [turns for turns in begun if any(e.distance > 1 for e in turns)]
    chosen = max(asking, key=lambda turns: len({e.query for e in turns} | {e.answer for e in turns}))
    return tuple(dict.fromkeys(e.query for e in chosen if e.query))
