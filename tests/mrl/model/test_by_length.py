"""Rows computed in groups of like length give what the whole batch gives."""

import pytest
import torch

from mrl.model import MemoryState, ReactiveConfig, ReactiveForCausalLM, by_length
from mrl.model.by_length import LengthGroups

KINDS = {
    "attention": {},
    "windows": {"copy_window": 3},
    "experts": {"num_experts": 4},
    "kept_tokens": {"memory_write": "surprise", "memory_read": "joint", "encoder": "shared", "initial_state": "empty"},
}


def small_model(**changes) -> ReactiveForCausalLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 48, "memory_slots": 5}
    return ReactiveForCausalLM(ReactiveConfig(**{**sizes, "max_interaction_length": 16, **changes})).eval()


def batch(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of rows of 1 to T tokens."""
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(8, 60, shape, generator=random)
    return ids, torch.arange(shape[-1]) < torch.randint(1, shape[-1] + 1, (*shape[:-1], 1), generator=random)


def test_groups_hold_rows_of_like_length_and_joined_they_stand_as_before(monkeypatch):
    monkeypatch.setattr(by_length, "ROWS", 2)
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    groups = LengthGroups.of(torch.zeros_like(mask), mask)
    assert groups is not None
    lengths = [ids.shape[1] for ids, _ in groups.parts]
    assert [(rows.tolist(), n) for rows, n in zip(groups.rows, lengths, strict=True)] == [([1, 3], 1), ([2, 0], 3)]
    numbers = torch.tensor([0.0, 1.0, 2.0, 3.0])[:, None, None].expand(4, 4, 1) + 1
    joined = groups.join([numbers[rows, :n] for rows, n in zip(groups.rows, lengths, strict=True)])
    assert joined[..., 0].tolist() == [[1, 1, 1, 0], [2, 0, 0, 0], [3, 3, 3, 0], [4, 0, 0, 0]]


def test_few_rows_and_rows_on_other_devices_stay_together():
    ids, mask = batch(by_length.ROWS, 4)
    assert LengthGroups.of(ids, mask) is None
    more = torch.zeros(by_length.ROWS + 1, 4, device="meta", dtype=torch.long)
    assert LengthGroups.of(more, more) is None


@pytest.mark.parametrize("kind", KINDS)
def test_states_logits_and_gradients_are_those_of_the_whole_batch(monkeypatch, kind):
    model, (ids, mask) = small_model(**KINDS[kind]), batch(6, 4, 9)
    rows, turns = torch.ones(6, 4, dtype=torch.bool).nonzero(as_tuple=True)

    def computed(rows_of_a_group: int) -> list[torch.Tensor]:
        monkeypatch.setattr(by_length, "ROWS", rows_of_a_group)
        model.zero_grad()
        history = model.unroll(model.initial_state(6), ids, mask)
        out = model.decode(
            ids.flatten(0, 1), mask.flatten(0, 1), history.after(turns, rows), logits_at=mask.flatten(0, 1)
        )
        (out.logits.square().mean() + history[4].slots.square().mean()).backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        return [out.logits.detach(), history[4].slots.detach(), *gradients]

    for grouped, whole in zip(computed(5), computed(1000), strict=True):
        torch.testing.assert_close(grouped, whole, rtol=1e-4, atol=1e-6)


def test_what_is_encoded_is_the_same_with_and_without_gradients_and_padding(monkeypatch):
    monkeypatch.setattr(by_length, "ROWS", 5)
    model, (ids, mask) = small_model(), batch(12, 9)
    grouped = model.encode(ids, mask)
    with torch.no_grad():
        unmasked = model.encode(ids)
    alone = [model.encode(row[seen][None]) for row, seen in zip(ids, mask, strict=True)]
    for row, seen in enumerate(mask):
        torch.testing.assert_close(grouped.layers[:, row, seen], alone[row].layers[:, 0])
        torch.testing.assert_close(grouped.hidden[row, seen], alone[row].hidden[0])
    torch.testing.assert_close(unmasked.hidden, torch.cat([model.encode(row[None]).hidden for row in ids]))


def test_a_state_whose_slots_are_hidden_is_grouped_with_its_rows(monkeypatch):
    model, (ids, mask) = small_model(), batch(7, 9)
    slots = torch.randn(2, 7, 5, 64, generator=torch.Generator().manual_seed(2))
    state = MemoryState(slots, torch.arange(5) <= torch.arange(7)[:, None])
    monkeypatch.setattr(by_length, "ROWS", 3)
    grouped = model.decode(ids, mask, state, logits_at=mask).logits
    monkeypatch.setattr(by_length, "ROWS", 1000)
    torch.testing.assert_close(grouped, model.decode(ids, mask, state, logits_at=mask).logits, rtol=1e-4, atol=1e-5)
