"""A GGUF file, written here tensor by tensor, becomes the model that it was made of."""

import json

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from pipeline.errors import InputError
from pipeline.run import open_run
from post_training.initialise import InitialiseConfig, main
from post_training.policy import PolicyConfig, load_policy
from tests.post_training import toy

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def llama(vocabulary: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        **shape, num_key_value_heads=2, vocab_size=vocabulary, max_position_embeddings=64, tie_word_embeddings=True,
        initializer_range=0.2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a head's two halves in turn, as GGUF's rotary embedding wants them."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write(folder, model, tokenizer, architecture="llama", name="tiny.gguf"):
    folder.mkdir(exist_ok=True)
    writer = gguf.GGUFWriter(folder / name, architecture)
    config = model.config
    writer.add_name("A Leftover Name")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    state = toy_state(tokenizer)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(state["tokens"])
    writer.add_token_merges(state["merges"])
    writer.add_token_types([3 if t in tokenizer.all_special_tokens else 1 for t in state["tokens"]])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    for key, tensor in model.state_dict().items():
        value = tensor.numpy()
        if key == "model.embed_tokens.weight":
            writer.add_tensor("token_embd.weight", value)
        elif key == "model.norm.weight":
            writer.add_tensor("output_norm.weight", value)
        elif key.startswith("model.layers."):
            _, _, layer, rest = key.split(".", 3)
            inner = rest.removesuffix(".weight")
            heads = {"self_attn.q_proj": config.num_attention_heads, "self_attn.k_proj": config.num_key_value_heads}
            value = interleaved(value, heads[inner]) if inner in heads else value
            writer.add_tensor(f"blk.{layer}.{NAMES[inner]}.weight", np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder


def toy_state(tokenizer):
    inner = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = tokenizer.get_vocab()
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in inner["model"]["merges"]]
    return {"tokens": sorted(vocabulary, key=vocabulary.__getitem__), "merges": merges}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder with tiny.gguf, the model and the tokenizer behind it."""
    tokenizer = toy.tokenizer()
    model = llama(len(tokenizer))
    return write(tmp_path_factory.mktemp("gguf") / "weights", model, tokenizer), model, tokenizer


def test_the_model_of_the_file_is_an_ordinary_checkpoint(made, tmp_path):
    folder, original, tokenizer = made
    model = {"name": str(folder), "gguf_file": "tiny.gguf", "special_tokens": ["<think>", "</think>"]}
    config = InitialiseConfig(output_dir=tmp_path / "out", model=PolicyConfig(**model))
    with open_run(config, stage="initialise", output_dir=config.output_dir, seed=1) as run:
        main(config, run)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model")
    its_tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out" / "model")
    assert not hasattr(saved.config, "quantization_config")
    assert "Leftover" not in (tmp_path / "out" / "model" / "config.json").read_text()
    text = "<|im_start|>user\nsay red blue<|im_end|>\n"
    ids = its_tokenizer(text, return_tensors="pt").input_ids
    assert ids.tolist() == [tokenizer(text).input_ids]
    with torch.no_grad():
        known = saved(ids).logits[..., : len(tokenizer)]
        torch.testing.assert_close(known, original(ids).logits, atol=1e-4, rtol=1e-4)
    assert (its_tokenizer.eos_token, its_tokenizer.pad_token) == (tokenizer.eos_token, tokenizer.pad_token)
    assert saved.config.eos_token_id == saved.generation_config.eos_token_id == tokenizer.eos_token_id
    chat = [{"role": "user", "content": "say red"}]
    rendered = its_tokenizer.apply_chat_template(chat, tokenize=False)
    assert rendered == tokenizer.apply_chat_template(chat, tokenize=False)
    # The two new tokens stay in what is decoded, and their rows are the mean of the old ones.
    marks = its_tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    assert marks == [len(tokenizer), len(tokenizer) + 1]
    assert its_tokenizer.decode(marks, skip_special_tokens=True) == "<think></think>"
    rows = saved.get_input_embeddings().weight
    torch.testing.assert_close(rows[marks], original.get_input_embeddings().weight.mean(0).expand(2, -1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gguf_file": "tinny.gguf"}, "has no tinny.gguf; did you mean tiny.gguf?"),
        ({"gguf_file": "tiny.bin"}, "tiny.bin is no GGUF file"),
        ({"gguf_file": "tiny-00001-of-00003.gguf"}, "one of several parts"),
        ({}, "holds GGUF weights; write model.gguf_file: tiny.gguf"),
        ({"gguf_file": "broken.gguf"}, "model.gguf_file: .* can't be loaded: .*broken.gguf"),
        ({"gguf_file": "other.gguf"}, "architecture"),
    ],
)
def test_what_is_no_model_is_one_line(made, tmp_path, given, message):
    folder, model, tokenizer = made
    name = given.get("gguf_file")
    if name in ("broken.gguf", "other.gguf"):
        folder = tmp_path
        (folder / "broken.gguf").write_bytes(b"GGUF" + bytes(range(40)))
        write(folder, model, tokenizer, architecture="rwkv6", name="other.gguf")
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        load_policy(PolicyConfig(name=str(folder), **given), None)
