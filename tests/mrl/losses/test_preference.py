"""Losses over pairs against those of the installed TRL, and what they refuse."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from trl import DPOTrainer

from mrl.losses.preference import PairLogProbs, PreferenceConfig, pair_loss, pair_metrics
from pipeline.config import parse_config
from pipeline.errors import InputError

CHOSEN_TOKENS, REJECTED_TOKENS, WIDTH = [3, 1, 4], [2, 2, 5], 6


def of_trl(config: PreferenceConfig, log_probs: torch.Tensor, mask: torch.Tensor, reference: torch.Tensor):
    """Loss and figures of TRL's trainer for token log-probs and mask [2n, WIDTH - 1]."""
    zeros = torch.zeros_like(log_probs)
    outputs = SimpleNamespace(log_probs=log_probs, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())

    def model(**_):
        return outputs

    model.training = True
    accelerator = SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x)
    metrics = {"train": defaultdict(list)}
    trainer = SimpleNamespace(
        model=model, accelerator=accelerator, aux_loss_enabled=False, ld_alpha=None, precompute_ref_logps=True,
        f_divergence_type="reverse_kl", loss_types=config.loss_type, loss_weights=config.weights, beta=config.beta,
        label_smoothing=config.label_smoothing, use_weighting=False, _metrics=metrics, _total_train_tokens=0,
        _tp_size=1,        args=SimpleNamespace(discopop_tau=config.discopop_tau),
    )  # fmt: skip
    padded = torch.nn.functional.pad(mask, (1, 0))
    inputs = {
        "input_ids": torch.zeros_like(padded), "attention_mask": torch.ones_like(padded), "completion_mask": padded,
        "ref_chosen_logps": reference[0], "ref_rejected_logps": reference[1],
    }  # fmt: skip
    loss = DPOTrainer._compute_loss(trainer, model, inputs, return_outputs=False)
    return loss, {name: values[0] for name, values in metrics["train"].items()}


@pytest.fixture
def drawn():
    rng = torch.Generator().manual_seed(3)
    mask = torch.tensor([[1] * n + [0] * (WIDTH - 1 - n) for n in (*CHOSEN_TOKENS, *REJECTED_TOKENS)])
    log_probs = -torch.rand(6, WIDTH - 1, generator=rng) * 3 * mask
    reference = -torch.rand(2, 3, generator=rng) * 6
    return log_probs, mask, reference


@pytest.mark.parametrize(
    "section",
    [
        *({"loss_type": [name]} for name in ("sigmoid", "hinge", "ipo", "nca_pair", "bco_pair", "sppo_hard")),
        *({"loss_type": [name]} for name in ("apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm")),
        {"loss_type": ["robust"], "label_smoothing": 0.1},
        {"loss_type": ["exo_pair"], "label_smoothing": 0.01, "beta": 0.7},
        {"loss_type": ["sigmoid", "sft", "ipo"], "loss_weights": [0.5, 2.0, 0.1], "beta": 0.3},
    ],
)
def test_losses_and_figures_are_those_of_trl(section, drawn):
    log_probs, mask, reference = drawn
    config = parse_config(PreferenceConfig, section)
    wanted, figures = of_trl(config, log_probs, mask, reference)
    sums, tokens = log_probs.sum(1).view(2, 3), mask.sum(1).view(2, 3)
    shares = [
        PairLogProbs(*sums[:, part], *reference[:, part], *tokens[:, part]) for part in (slice(0, 2), slice(2, 3))
    ]
    loss = sum(pair_loss(p, config, 3, sum(CHOSEN_TOKENS)) for p in shares)
    assert float(loss) == pytest.approx(float(wanted), rel=1e-5)
    for name in ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen"):
        mean = sum(float(pair_metrics(p, config.beta)[name]) for p in shares) / 3
        assert mean == pytest.approx(figures[name], rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"loss_type": ["dpo"]}, "'dpo' is not one of .*sigmoid"),
        ({"loss_type": []}, "loss_type is empty"),
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]}, "loss_weights needs 2 numbers"),
        ({"loss_type": ["exo_pair"]}, "exo_pair takes its logarithm"),
        ({"label_smoothing": 0.1}, "belongs to robust and exo_pair"),
        ({"loss_type": ["robust"], "label_smoothing": 0.5}, "below 0.5"),
    ],
)
def test_settings_that_no_loss_can_have_are_refused(section, message):
    with pytest.raises(InputError, match=message):
        parse_config(PreferenceConfig, section)
