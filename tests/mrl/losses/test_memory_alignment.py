"""Self-supervised memory attention: what each write should leave."""

import numpy as np
import pytest
import torch

from mrl.dialogues.collation import collate_episodes
from mrl.losses.memory_alignment import (
    MemoryTargetConfig,
    memory_target_loss,
    pool_to_slots,
    target_weight,
    write_counts,
)


def test_pooling_repeats_tokens_or_averages_neighbours():
    layers = torch.arange(1.0, 5.0).view(1, 1, 4, 1).expand(1, 4, 4, 1)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]])
    pooled = pool_to_slots(layers, mask, 4).squeeze()
    assert pooled.tolist() == [[1, 2, 3, 4], [1, 1, 2, 2], [1, 1.5, 2.5, 3], [0, 0, 0, 0]]
    assert pool_to_slots(layers, mask, 2).squeeze()[0].tolist() == [1.5, 3.5]


def test_the_targets_of_later_writes_keep_more_of_the_memory():
    assert [target_weight(i, 0.9, 0.5, 0.05) for i in (0, 1, 2)] == pytest.approx([0.9, 0.45, 0.4])
    assert target_weight(50, 0.9, 0.5, 0.05) == 0.05


def test_memory_pretraining_moves_towards_its_target_and_touches_the_memory_alone(model, data):
    batch = collate_episodes(data, np.arange(6), None, 0)
    for name, parameters in model.parts().items():
        for parameter in parameters:
            parameter.requires_grad_(name == "memory_attention")
    adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(15):
        loss = memory_target_loss(model, batch, write_counts(batch), MemoryTargetConfig()).loss
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.grad is None for p in model.model.encoder.parameters())
