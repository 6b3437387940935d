"""Answers from memory: losses against slow references, shares that add up."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mrl.dialogues.collation import collate_episodes, collate_interactions, share
from mrl.dialogues.dataset import Conversation, Exchange
from mrl.dialogues.tokenization import encode_dialogues
from mrl.losses.answer_lm import (
    MemoryAwareConfig,
    answer_weights,
    decode_turns,
    memory_aware_counts,
    memory_aware_loss,
    memory_states,
)
from mrl.losses.answer_log_probs import TokenScores
from mrl.losses.joint_lm import JointConfig, hide_tokens, joint_counts, joint_loss
from mrl.losses.memory_alignment import (
    MemoryTargetConfig,
    memory_target_loss,
    write_counts,
)
from mrl.model import MemoryState

SPECIAL = torch.arange(8)


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


def test_a_fact_counts_only_after_a_thought_that_is_right_too(model, tokenizer, monkeypatch):
    told = (
        Exchange("Ann has the cat", "noted", asks=False),
        Exchange("what", "the cat", think="Ann cat", facts=("cat",), distance=1),
    )
    data = encode_dialogues([Conversation(told, "here")], tokenizer, max_length=24)
    batch = collate_episodes(data, np.arange(1), None, 0)
    config = MemoryAwareConfig(other_turns=0.0)
    at = {}

    def scores(model, ids, mask, scored, memory) -> TokenScores:
        targets = ids[:, 1:][scored[:, 1:]]
        said = F.one_hot(targets, 32).float()
        if at["wrong"] is not None:
            said[at["wrong"]] = 1 - said[at["wrong"]]
        return TokenScores((said + 1e-3).log(), targets, None)

    monkeypatch.setattr("mrl.losses.answer_lm.token_log_probs", scores)
    recalled = []
    for wrong in (None, 0, 1, 2, 3, 4, 5, 6):  # nothing, then [T] Ann cat [A] the cat [EOS]
        at["wrong"] = wrong
        _, turns, _ = decode_turns(model, batch, memory_states(model, batch), answer_weights(batch, config))
        recalled.append(bool(turns.recalled[1]))
    assert recalled == [True, False, False, False, False, True, False, True]


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
