"""Memory attention: gates worked by hand, variants against slow references."""

import math

import pytest
import torch
import torch.nn.functional as F

from mrl.model import MemoryState, ReactiveConfig, ReactiveForCausalLM
from mrl.model.memory import MemoryAttention, ResidualGate


def small_config(**changes) -> ReactiveConfig:
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 4, "intermediate_size": 48, "memory_slots": 5}
    return ReactiveConfig(**{**sizes, **changes})


def small_model(**changes) -> ReactiveForCausalLM:
    torch.manual_seed(0)
    return ReactiveForCausalLM(small_config(**changes)).eval()


OLD, NEW = torch.tensor([1.0, 3.0]), torch.tensor([5.0, -1.0])  # one slot of width 2: status (6 + 2) / 2 = 4


@pytest.mark.parametrize(
    ("kind", "activation", "weight", "expected"),
    [
        ("off", "sigmoid", 0.0, [6.0, 2.0]),
        ("static", "sigmoid", math.log(3), [4.0, 0.0]),  # g = 3/4
        ("static", "tanh", 0.0, [6.0, 2.0]),  # g = 0: a plain sum
        ("static", "tanh", math.atanh(0.5), [8.0, 0.0]),  # 1.5 new + 0.5 old
        ("elementwise", "sigmoid", math.log(3) / 4, [4.0, 0.0]),  # z = w * 4
        ("linear", "sigmoid", math.log(3) / 4, [4.0, 0.0]),
    ],
)
def test_gates_by_hand(kind, activation, weight, expected):
    gate = ResidualGate(kind, activation, "slot", layers=1, slots=1, start=0.0)
    if kind != "off":
        gate.weight.data.fill_(weight)
    result = gate(OLD.view(1, 1, 1, 2), NEW.view(1, 1, 1, 2))
    torch.testing.assert_close(result.flatten(), torch.tensor(expected))


@pytest.mark.parametrize("kind", ["static", "elementwise", "linear"])
@pytest.mark.parametrize("scope", ["slot", "layer"])
def test_gate_scopes_have_a_weight_per_slot_or_per_layer(kind, scope):
    gate = ResidualGate(kind, "sigmoid", scope, layers=3, slots=5, start=0.0)
    outputs = 5 if scope == "slot" else 1
    assert gate.weight.shape == (3, 5 if kind == "linear" else 1, outputs)
    assert gate(torch.randn(3, 2, 5, 8), torch.randn(3, 2, 5, 8)).shape == (3, 2, 5, 8)


def test_a_content_gate_opens_for_some_interactions_only():
    torch.manual_seed(0)
    gate = ResidualGate("content", "sigmoid", "slot", layers=1, slots=64, start=0.0, width=16)
    torch.nn.init.normal_(gate.weight, std=6.0 / 4)
    old, one = torch.zeros(1, 1, 64, 16), torch.randn(16)
    news = torch.stack([one, one + 0.1 * torch.randn(16), torch.randn(16)]).view(3, 1, 1, 1, 16)
    # The state was 0, so how much of the new value is there is how far each slot has opened.
    opened = [(gate(old, new.expand(1, 1, 64, 16)) / new).mean(-1).flatten() for new in news]
    assert 0.2 < float((opened[0] > 0.5).float().mean()) < 0.8
    alike, other = (((opened[0] > 0.5) == (x > 0.5)).float().mean() for x in opened[1:])
    assert alike > 0.9 > 0.75 > other
    weight, bias, new = gate.weight[0, 3], gate.bias[0, 0, 3], news[2].flatten()
    z = (new / new.square().mean().sqrt() * weight).sum() + bias
    assert float(opened[2][3].detach()) == pytest.approx(float(torch.sigmoid(z).detach()), rel=1e-4)


def norm(x, weight):
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def slow_attention(attention, layer, x, source, table=None):
    """One layer, one head after the other, from the formula (test reference; the model itself uses SDPA)."""
    width = attention.head_dim
    query = (x @ attention.query[layer]).split(width, -1)
    key, value = (part.split(width, -1) for part in (source @ attention.key_value[layer]).chunk(2, -1))
    heads = []
    for q, k, v in zip(query, key, value, strict=True):
        if table is not None:
            half = torch.cat([-k[..., width // 2 :], k[..., : width // 2]], -1)
            k = k * table[0] + half * table[1].abs() * table[1].sign().abs() * sine_sign(table)
        heads.append(F.softmax(q @ k.transpose(-1, -2) / math.sqrt(width), -1) @ v)
    return torch.cat(heads, -1) @ attention.out[layer]


def sine_sign(table):
    # The stored sines carry the sign of the first half; the second half holds the plain sine.
    plain = table[1][..., table.shape[-1] // 2 :]
    return torch.cat([plain, plain], -1).sign()


@pytest.mark.parametrize("variant", ["simple", "self", "interlayer", "self-interlayer"])
@pytest.mark.parametrize("groups", [1, 2])
def test_variants_equal_a_layer_by_layer_reference(variant, groups):
    torch.manual_seed(1)
    config = small_config(memory_variant=variant, memory_groups=groups, gate="static", gate_init=0.3)
    model = ReactiveForCausalLM(config).eval()
    memory: MemoryAttention = model.model.memory_attention
    state, encoded = torch.randn(4, 2, 5, 32), torch.randn(4, 2, 7, 32)
    table = model.model.table(7, encoded)
    share = torch.sigmoid(torch.tensor(0.3))
    expected = []
    for layer in range(4):
        base = old = state[layer]
        if variant != "simple":
            normed = norm(old, memory.mixing_norm.weight[layer, 0])
            size = 4 // groups
            first = layer // size * size
            source = normed
            if variant != "self":
                source = norm(state[first : first + size].mean(0), memory.mean_norm.weight[0, 0])
            if variant == "self-interlayer":
                source = share * source + (1 - share) * normed
            base = share * slow_attention(memory.mixing, layer, normed, source) + (1 - share) * old
        tokens = norm(encoded[layer], memory.encoded_norm.weight[layer, 0])
        read = slow_attention(memory.read, layer, norm(base, memory.state_norm.weight[layer, 0]), tokens, table)
        expected.append(share * read + (1 - share) * base)
    torch.testing.assert_close(
        model.update_memory(MemoryState(state), encoded).slots, torch.stack(expected), atol=1e-5, rtol=1e-4
    )
