"""Models from nothing: the shape, and the structure laid into the random weights."""

import json
from dataclasses import replace

import pytest
import torch

from pipeline.errors import InputError, SettingError
from post_training.recipes.model import ArchitectureConfig, StartConfig
from post_training.recipes.stages import InitialiseConfig
from post_training.stages.initialise import new_model
from tests.post_training import toy

SHAPE = ArchitectureConfig(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4)


def test_a_head_of_the_first_layer_looks_back_by_its_distance():
    torch.manual_seed(0)
    model = new_model(SHAPE, StartConfig(look_back=[1, 2], look_back_strength=6.0), toy.tokenizer())
    model.set_attn_implementation("eager")
    ids = torch.randint(3, 300, (1, 30))
    weights = model(input_ids=ids, output_attentions=True).attentions[0][0]  # [heads, query, key]
    for head, distance in ((0, 1), (1, 2)):
        looked_at = weights[head].argmax(dim=-1)[4:]
        assert (looked_at == torch.arange(4, 30) - distance).all()


@pytest.mark.parametrize("kv_heads", [None, 2])
def test_heads_of_the_second_layer_find_what_followed_the_present_words(kv_heads):
    torch.manual_seed(0)
    shape = replace(SHAPE, hidden_size=512, num_key_value_heads=kv_heads)
    start = StartConfig(look_back=[1, 2], induction=24.0, embedding_std=1.0)
    model = new_model(shape, start, toy.tokenizer())
    assert float(model.get_input_embeddings().weight.detach().std()) == pytest.approx(1.0, rel=0.05)
    model.set_attn_implementation("eager")
    once = torch.randperm(250)[:40] + 3
    weights = model(input_ids=torch.cat([once, once])[None], output_attentions=True).attentions[1][0]
    asking = torch.arange(42, 80)
    followed = weights[:, asking, asking - 39].detach().mean(dim=-1)  # [head]
    per_group = 4 // (kv_heads or 4)
    assert (followed[[0, per_group]] > 10 / 60).all()  # of some 60 tokens to look at
    assert followed[3] < 2 / 60


def test_each_of_these_heads_goes_by_another_word():
    torch.manual_seed(0)
    start = StartConfig(look_back=[1, 2], induction=24.0, embedding_std=1.0)
    model = new_model(replace(SHAPE, hidden_size=512), start, toy.tokenizer())
    model.set_attn_implementation("eager")
    words = torch.randperm(250)[:60] + 3
    words[-2] = words[20]  # the token before the last stood at 20 already, the last one nowhere
    last = model(input_ids=words[None], output_attentions=True).attentions[1][0][:, -1].detach()
    assert last[1].argmax() == 22
    assert last[1][22] > 3 * last[0][22]


def test_induction_without_what_it_reads_is_refused():
    for missing in ({"look_back": []}, {"look_back": [1, 3]}, {"copying": 0.0}):
        with pytest.raises(SettingError, match="give both"):
            StartConfig(induction=8.0, **missing)
    with pytest.raises(InputError, match="second layer"):
        new_model(replace(SHAPE, num_hidden_layers=1), StartConfig(induction=8.0), toy.tokenizer())


def test_copying_makes_attention_write_what_it_reads():
    torch.manual_seed(0)
    model = new_model(SHAPE, StartConfig(copying=1.0, look_back=[]), toy.tokenizer())
    attention = model.model.layers[1].self_attn
    x = torch.randn(5, 64)
    torch.testing.assert_close(attention.o_proj(attention.v_proj(x)), x, atol=1e-4, rtol=1e-4)


def test_the_vocabulary_is_the_tokenizers_and_bad_shapes_are_refused():
    tokenizer = toy.tokenizer()
    assert new_model(SHAPE, StartConfig(), tokenizer).config.vocab_size == len(tokenizer)
    with pytest.raises(ValueError, match="multiple"):
        ArchitectureConfig(hidden_size=65)
    with pytest.raises(InputError, match="fewer heads"):
        new_model(ArchitectureConfig(num_attention_heads=2), StartConfig(look_back=[1, 2, 3]), tokenizer)


def test_a_mixture_of_experts_is_made_and_trained(tmp_path):
    tokenizer = toy.tokenizer()
    shape = replace(SHAPE, num_experts=3, experts_per_token=2)
    with pytest.raises(SettingError, match="look_back"):
        InitialiseConfig(output_dir=tmp_path, tokenizer="t", architecture=shape)
    with pytest.raises(SettingError, match="only 3 experts"):
        replace(shape, experts_per_token=4)
    model = new_model(shape, StartConfig(look_back=[]), tokenizer)
    config = model.config
    assert (config.model_type, config.num_local_experts, config.num_experts_per_tok) == ("mixtral", 3, 2)
    model.save_pretrained(tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    rows = toy.write_rows(tmp_path / "rows.jsonl", toy.rows(8))
    found = toy.run("sft", toy.recipe(tmp_path / "start", rows, tmp_path / "run", max_steps=4))
    assert found["status"] == "complete"
    losses = [line["loss"] for line in map(json.loads, (tmp_path / "run" / "metrics.jsonl").open()) if "loss" in line]
    assert losses[-1] < losses[0]
