"""The one primitive that scores answers, against the plain way: decode everything, look the tokens up."""

import pytest
import torch

from mrl.losses.answer_log_probs import TokenScores, answer_log_probs, token_log_probs
from mrl.model import Sampling


def rows(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randint(8, 30, mask.shape, generator=torch.Generator().manual_seed(3)), mask


def test_scores_are_what_a_decoder_says_of_each_token(model):
    query, answer = rows(3, 5, 2), rows(4, 2, 3)
    scored = answer[1].clone()
    scored[:, 0] = False
    memory = model.eval().initial_state(seeds=[1, 2, 3])
    scores = answer_log_probs(model, query, answer, scored, memory)
    expected, entropy, right = [], [], []
    for b in range(3):
        question, said = query[0][b][query[1][b]], answer[0][b][answer[1][b]]
        ids = torch.cat([question, said])[None]
        logits = model.decode(ids, None, memory.rows(slice(b, b + 1))).logits[0].log_softmax(-1)
        for place in range(len(question) + 1, ids.shape[1]):
            line = logits[place - 1]
            expected.append(line[ids[0, place]])
            entropy.append(-(line.exp() * line).sum())
            right.append(bool(line.argmax() == ids[0, place]))
    torch.testing.assert_close(scores.log_probs, torch.stack(expected), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores.entropy, torch.stack(entropy), atol=1e-5, rtol=1e-5)
    assert scores.right.tolist() == right
    assert len(scores.targets) == int(scored.sum())


@pytest.mark.parametrize("sampling", [Sampling(temperature=0.5), Sampling(top_k=3), Sampling(top_p=0.6)])
def test_scores_are_of_the_distribution_that_was_sampled_from(model, sampling):
    answer = rows(6)
    scored = torch.ones_like(answer[1])
    scored[:, 0] = False
    scores = token_log_probs(model.eval(), *answer, scored, model.initial_state(seeds=[1]), sampling)
    torch.testing.assert_close(scores.distribution.exp().sum(-1), torch.ones(5), atol=1e-5, rtol=0)
    possible = scores.distribution.isfinite().sum(-1)
    assert (possible == (model.config.vocab_size if sampling.temperature != 1 else possible)).all()
    if sampling.top_k:
        assert (possible == sampling.top_k).all()


def test_a_first_token_is_never_scored(model):
    ids, mask = rows(4)
    scores = token_log_probs(model.eval(), ids, mask, torch.ones_like(mask), model.initial_state(seeds=[1]))
    assert len(scores.targets) == 3


def test_the_slope_of_the_entropy_is_that_of_its_definition():
    torch.manual_seed(0)
    logits = torch.randn(4, 9, dtype=torch.double)
    logits[1, 3:] = float("-inf")  # top-k has ruled them out
    given, kept = logits.clone().requires_grad_(), [logits[0], logits[1, :3], logits[2], logits[3]]
    TokenScores(given.log_softmax(-1), torch.zeros(4, dtype=torch.long), None).entropy.sum().backward()
    for row, left in enumerate(kept):
        left = left.clone().requires_grad_()
        torch.distributions.Categorical(logits=left).entropy().backward()
        torch.testing.assert_close(given.grad[row, : len(left)], left.grad)
        assert not given.grad[row, len(left) :].any()
