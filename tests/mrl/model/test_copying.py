"""The copy path: windows by a plain loop, a name that no weight knows given back, off means nothing is there."""

import pytest
import torch
from torch.nn import functional

from mrl.model import MemoryState, ReactiveConfig, ReactiveForCausalLM, Sampling
from mrl.model.memory import Windows, token_codes

K = 3


def small_model(**changes) -> ReactiveForCausalLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 48, "memory_slots": 5}
    return ReactiveForCausalLM(ReactiveConfig(**{**sizes, "max_interaction_length": 32, "copy_window": K, **changes}))


@pytest.fixture
def model() -> ReactiveForCausalLM:
    return small_model().eval()


def test_codes_are_of_length_one_nearly_orthogonal_and_always_the_same(model):
    codes = token_codes(60, 64)
    product = codes @ codes.T
    torch.testing.assert_close(product.diagonal(), torch.ones(60))
    assert (product - torch.eye(60)).abs().max() < 0.6
    assert torch.equal(model.model.copying.codes, codes)


def test_a_window_holds_the_tokens_from_where_its_slot_points(model):
    copying, ids = model.model.copying, torch.tensor([[10, 11, 12, 13], [20, 21, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()[:, None, None]
    encoded = torch.randn(2, 4, 64)
    with torch.no_grad():
        windows = copying.write(encoded, ids, mask)
    normed = functional.rms_norm(encoded, (64,))
    for row, length in ((0, 4), (1, 2)):
        score = copying.write_query @ copying.write_key(normed[row, :length]).T / 8
        share = score.softmax(-1)
        for k in range(K):
            expected = torch.zeros(5, 64)
            for place in range(length - k):
                expected += share[:, place, None] * copying.codes[ids[row, place + k]]
            torch.testing.assert_close(windows[k, row], expected, atol=1e-5, rtol=1e-5)


def test_a_slot_takes_over_as_much_of_a_window_as_its_gate_opens():
    model = small_model(gate="static", gate_init=-1.0).eval()
    state = MemoryState(torch.randn(2 + K, 1, 5, 64))
    ids = torch.tensor([[2, 5, 10, 11, 6, 12, 3]])
    with torch.no_grad():
        window = model.model.copying.write(model.encode(ids).layers[-1], ids, None)
        written = model.write(state, ids)
    opening = torch.sigmoid(torch.tensor(-1.0))
    torch.testing.assert_close(written.slots[2:], state.slots[2:] + opening * (window - state.slots[2:]))


def test_what_was_said_is_followed_by_what_stood_after_it(model):
    """One slot holds 40 41 42; with places and keys that say nothing, the match alone decides."""
    copying = model.model.copying
    with torch.no_grad():
        copying.place.weight.zero_()
        copying.place.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 20.0]))  # the gate is open
    codes = copying.codes[[40, 41, 42]].flatten()
    windows = Windows(torch.zeros(1, 1, 64), codes[None, None])
    added = copying(torch.zeros(1, 2, 64), torch.tensor([[40, 41]]), windows)
    assert added.argmax(-1).tolist() == [[41, 42]]
    # By hand: places weigh softmax(0, 10 * <code, said>, ..), what is found is worth 10 at its own token.
    first = torch.tensor([0.0, *(10 * copying.codes[[40, 41]] @ copying.codes[40])]).softmax(0)
    expected = 10 * copying.codes @ (first @ copying.codes[[40, 41, 42]])
    torch.testing.assert_close(added[0, 0], expected, atol=1e-4, rtol=1e-4)


def test_answers_and_generate_copy_alike(model):
    """Explicit writes, `generate()` over the flat conversation and the streaming cache give one greedy answer."""
    turn, query = torch.tensor([[2, 5, 10, 11, 6, 12, 3]]), torch.tensor([[2, 5, 30]])
    with torch.no_grad():
        state = model.write(model.initial_state(1), turn)
    answer = model.generate_answers(query, None, state, max_new_tokens=6, sampling=Sampling(temperature=0), stop=())
    flat = torch.cat([turn, query, torch.tensor([[6]])], 1)
    made = model.generate(flat, max_new_tokens=5, do_sample=False, eos_token_id=None)
    assert made[0, flat.shape[1] :].tolist() == answer.ids[0, 1:].tolist()
    bare = MemoryState(state.slots[:2])
    with_windows, without = (model.decode(query, None, s).logits for s in (state, bare))
    assert (with_windows - without).abs().max() > 0.1


def test_the_state_has_a_layer_for_each_token_of_a_window_and_none_without():
    assert small_model().initial_state(2).shape == (2 + K, 2, 5, 64)
    plain = small_model(copy_window=0)
    assert plain.initial_state(2).shape == (2, 2, 5, 64)
    assert not [name for name in plain.state_dict() if "copying" in name]
    with pytest.raises(ValueError, match="doesn't fit"):
        plain.write(small_model().initial_state(1), torch.tensor([[2, 5, 10]]))


def test_a_model_without_a_copy_path_starts_with_the_weights_that_the_others_of_it_have():
    with_path, without = small_model().state_dict(), small_model(copy_window=0).state_dict()
    assert {name for name in with_path if "copying" not in name} == set(without)


def test_a_checkpoint_keeps_the_copy_path(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = ReactiveForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"copy_window": -1}, "number of tokens"), ({"memory_slots": 0}, "memory_slots is 0"),
     ({"gate": "off"}, "opens and shuts"), ({"gate_activation": "tanh"}, "sigmoid")],
)  # fmt: skip
def test_windows_without_meaning_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        small_model(**changes)
