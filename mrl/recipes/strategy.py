"""What a dialogue is rewarded for. Rewards read it too, so it knows no other room."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """What a dialogue is rewarded for.

    single: the first turn only, against the interaction before it. cumulative: every turn against the `saved_offset`th
    interaction before it, and the last one against all earlier interactions, times `final_weight`. long_term: the last
    turn only, against the first interaction; with `dense` the turns between are rewarded too, and
    `topic_change_penalty` is taken from them for as much as the answer leans on the old topic more than the reference
    does. `weight` is its share when several are mixed.

    What an answer is compared with is its saved data; the critic reads that too (`mrl.rl.rewards.strategies`).
    """

    kind: Literal["single", "cumulative", "long_term"] = "cumulative"
    weight: float = 1.0
    rows: list[str] = field(default_factory=list)
    """Sources of `data` whose dialogues it plays, by the end of their path (and subset), * for any letters, such as
    `[extend_*]`. Default: all of them."""
    saved_offset: int = 1
    final_weight: float = 1.0
    dense: bool = False
    topic_change_penalty: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers out of range and options without effect."""
        if self.weight < 0 or self.final_weight < 0 or self.topic_change_penalty < 0:
            raise ValueError("weight, final_weight and topic_change_penalty can't be negative")
        if not all(row.strip() for row in self.rows):
            raise ValueError("rows has an empty name; give the end of a source's path, or leave rows out for all")
        if self.saved_offset < 1:
            raise ValueError(f"saved_offset is {self.saved_offset}; 1 is the interaction right before the question")
        if self.kind != "cumulative" and (self.saved_offset != 1 or self.final_weight != 1):
            raise ValueError(f"saved_offset and final_weight belong to kind: cumulative, not to {self.kind}")
        if self.dense and self.kind != "long_term":
            raise ValueError(f"dense belongs to kind: long_term, not to {self.kind}")
        if self.topic_change_penalty and not (self.kind == "long_term" and self.dense):
            raise ValueError("topic_change_penalty needs kind: long_term with dense: true")
