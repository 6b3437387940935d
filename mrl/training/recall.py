"""Recall on held-out dialogues while training: teacher-forced, one pass over all turns (evaluation/retention.py
generates the answers and has the controls)."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mrl.dialogues.collation import collate_episodes, distance_ranges
from mrl.dialogues.sampler import in_order
from mrl.dialogues.tokenization import EncodedDialogues
from mrl.losses.answer_lm import MemoryAwareConfig, answer_weights, decode_turns, memory_states


@dataclass
class Recall:
    """Questions that take memory, and those answered right, by a name: all, a range of distances, a group."""

    sums: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, right: float, asked: float) -> None:
        for key, value in ((f"right {name}", right), (f"asked {name}", asked)):
            self.sums[key] = self.sums.get(key, 0.0) + value

    def rate(self, name: str) -> float:
        return self.sums.get(f"right {name}", 0.0) / max(1.0, self.sums.get(f"asked {name}", 0.0))

    @property
    def recall(self) -> float:
        """Share of all questions answered right."""
        return self.rate("all")

    def _named(self, prefix: str) -> dict[str, float]:
        names = [key.removeprefix("asked ") for key in self.sums if key.startswith(f"asked {prefix}")]
        return {name.removeprefix(prefix): self.rate(name) for name in sorted(names) if self.sums[f"asked {name}"]}

    def by_distance(self) -> dict[str, float]:
        """Recall by distance; "4" stands for 3 and 4."""
        return dict(sorted(self._named("distance ").items(), key=lambda item: int(item[0])))

    @property
    def answer_loss(self) -> float:
        """Cross-entropy per token of all answers."""
        return self.sums.get("loss", 0.0) / max(1.0, self.sums.get("n", 0.0))

    def metrics(self) -> dict[str, Any]:
        """Everything flat, for logs."""
        flat = {"recall": self.recall, "answer_loss": self.answer_loss}
        flat |= {f"recall_{k}": v for k, v in self.by_distance().items()}
        return flat | {f"recall_group_{k}": v for k, v in self._named("group ").items()}


def measure_recall(model: Any, data: EncodedDialogues, training: Any, dialogues: int | None, seed: int) -> Recall:
    """Recall over the dialogues (None: all; else so many, evenly spread), each process taking its share of them."""
    count = len(data) if dialogues is None else min(dialogues, len(data))
    some = np.linspace(0, len(data) - 1, count).astype(np.int64)
    config, counted = MemoryAwareConfig(), Recall()
    groups = sorted(set(data.groups))
    for index in in_order(data.turns[some] * 1000 + data.longest()[some], 64):
        for batch in training.mine(collate_episodes(data, some[index], None, seed)):
            _, turns, _ = decode_turns(model, batch, memory_states(model, batch), answer_weights(batch, config))
            counted.sums["loss"] = counted.sums.get("loss", 0.0) + float(turns.loss.sum())
            counted.sums["n"] = counted.sums.get("n", 0.0) + float(turns.tokens.sum())
            right = turns.recalled.view(batch.asks.shape).cpu().numpy()
            asks, distance = batch.asks.cpu().numpy(), batch.distance.cpu().numpy()
            counted.add("all", (right & asks).sum(), asks.sum())
            for high, inside in distance_ranges(distance):
                here = asks & inside
                counted.add(f"distance {high}", (right & here).sum(), here.sum())
            if len(groups) > 1:
                group = batch.group.cpu().numpy()
                for number, name in enumerate(groups):
                    here = asks & (group == number)[:, None]
                    counted.add(f"group {name}", (right & here).sum(), here.sum())
    counted.sums = training.total({k: float(v) for k, v in counted.sums.items()})
    return counted
