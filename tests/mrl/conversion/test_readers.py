"""Readers of a converted model's memory: jointly with the tokens or apart from them, in all layers or in some."""

import pytest
import torch
from transformers import (
    Qwen2Config,
)

from mrl.conversion.weights import reactive_from_causal
from mrl.model import Sampling
from mrl.model.decoding import prefill, step
from mrl.model.memory import occupied
from tests.mrl.conversion.toy import HEADER, MEMORY, READERS, causal, opened, tokens


@torch.no_grad()
def test_what_is_learnt_of_a_memory_says_nothing_where_it_is_empty(pair):
    source, model = pair
    ids = tokens(2, 12, seed=3)
    state = model.write(model.initial_state(2), ids, torch.tensor([[0] * 12, [1] * 12]))
    logits, expected = model.decode(ids, None, state).logits, source(ids).logits
    torch.testing.assert_close(logits[0], expected[0], atol=1e-5, rtol=0)
    assert (logits[1] - expected[1]).abs().max() > 1e-2
    said = model.generate_answers(
        ids, None, state, forced=None, sampling=Sampling(temperature=0), max_new_tokens=1, stop=()
    ).ids  # fmt: skip
    assert torch.equal(said[:, 0], torch.stack([expected[0, -1], logits[1, -1]]).argmax(-1))


@torch.no_grad()
def test_a_separate_reader_is_a_copy_of_the_self_attention_whose_keys_stay_unturned():
    source = causal(Qwen2Config, rope_theta=5000.0)
    model = opened(reactive_from_causal(source, **MEMORY, memory_read="cross").eval())
    layer, attention = model.model.decoder[1], source.model.layers[1].self_attn
    state = model.write(model.initial_state(1), tokens(1, 14, seed=1))
    filled = occupied(state.slots)[0]
    x = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(5))
    norm = source.model.layers[1].input_layernorm
    slots = norm(state.slots[1, 0, filled])
    key, value = (getattr(attention, f"{n}_proj")(slots).unflatten(-1, (-1, 8)) for n in "kv")
    key = key + layer.cross_attention.place[filled]
    query = attention.q_proj(norm(x[0])).unflatten(-1, (-1, 8))
    angle = torch.arange(5)[:, None] * 5000.0 ** -(torch.arange(0, 8, 2) / 8)
    cos, sin = (f(angle).repeat(1, 2)[:, None] for f in (torch.cos, torch.sin))
    query = query * cos + torch.cat([-query[..., 4:], query[..., :4]], -1) * sin
    expected = torch.empty(5, 4, 8)
    for token in range(5):
        for head in range(4):
            share = (key[:, head // 2] @ query[token, head] / 8**0.5).softmax(0)
            expected[token, head] = share @ value[:, head // 2]
    expected = 0.7 * attention.o_proj(expected.flatten(1))
    got = layer.cross_attention(
        layer.cross_norm(x), *layer.project_memory(state.slots[1]), model.model.table(5, x), filled[None, None, None]
    )
    torch.testing.assert_close(got[0], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_only_the_layers_that_are_named_read_and_only_their_states_are_kept():
    source = causal()
    every, two = (
        reactive_from_causal(source, **MEMORY, kept_share=1.0, memory_layers=layers).eval() for layers in (None, [0, 2])
    )
    ids = tokens(1, 9, seed=1)
    whole, part = (model.write(model.initial_state(1), ids) for model in (every, two))
    assert part.shape == (2, 1, 12, 32)
    torch.testing.assert_close(part.slots, whole.slots[[0, 2]])
    assert [hasattr(layer, "slot_reader") for layer in two.model.decoder] == [True, False, True]
    with pytest.raises(ValueError, match="doesn't fit this model"):
        two.decode(ids, None, whole)
    # The plain reference: in the layer between, no token sees a slot.
    del every.model.places[1]
    torch.testing.assert_close(two.decode(ids, None, part).logits, every.decode(ids, None, whole).logits)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"memory_layers": [0, 3]}, "must name layers of 0 to 2"),
        ({"memory_layers": [-1]}, "must name layers of 0 to 2"),
        ({"memory_layers": []}, "must name layers of 0 to 2"),
        ({"memory_layers": [1, 1]}, "each once"),
        ({"memory_layers": [2, 1]}, "in ascending order"),
        ({"memory_layers": [1], "memory_write": "attention", "initial_state": "normal"}, "needs memory_write surprise"),
        ({"memory_read": "cross", "memory_write": "attention"}, "nothing else can read an empty memory"),
        ({"memory_read": "crossed"}, "choose one of cross, joint"),
        ({"initial_state": "normal"}, "needs initial_state empty"),
    ],
)
def test_configurations_that_name_no_layer_or_contradict_themselves_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        reactive_from_causal(causal(), **{**MEMORY, "encoder": "own", **changes})


