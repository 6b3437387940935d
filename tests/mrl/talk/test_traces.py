"""What the pictures show, against plain arithmetic."""

import math

import torch

from mrl.model import MemoryState
from mrl.talk.traces import cache_bytes, full_history_ms, slots_moved, slots_read


def test_moved_is_the_distance_over_both_lengths():
    before = MemoryState(torch.tensor([[3.0, 4.0], [1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])[None, None])
    after = MemoryState(torch.tensor([[3.0, 4.0], [0.0, 1.0], [-2.0, 0.0], [0.0, 5.0]])[None, None])
    expected = torch.tensor([[0.0, math.sqrt(2) / 2, 1.0, 1.0]])
    torch.testing.assert_close(slots_moved(before, after), expected)


def test_read_is_the_mean_attention_of_the_answers_positions(model, monkeypatch):
    """Against weights got by giving each slot in turn a value of its own: with one-hot values, what attention returns
    is its weights."""
    ids, state = [2, 5, 8, 9, 6, 10, 11, 3], model.initial_state(1)
    seen: dict[int, torch.Tensor] = {}
    for number, layer in enumerate(model.model.decoder):
        reader = layer.cross_attention

        def forward(x, key, value, table, mask=None, *, reader=reader, number=number):
            from mrl.model.attention import attend, rotate

            query = rotate(reader.query(x).unflatten(-1, (-1, reader.head_dim)), table)
            slots = key.shape[1]
            one_hot = torch.eye(reader.head_dim)[:slots][None, :, None].expand(1, -1, reader.kv_heads, -1)
            mixed = attend(query, key, one_hot).unflatten(-1, (-1, reader.head_dim))[0, :, :, :slots]
            seen[number] = mixed[4:7].mean((0, 1))
            return reader.out(attend(query, key, value))

        monkeypatch.setattr(reader, "forward", forward)
    read = slots_read(model, ids, state, 4, 7)
    torch.testing.assert_close(read, torch.stack([seen[number] for number in sorted(seen)]).detach())
    torch.testing.assert_close(read.sum(1), torch.ones(2))
    assert not any(layer.cross_attention._forward_pre_hooks for layer in model.model.decoder)


def test_a_cache_has_keys_and_values_of_every_layer_and_token(model):
    # 2 layers of 4 heads with 8 numbers, each as key and value, 4 bytes a number.
    assert cache_bytes(model.config, 10) == 2 * 2 * 4 * 8 * 4 * 10


def test_reading_everything_again_is_timed(model):
    assert full_history_ms(model, [2, 5, 8] * 50) > 0
