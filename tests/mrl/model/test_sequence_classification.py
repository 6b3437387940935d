"""Scoring texts: with a causal model's weights, with or without a memory, there and back through a checkpoint."""

import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from mrl.model import MemoryState, ReactiveConfig, ReactiveForCausalLM, ReactiveForSequenceClassification


@pytest.fixture(scope="module")
def actor() -> ReactiveForCausalLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "memory_slots": 5}
    return ReactiveForCausalLM(ReactiveConfig(**sizes, initial_state_std=1.0)).eval()


def scorer_of(actor: ReactiveForCausalLM, **options) -> ReactiveForSequenceClassification:
    scorer = ReactiveForSequenceClassification.from_causal_lm(actor, **options).eval()
    torch.nn.init.normal_(scorer.score.out.weight)
    return scorer


def texts(rows: int, length: int = 7) -> torch.Tensor:
    return torch.randint(8, 60, (rows, length), generator=torch.Generator().manual_seed(rows))


def test_without_a_memory_a_score_is_the_head_on_the_mean_of_the_encoder(actor):
    scorer = scorer_of(actor, num_labels=3, reads_memory=False)
    ids, mask = texts(2), torch.ones(2, 7, dtype=torch.long)
    mask[1, 4:] = 0
    with torch.no_grad():
        logits = scorer(ids, mask).logits
        means = torch.stack([actor.encode(ids[row : row + 1, :n]).hidden[0].mean(0) for row, n in enumerate((7, 4))])
        expected = scorer.score.out(torch.nn.functional.silu(scorer.score.dense(means)))
    assert logits.shape == (2, 3)
    torch.testing.assert_close(logits, expected)
    ids[1, 5] = 9
    with torch.no_grad():
        torch.testing.assert_close(scorer(ids, mask).logits, logits)  # padding says nothing


def test_a_memory_is_read_as_the_decoder_reads_it(actor):
    scorer = scorer_of(actor)
    memory, ids = actor.initial_state(seeds=[1, 2]), texts(2)
    with torch.no_grad():
        x = actor.model.embed(ids)
        table = actor.model.table(7, x)
        for layer, (reader, encoder) in enumerate(zip(actor.model.decoder, actor.model.encoder, strict=True)):
            key, value = reader.project_memory(memory.slots[layer])
            x = encoder(x + reader.cross_attention(reader.cross_norm(x), key, value, table), table, None)
        expected = scorer.score(actor.model.encoder_norm(x).mean(1))
        torch.testing.assert_close(scorer(ids, None, memory).logits, expected)
        half = MemoryState(memory.slots, torch.tensor([[True, True, False, False, False]] * 2))
        other = MemoryState(memory.slots.index_fill(2, torch.tensor([2, 3, 4]), 9.0), half.readable)
        torch.testing.assert_close(scorer(ids, None, half).logits, scorer(ids, None, other).logits)
        assert not torch.allclose(scorer(ids, None, half).logits, expected)


def test_a_new_head_scores_everything_alike_and_the_weights_are_copies(actor):
    scorer = ReactiveForSequenceClassification.from_causal_lm(actor)
    memory = actor.initial_state(seeds=[1, 2])
    assert scorer(texts(2), None, memory).logits.tolist() == [[0.0], [0.0]]
    torch.nn.init.normal_(scorer.score.out.weight)
    scorer(texts(2), None, memory).logits.sum().backward()
    assert all(p.grad is not None for p in scorer.parameters())
    assert all(p.grad is None for p in actor.parameters())
    before = actor.model.embedding.weight.clone()
    with torch.no_grad():
        scorer.model.embedding.weight.zero_()
    assert torch.equal(actor.model.embedding.weight, before)


def test_building_a_scorer_draws_its_head_and_nothing_else(actor):
    torch.manual_seed(3)
    one = ReactiveForSequenceClassification.from_causal_lm(actor).score.dense.weight
    torch.manual_seed(3)
    dense = torch.nn.Linear(32, 32)
    torch.testing.assert_close(one, dense.weight)


@pytest.mark.parametrize("reads_memory", [True, False])
def test_a_scorer_comes_back_from_its_checkpoint(actor, tmp_path, reads_memory):
    scorer = scorer_of(actor, num_labels=2, reads_memory=reads_memory)
    scorer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_reactive.ReactiveConfig",
        "AutoModelForSequenceClassification": "sequence_classification.ReactiveForSequenceClassification",
    }
    assert (tmp_path / "memory_state.py").exists()
    memory = actor.initial_state(seeds=[1, 2]) if reads_memory else None
    for load in (ReactiveForSequenceClassification, AutoModelForSequenceClassification):
        back = load.from_pretrained(tmp_path)
        assert type(back) is ReactiveForSequenceClassification
        assert back.config.num_labels == 2
        with torch.no_grad():
            assert torch.equal(back(texts(2), None, memory).logits, scorer(texts(2), None, memory).logits)


def test_a_memory_that_is_missing_or_of_no_use_is_refused(actor):
    with pytest.raises(ValueError, match="classifier_reads_memory"):
        scorer_of(actor)(texts(1))
    with pytest.raises(ValueError, match="classifier_reads_memory"):
        scorer_of(actor, reads_memory=False)(texts(1), None, actor.initial_state(1))
    with pytest.raises(ValueError, match=r"doesn't fit.*\[2, 1, 5, 32\]"):
        scorer_of(actor)(texts(1), None, MemoryState(torch.zeros(3, 1, 5, 32)))
    with pytest.raises(ValueError, match="memory_slots 0"):
        config = ReactiveConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, memory_slots=0)
        ReactiveForSequenceClassification.from_causal_lm(ReactiveForCausalLM(config))
