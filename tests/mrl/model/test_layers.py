"""Mimetic starting weights: what is read arrives unchanged, and what is looked for is what resembles the asker.
Attention is the same however it is computed."""

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding, apply_rotary_pos_emb

from mrl.model import ReactiveConfig, ReactiveForCausalLM
from mrl.model.attention import RMSNorm, attend, attend_by_products, rotary_table, rotate


def fresh(**changes) -> ReactiveForCausalLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "memory_slots": 6}
    return ReactiveForCausalLM(ReactiveConfig(**{**sizes, "initial_weights": "mimetic", "gate": "content", **changes}))


@torch.no_grad()
def test_attention_gives_back_the_one_token_that_it_reads():
    model, x = fresh(), torch.randn(3, 1, 64)
    layer, read = model.model.decoder[1], model.model.memory_attention.read
    table = model.model.table(1, x)
    torch.testing.assert_close(layer.attention(x, table), x, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        layer.cross_attention(torch.randn(3, 1, 64), *layer.cross_attention.project_memory(x), table),
        x,
        atol=1e-5,
        rtol=0,
    )
    source = x.expand(2, -1, -1, -1)
    torch.testing.assert_close(read(torch.randn(2, 3, 1, 64), *read.project(source)), source, atol=1e-5, rtol=0)


@torch.no_grad()
def test_shared_key_value_heads_give_back_what_they_have_room_for():
    model, x = fresh(num_key_value_heads=2), torch.randn(1, 1, 64)
    layer = model.model.decoder[0].attention
    value = layer.qkv.weight[-32:]
    torch.testing.assert_close(layer(x, model.model.table(1, x)), x @ value.T @ value, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_question_reads_the_slot_that_resembles_it_before_anything_is_learnt():
    def share_right(**changes) -> float:
        cross = fresh(**changes).model.decoder[0].cross_attention
        slots = torch.randn(200, 6, 64)
        key, _ = cross.project_memory(slots)
        # Half of what is asked for stands in slot 2: a name, without the value that belongs to it.
        asked = torch.cat([slots[:, 2:3, :32], torch.randn(200, 1, 32)], -1)
        query = cross.query(asked).unflatten(-1, (-1, 16))
        return float(((query * key).sum((-1, -2)).argmax(1) == 2).float().mean())

    assert share_right() > 0.95
    assert share_right(initial_weights="normal") < 0.5


def test_saved_weights_are_loaded_and_not_started_anew(tmp_path):
    model = fresh()
    model.save_pretrained(tmp_path)
    torch.manual_seed(1)
    again = ReactiveForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_start_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="initial_weights is 'mimic'; choose one of normal, mimetic"):
        fresh(initial_weights="mimic")


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kind", ["none", "shown", "added"])
def test_attention_by_products_is_the_kernels_with_its_gradients(groups, kind):
    torch.manual_seed(0)
    query, key, value = (torch.randn(3, length, heads, 8) for length, heads in ((5, 4), (9, groups), (9, groups)))
    shown = torch.rand(3, 1, 5, 9) > 0.4
    shown[..., 0] = True
    mask = {"none": None, "shown": shown, "added": torch.randn(3, 1, 1, 9)}[kind]
    found = []
    for way in (attend, attend_by_products):
        inputs = [x.clone().requires_grad_() for x in (query, key, value)]
        out = way(*inputs, mask)
        out.square().sum().backward()
        found.append([out.detach(), *(x.grad for x in inputs)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_processor_computes_attention_in_bf16_by_products_with_gradients_and_without(monkeypatch):
    taken = []
    monkeypatch.setattr("mrl.model.attention.attend_by_products", lambda *inputs: taken.append(inputs) or inputs[0])
    x = torch.randn(2, 3, 2, 8)
    attend(x, x, x)
    with torch.autocast("cpu", torch.bfloat16):
        attend(x, x, x)
        with torch.no_grad():
            attend(x, x, x)
        attend(x, x, x, causal=True)
    assert len(taken) == 2


@pytest.mark.parametrize("width", [8, 48])
def test_the_norm_and_its_gradients_are_those_of_pytorch(width):
    torch.manual_seed(0)
    norm, weight = RMSNorm(width, 1e-4), torch.randn(width, dtype=torch.double)
    x = torch.randn(3, 5, width, dtype=torch.double)
    x[0, 0] = 0  # a slot that holds nothing
    taught = torch.randn_like(x)

    def gradients(compute):
        inputs = x.clone().requires_grad_(), weight.clone().requires_grad_()
        out = compute(*inputs)
        out.backward(taught)
        return out.detach(), *(each.grad for each in inputs)

    found = gradients(lambda x, weight: torch.func.functional_call(norm, {"weight": weight}, (x,)))
    expected = gradients(lambda x, weight: torch.nn.functional.rms_norm(x, (width,), weight, 1e-4))
    for ours, pytorchs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, pytorchs, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("base", [10_000.0, 100_000.0])
def test_weights_of_another_model_are_turned_and_normed_to_the_bit(base):
    rope = {"rope_type": "default", "rope_theta": base}
    config = LlamaConfig(hidden_size=128, num_attention_heads=2, rope_parameters=rope)
    x = torch.randn(1, 300, 2, 64)
    cos, sin = LlamaRotaryEmbedding(config)(x, torch.arange(300)[None])
    theirs, _ = apply_rotary_pos_emb(x, x, cos, sin, unsqueeze_dim=2)
    table = rotary_table(300, 64, base, x.device, x.dtype, to_the_bit=True)
    assert torch.equal(rotate(x, table, to_the_bit=True), theirs)
    exact = rotary_table(300, 64, base, x.device, x.dtype)
    torch.testing.assert_close(rotate(x, exact), theirs, atol=2e-4, rtol=0)
    assert not torch.equal(rotate(x, exact), theirs), "angles in fp64 are nearer to the truth than to that model"
    theirs, ours = LlamaRMSNorm(64, 1e-5), RMSNorm(64, 1e-5, to_the_bit=True)
    torch.nn.init.normal_(theirs.weight)
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours(x), theirs(x))
