"""The memory as a value: its rows, its history, its seeds, its life on disk."""

import math

import pytest
import torch
from safetensors.torch import save_file

from mrl.model import MemoryHistory, MemoryState, ReactiveConfig, ReactiveForCausalLM


def small_model(**changes) -> ReactiveForCausalLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 4, "intermediate_size": 48, "memory_slots": 5}
    return ReactiveForCausalLM(ReactiveConfig(**{**sizes, **changes})).eval()


def numbered(layers: int, rows: int, slots: int = 3, width: int = 2) -> MemoryState:
    """Row b holds the number b everywhere."""
    return MemoryState(torch.arange(float(rows)).view(1, rows, 1, 1).expand(layers, rows, slots, width).clone())


def rows_of(state: MemoryState) -> list[int]:
    """The numbers of a numbered state's rows."""
    assert (state.slots == state.slots[:1, :, :1, :1]).all()
    return state.slots[0, :, 0, 0].int().tolist()


def test_rows_are_picked_repeated_joined_and_chosen():
    state = numbered(2, 4)
    assert len(state) == 4
    assert rows_of(state.rows(torch.tensor([3, 0, 3]))) == [3, 0, 3]
    assert rows_of(state.rows(slice(1, 3))) == [1, 2]
    assert rows_of(state.rows(torch.tensor([True, False, False, True]))) == [0, 3]
    assert rows_of(state.rows(slice(2)).repeat(3)) == [0, 0, 0, 1, 1, 1]
    assert rows_of(state.rows(slice(1, 2)).expand(3)) == [1, 1, 1]
    assert rows_of(MemoryState.cat([state.rows(slice(1)), state])) == [0, 0, 1, 2, 3]
    other = state.rows(torch.tensor([3, 2, 1, 0]))
    assert rows_of(state.where(torch.tensor([True, True, False, False]), other)) == [0, 1, 1, 0]


def test_hidden_slots_follow_their_rows_and_are_never_mixed():
    readable = torch.tensor([[True, False, True], [True, True, False]])
    state = MemoryState(torch.zeros(2, 2, 3, 4), readable)
    assert state.rows(torch.tensor([1])).readable.tolist() == [[True, True, False]]
    assert torch.equal(state.repeat(2).readable, readable[[0, 0, 1, 1]])
    assert torch.equal(state.detach().to("cpu", torch.double).readable, readable)
    with pytest.raises(ValueError, match="hidden slots"):
        MemoryState.cat([state, state])
    with pytest.raises(ValueError, match="hidden slots"):
        state.where(torch.tensor([True, False]), state)
    with pytest.raises(ValueError, match=r"readable has shape \[2, 2\]"):
        MemoryState(state.slots, readable[:, :2])


def test_other_shapes_are_no_state():
    with pytest.raises(ValueError, match=r"shape \[2, 3, 4\].*layers, rows, slots, width"):
        MemoryState(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match=r"shape \[2, 3, 4, 5\].*writes \+ 1"):
        MemoryHistory(torch.zeros(2, 3, 4, 5))


def test_a_history_says_what_any_turn_of_any_row_reads():
    # After k writes row b holds 10 k + b.
    states = [MemoryState(numbered(2, 3).slots + 10 * k) for k in range(4)]
    history = MemoryHistory.stack(states)
    assert history.writes == 3
    assert rows_of(history[2]) == [20, 21, 22]
    read = history.after(torch.tensor([0, 3, 1, 1]), torch.tensor([2, 0, 1, 2]))
    assert read.shape == (2, 4, 3, 2)
    assert rows_of(read) == [2, 30, 11, 12]
    assert rows_of(history.rows(slice(1, None)).after(torch.tensor([1]), torch.tensor([0]))) == [11]
    pieces = [MemoryHistory.stack(states[:3]), MemoryHistory.stack(states[2:])]
    assert torch.equal(MemoryHistory.join(pieces).slots, history.slots)


def test_gradients_go_through_rows_and_history_and_not_through_detach():
    slots = torch.ones(2, 3, 3, 2, requires_grad=True)
    state = MemoryState(slots)
    history = MemoryHistory.stack([state, state])
    history.after(torch.tensor([1, 1]), torch.tensor([0, 2])).slots.sum().backward()
    assert slots.grad[:, :, 0, 0].tolist() == [[1, 0, 1], [1, 0, 1]]
    assert not state.detach().slots.requires_grad
    assert not history.detach().slots.requires_grad


def test_a_row_of_the_initial_state_depends_on_its_own_seed_only():
    model = small_model()
    several = model.initial_state(seeds=[7, 8, 9]).slots
    assert torch.equal(several[:, 1:2], model.initial_state(seeds=[8]).slots)
    assert not torch.equal(several[:, 0], several[:, 1])
    assert several.std().item() == pytest.approx(0.02, rel=0.1)
    assert torch.equal(model.initial_state(2).slots[:, 0], model.initial_state(seeds=[0]).slots[:, 0])
    with pytest.raises(ValueError, match="3 seeds for 2 rows"):
        model.initial_state(2, seeds=[1, 2, 3])


def test_learned_and_loaded_initial_states_travel_with_the_checkpoint(tmp_path):
    written = torch.randn(4, 1, 5, 32)
    loaded = small_model(initial_state="loaded")
    loaded.set_initial_state(MemoryState(written))
    loaded.save_pretrained(tmp_path)
    again = ReactiveForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again.initial_state(2).slots[:, 1:], written)
    assert not again.model.initial_memory.requires_grad
    learned = small_model(initial_state="learned")
    learned.initial_state(2).slots.sum().backward()
    assert (learned.model.initial_memory.grad == 2).all()
    with pytest.raises(ValueError, match="not 'normal'"):
        small_model().set_initial_state(MemoryState(written))
    with pytest.raises(ValueError, match="doesn't fit this model and 1 rows"):
        loaded.set_initial_state(MemoryState(torch.zeros(4, 2, 5, 32)))


def test_state_on_disk(tmp_path):
    state = MemoryState(torch.randn(4, 2, 5, 32))
    state.save(tmp_path / "state.safetensors", turn=3, user="ada")
    back, notes = MemoryState.load(tmp_path / "state.safetensors")
    assert torch.equal(back.slots, state.slots)
    assert (back.readable, notes) == (None, {"turn": "3", "user": "ada"})
    half = MemoryState(state.slots, torch.rand(2, 5) < 0.5)
    half.save(tmp_path / "half.safetensors")
    assert torch.equal(MemoryState.load(tmp_path / "half.safetensors")[0].readable, half.readable)


def test_states_saved_before_there_was_a_type_are_read_and_other_files_refused(tmp_path):
    slots = torch.randn(4, 1, 5, 32)
    save_file({"state": slots}, tmp_path / "old.safetensors", {"turn": "3"})
    back, notes = MemoryState.load(tmp_path / "old.safetensors")
    assert torch.equal(back.slots, slots)
    assert notes == {"turn": "3"}
    save_file({"weight": slots}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no memory state"):
        MemoryState.load(tmp_path / "other.safetensors")


def test_numbers_to_look_at():
    facts = MemoryState(torch.ones(4, 2, 5, 32)).inspect()
    assert facts["shape"] == [4, 2, 5, 32]
    assert facts["norm"] == pytest.approx([math.sqrt(32)] * 4)
    assert facts["similarity"] == pytest.approx([1.0] * 4)
