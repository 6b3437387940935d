"""The example's dialogues: what they ask can be answered, and the unseen ones share no name or value with training."""

import importlib.util
import re
import sys
from pathlib import Path

from mrl.dialogues.check import check_dialogues
from mrl.dialogues.dataset import RowSource, read_conversations

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "make_dialogues.py"


def test_examples_are_answerable_and_unseen_words_are_unseen(tmp_path):
    spec = importlib.util.spec_from_file_location("make_dialogues", SCRIPT)
    maker = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = maker  # dataclasses look their module up
    spec.loader.exec_module(maker)
    maker.main(tmp_path, rows=400, held_out=40, seed=0)
    read = {n: read_conversations(RowSource(path=str(tmp_path / f"{n}.jsonl"))) for n in ("train", "known", "unseen")}
    assert {name: len(rows) for name, rows in read.items()} == {"train": 400, "known": 40, "unseen": 40}
    counts = check_dialogues(read["train"])
    assert counts["facts that their answer doesn't say"] == 0
    assert counts["turns with a fact that nobody has said before"] == 0
    assert counts["answers that say that it wasn't told"] > 100
    distances = {e.distance for c in read["train"] for e in c.exchanges if e.asks}
    assert distances >= set(range(1, 9))
    said = set(re.findall(r"\w+", (tmp_path / "train.jsonl").read_text().lower()))
    new = vars(maker.NEW_WORDS).values()
    assert not {word.lower() for words in new for value in words for word in value.split()} & said
