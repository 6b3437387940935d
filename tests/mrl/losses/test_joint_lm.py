"""Joint language modelling against slow references."""

import numpy as np
import torch
import torch.nn.functional as F

from mrl.dialogues.collation import collate_interactions
from mrl.losses.joint_lm import JointConfig, hide_tokens, joint_counts, joint_loss
from mrl.model import MemoryState

SPECIAL = torch.arange(8)


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
