"""What a later answer needs, by hand, and that a model learns to keep it."""

import torch

from mrl.conversion.weights import reactive_from_causal
from mrl.dialogues.collation import IGNORED, Episodes
from mrl.losses.answer_lm import memory_aware_counts, memory_aware_loss
from mrl.losses.keeping import needed_later, written_tokens
from mrl.recipes.supervised import MemoryAwareConfig
from tests.mrl.conversion.toy import MEMORY, causal


def dialogue(told: list[int], answer: list[int], facts: list[bool], distance: int) -> Episodes:
    """A turn that tells, small talk, and a question whose answer begins at its fourth token."""
    turns = [told, [9, 11, 12, 3], [9, 14, 15, *answer]]
    width = max(map(len, turns))
    ids = torch.tensor([[*turn, *[0] * (width - len(turn))] for turn in turns])[None]
    mask = torch.tensor([[1] * len(turn) + [0] * (width - len(turn)) for turn in turns])[None]
    marked = torch.zeros(ids.shape, dtype=torch.bool)
    marked[0, 2, 3 : 3 + len(answer)] = torch.tensor(facts)
    labels = torch.where(mask.bool(), ids, IGNORED)
    labels[:, :, :3] = IGNORED
    return Episodes(
        ids, mask, labels, facts=marked, thoughts=torch.zeros_like(marked), distance=torch.tensor([[0, 0, distance]]),
        asks=torch.tensor([[False, False, True]]), seeds=torch.tensor([1]), group=torch.tensor([0]),
    )  # fmt: skip


def test_the_tokens_of_the_turn_that_told_are_needed_and_no_others():
    batch = dialogue([9, 20, 21, 22, 20, 3], [30, 20, 22, 3], [False, True, True, False], distance=2)
    expected = torch.zeros(batch.ids.shape, dtype=torch.bool)
    expected[0, 0, [1, 3, 4]] = True  # both times that 20 was said; not 3, which ends the answer but is no fact
    assert torch.equal(needed_later(batch), expected)
    other = dialogue([9, 20, 21, 22, 20, 3], [30, 20, 22, 3], [False, True, True, False], distance=1)
    assert not needed_later(other).any(), "the turn before the question didn't tell it"
    unknown = dialogue([9, 20, 21, 22, 20, 3], [30, 20, 22, 3], [False, True, True, False], distance=0)
    assert not needed_later(unknown).any()
    assert written_tokens(batch).sum(2).tolist() == [[6, 4]]


def test_a_model_learns_to_keep_what_is_needed_and_nothing_else_learns_from_that():
    model = reactive_from_causal(causal(), **{**MEMORY, "kept_share": 0.3, "memory_keep": "learned"}).eval()
    batch = dialogue([9, 40, 41, 20, 42, 43, 22, 3], [20, 22, 3], [True, True, False], distance=2)
    config = MemoryAwareConfig()
    counts = memory_aware_counts(batch, config)
    with torch.no_grad():  # the needed ones are the last that surprise would keep
        model.model.token_worth.bias.fill_(0.0)
    before = memory_aware_loss(model, batch, counts, config)
    optimizer = torch.optim.Adam(model.model.token_worth.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        found = memory_aware_loss(model, batch, counts, config)
        found.loss.backward()
        optimizer.step()
    assert int(found.metrics["needed_n"]) == 2
    assert int(found.metrics["needed_kept"]) == 2 > int(before.metrics["needed_kept"])