@torch.no_grad()
def test_rows_that_stay_when_others_leave_go_on_as_they_were(pair):
    _, model = pair
    state = model.write(model.initial_state(3), tokens(3, 9, seed=1))
    ids, mask, more = tokens(3, 6, seed=2), torch.tensor([[1] * 6, [1] * 3 + [0] * 3, [1] * 6]), tokens(3, 80, seed=3)
    _, cache = prefill(model, ids, mask, state)
    step(model, more[:, 0], cache)
    cache.select(torch.tensor([1, 2]))
    for place in range(1, 50):  # past the room that the cache begins with
        logits = step(model, more[1:, place], cache)
    for row, length in ((1, 3), (2, 6)):
        whole = torch.cat([ids[row, :length], more[row, :50]])[None]
        expected = model.decode(whole, None, state.rows(slice(row, row + 1))).logits[0, -1]
        torch.testing.assert_close(logits[row - 1], expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_no_row_is_given_to_a_softmax_with_nothing_to_read(pair, monkeypatch):
    # What that gives depends on the kernel: zeros on some, not a number on others.
    _, model = pair
    plain, masked = torch.nn.functional.scaled_dot_product_attention, []

    def watched(query, key, value, mask=None, *more, **options):
        if mask is not None:
            shown = mask if mask.dtype == torch.bool else mask == 0
            masked.append(bool(shown.any(-1).all()))
        return plain(query, key, value, mask, *more, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    ids = tokens(2, 6, seed=2)
    state = model.write(model.initial_state(2), ids, torch.tensor([[1] * 6, [0] * 6]))
    model.decode(ids, None, state)
    model.generate_answers(ids, None, state, max_new_tokens=3)
    assert len(masked) > 2 * len(model.config.reading_layers)
    assert all(masked)


@pytest.mark.parametrize("reader", READERS)
@torch.no_grad()
def test_bf16_and_beams_read_it_too(reader):
    model = opened(reactive_from_causal(causal(Qwen2Config), **MEMORY, **READERS[reader]).to(torch.bfloat16).eval())
    state = model.write(model.initial_state(2), tokens(2, 9, seed=1), torch.tensor([[1] * 9, [0] * 9]))
    ids, mask = tokens(2, 6, seed=2), torch.tensor([[1] * 6, [1] * 3 + [0] * 3])
    assert model.decode(ids, mask, state).logits.isfinite().all()
    assert model.generate_answers(ids, mask, state, max_new_tokens=4).log_probs.isfinite().all()
    model.float()
    flat = torch.cat([torch.tensor([HEADER]), tokens(1, 9), torch.tensor([HEADER]), tokens(1, 4, seed=3)], dim=1)
    one, several = (
        model.generate(
            flat, do_sample=False, num_beams=beams, num_return_sequences=beams, max_new_tokens=4, output_scores=True,
            return_dict_in_generate=True, eos_token_id=None,
        ) for beams in (1, 3)
    )  # fmt: skip
    assert several.sequences.shape == (3, flat.shape[1] + 4)
    state = model.write(model.initial_state(1), flat[:, :12])

    def total(sequence):
        logits = model.decode(sequence[None, 12:], None, state).logits[0, -5:-1].log_softmax(-1)
        return float(logits.gather(1, sequence[-4:, None]).sum())

    assert total(several.sequences[0]) >= total(one.sequences[0]) - 1e-4
    assert [4 * float(score) for score in several.sequences_scores] == pytest.approx(
        [total(sequence) for sequence in several.sequences], abs=1e-3
    )


def test_a_shut_gate_opens_first_and_the_rest_of_its_reader_learns_behind_it():
    model = reactive_from_causal(causal(Qwen2Config), **MEMORY, memory_read="cross", memory_layers=[0, 2])
    parts = model.parts()
    reader = parts["memory_cross_attention"]
    for part in set(parts) - {"memory_cross_attention"}:
        for parameter in parts[part]:
            parameter.requires_grad_(False)
    state, ids = model.unroll(model.initial_state(1), tokens(1, 2, 14))[2], tokens(1, 6, seed=4)

    def learning():
        model.zero_grad()
        model.decode(ids, None, state, labels=ids).loss.backward()
        named = ((n, p.grad) for n, p in model.named_parameters() if p.grad is not None)
        return {name for name, gradient in named if bool(gradient.abs().sum() > 0)}

    gates = {f"model.decoder.{layer}.cross_attention.gate" for layer in (0, 2)}
    assert learning() == gates
    torch.optim.AdamW(reader, lr=1e-3).step()
    assert learning() == {name for name, p in model.named_parameters() if p.requires_grad}
    # Of each layer that reads: two norms, queries, keys and values with biases, the output, places and the gate.
    assert len(reader) == 2 * 9
