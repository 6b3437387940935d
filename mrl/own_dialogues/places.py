"""Marks of a dialogue from which turns have been taken: distances follow, whether they were given or derived."""

from collections.abc import Sequence
from dataclasses import replace

from mrl.dialogues.dataset import Exchange
from mrl.dialogues.facts import settle_marks


def settled_again(exchanges: Sequence[Exchange], places: Sequence[int]) -> tuple[Exchange, ...]:
    """What is left of a dialogue, with its distances as they are now. places: where each exchange stood before.

    Distances that were derived are derived again. One that the row gave points to the turn that it pointed to, which
    has to be there still (or, where it was joined to another, the one it was joined to).
    """
    moved = []
    for now, (exchange, place) in enumerate(zip(exchanges, places, strict=True)):
        if exchange.distance_given and exchange.distance:
            told = max(at for at in range(now) if places[at] <= place - exchange.distance)
            exchange = replace(exchange, distance=now - told)
        moved.append(exchange)
    return settle_marks(moved, [(bool(e.facts), e.distance_given or not e.facts) for e in moved])
