"""Losses against slow references, and gradients that go as far as they are told."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mrl.dialogues.collation import collate_episodes, collate_interactions, share
from mrl.dialogues.dataset import Conversation, parse_row
from mrl.dialogues.tokenization import encode_dialogues
from mrl.losses.answer_lm import (
    MemoryAwareConfig,
    answer_weights,
    memory_aware_counts,
    memory_aware_loss,
    memory_states,
)
from mrl.losses.joint_lm import JointConfig, hide_tokens, joint_counts, joint_loss
from mrl.losses.memory_alignment import (
    MemoryTargetConfig,
    memory_target_loss,
    pool_to_slots,
    target_weight,
    write_counts,
)
from mrl.model import MemoryState
from tests.mrl.conftest import episode

SPECIAL = torch.arange(8)


@pytest.fixture
def data(tokenizer):
    rng = random.Random(0)
    rows = [Conversation(parse_row(episode(rng, 1 + i % 4), ""), "") for i in range(6)]
    return encode_dialogues(rows, tokenizer, max_length=24)


def test_pooling_repeats_tokens_or_averages_neighbours():
    layers = torch.arange(1.0, 5.0).view(1, 1, 4, 1).expand(1, 4, 4, 1)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]])
    pooled = pool_to_slots(layers, mask, 4).squeeze()
    assert pooled.tolist() == [[1, 2, 3, 4], [1, 1, 2, 2], [1, 1.5, 2.5, 3], [0, 0, 0, 0]]
    assert pool_to_slots(layers, mask, 2).squeeze()[0].tolist() == [1.5, 3.5]


def test_the_targets_of_later_writes_keep_more_of_the_memory():
    assert [target_weight(i, 0.9, 0.5, 0.05) for i in (0, 1, 2)] == pytest.approx([0.9, 0.45, 0.4])
    assert target_weight(50, 0.9, 0.5, 0.05) == 0.05


def test_the_joint_loss_is_the_mean_over_words_of_the_batch_and_blind_to_padding(model, data):
    model.eval()
    batch = hide_tokens(collate_interactions(data, np.arange(8), "answer", seed=1), 0.3, SPECIAL, seed=1)
    assert not (batch.hidden & (batch.ids < 8)).any(), "frame tokens and padding are never hidden"
    config = JointConfig(scored="answer", mask_share=0.3)
    got = joint_loss(model, batch, joint_counts(batch), config, mask_token=4)
    words, fills = [], []
    for row in range(8):  # one by one, cut to its own length
        n = int(batch.mask[row].sum())
        ids, hidden = batch.ids[row : row + 1, :n], batch.hidden[row, :n]
        encoded = model.encode(ids.masked_fill(hidden, 4))
        fills.append(F.cross_entropy(model.mlm_logits(encoded.hidden[0, hidden]), ids[0, hidden], reduction="none"))
        logits = model.decode(ids, None, MemoryState(encoded.layers.detach())).logits[0]
        labels = batch.labels[row, 1:n]
        words.append(F.cross_entropy(logits[:-1][labels >= 0], labels[labels >= 0], reduction="none"))
    torch.testing.assert_close(got.loss, torch.cat(words).mean() + torch.cat(fills).mean(), atol=1e-5, rtol=1e-5)


def test_the_decoder_teaches_the_encoder_nothing_in_joint_training(model, data):
    batch = hide_tokens(collate_interactions(data, np.arange(4), "all", seed=1), 0.0, SPECIAL, seed=1)
    joint_loss(model, batch, joint_counts(batch), JointConfig(mask_share=0.0), 4).loss.backward()
    assert all(p.grad is None for p in model.model.encoder.parameters())


def test_shares_of_a_batch_add_up_to_the_whole(model, data):
    batch = hide_tokens(collate_interactions(data, np.arange(9), "all", seed=1), 0.2, SPECIAL, seed=1)
    noisy = JointConfig(noise=0.1, hidden_share=0.2, blank_share=0.3)
    joint = joint_counts(batch)
    whole = joint_loss(model, batch, joint, noisy, 4).loss
    parts = [joint_loss(model, piece, joint, noisy, 4).loss for r in range(2) for piece in share(batch, r, 2, 2)]
    assert float(sum(parts)) == pytest.approx(float(whole), abs=1e-5)
    writes = MemoryTargetConfig(noise=0.1, jitter=0.1)
    dialogues = collate_episodes(data, np.arange(6), None, 0)
    counts = write_counts(dialogues)
    whole = memory_target_loss(model, dialogues, counts, writes).loss
    parts = [memory_target_loss(model, p, counts, writes).loss for r in range(2) for p in share(dialogues, r, 2, 2)]
    assert float(sum(parts)) == pytest.approx(float(whole), abs=1e-5)
    config = MemoryAwareConfig(other_turns=0.5)
    counts = memory_aware_counts(dialogues, config)
    whole = memory_aware_loss(model, dialogues, counts, config).loss
    parts = [memory_aware_loss(model, p, counts, config).loss for r in range(2) for p in share(dialogues, r, 2, 2)]
    assert float(sum(parts)) == pytest.approx(float(whole), abs=1e-5)


def test_answers_are_decoded_from_the_memory_of_earlier_turns_alone(model, data):
    batch = collate_episodes(data, np.arange(6), None, 0)
    config = MemoryAwareConfig()
    got = memory_aware_loss(model, batch, memory_aware_counts(batch, config), config)
    losses, right, asked = [], 0, 0
    for d in range(6):
        state = model.initial_state(1)
        for turn in range(data.first[d], data.first[d + 1]):
            span = slice(data.start[turn], data.start[turn + 1])
            ids = torch.from_numpy(data.tokens[span])[None]
            labels = torch.where(torch.from_numpy(data.flags[span] & 1).bool()[None], ids, -100)
            out = model.decode(ids, None, state, labels=labels)
            losses.append(F.cross_entropy(out.logits, out.targets, reduction="none"))
            if data.asks[turn]:
                asked += 1
                right += int(out.logits[0].argmax()) == int(out.targets[0])  # the fact is the answer's one word
            state = model.write(state, ids)
    torch.testing.assert_close(got.loss, torch.cat(losses).mean(), atol=1e-5, rtol=1e-5)
    assert (int(got.metrics["recalled"]), int(got.metrics["asked_n"])) == (right, asked)


@pytest.mark.parametrize("steps", [1, 2, None])
def test_the_gradient_flows_through_as_many_writes_as_asked(model, data, steps):
    index = np.flatnonzero(data.turns == 5)[:1]
    batch = collate_episodes(data, index, None, 0)
    states = memory_states(model, batch, steps)
    last = model.decode(batch.ids[:, -1], batch.mask[:, -1], states[-1], labels=batch.labels[:, -1])
    start = model.model.initial_memory
    (gradient,) = torch.autograd.grad(last.loss, [start], allow_unused=True)
    reaches = gradient is not None and bool(gradient.abs().sum() > 0)
    assert reaches == (steps is None), "the first write is four before the answer"


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


def test_far_questions_and_needed_ones_weigh_more(data):
    batch = collate_episodes(data, np.flatnonzero(data.turns == 5)[:1], None, 0)
    config = MemoryAwareConfig(other_turns=0.5, distance_power=0.5, fact_weight=2.0)
    weight = answer_weights(batch, config)[0]
    for turn in range(5):
        scored = weight[turn][batch.labels[0, turn] != -100]
        if batch.asks[0, turn]:
            far = float(batch.distance[0, turn]) ** 0.5
            assert scored.tolist() == pytest.approx([2 * far, far]), "the fact, the end token"
        else:
            assert scored.tolist() == [0.5, 0.5]
    assert float(weight[batch.labels[0] == -100].abs().sum()) == 0
    assert float(answer_weights(batch, MemoryAwareConfig(other_share=0.0))[0][~batch.asks[0]].sum()) == 0


def test_an_open_book_is_the_tokens_of_earlier_turns_and_of_no_others(data, model):
    batch = collate_episodes(data, np.arange(4), None, 3)
    config = MemoryAwareConfig(open_book=True)
    counts = memory_aware_counts(batch, config)
    model.eval()
    found = memory_aware_loss(model, batch, counts, config)
    total = 0.0
    for row in range(4):
        pages = []
        for turn in range(batch.ids.shape[1]):
            length = int(batch.mask[row, turn].sum())
            if not length:
                break
            ids, labels = batch.ids[row : row + 1, turn, :length], batch.labels[row : row + 1, turn, :length]
            own = model.encode(ids).layers
            # A first turn sees the beginning of its own encoding.
            book = torch.cat(pages, dim=2) if pages else own[:, :, :1]
            out = model.decode(ids, None, MemoryState(book), labels=labels)
            total += F.cross_entropy(out.logits, out.targets, reduction="sum").item()
            pages.append(own)
    assert float(found.loss) == pytest.approx(total / counts["weight"], rel=1e-4)
