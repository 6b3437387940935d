"""A checkpoint works where this repository isn't: in a fresh process that cannot import any of its packages."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mrl.model import ReactiveConfig, ReactiveForCausalLM, Sampling, chat_template
from tests.mrl.alone import run_alone

SPECIAL = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "[MASK]", "[Q]", "[A]", "[T]"]

TALK = [
    {"role": "user", "content": "my cat is Tom"},
    {"role": "assistant", "content": "nice", "think": "a cat"},
    {"role": "user", "content": "I live in Rome"},
    {"role": "assistant", "content": "good"},
    {"role": "user", "content": "who is my cat?"},
]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Special tokens, then one token a byte."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = dict(zip(("pad_token", "unk_token", "bos_token", "eos_token", "mask_token"), SPECIAL, strict=False))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=SPECIAL[5:], **names)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    sizes = {"vocab_size": 264, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "memory_slots": 5}
    model = ReactiveForCausalLM(
        ReactiveConfig(**sizes, max_interaction_length=64, initial_state_std=1.0, copy_window=3)
    )
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = chat_template(model.config)
    folder = tmp_path_factory.mktemp("travels") / "checkpoint"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_checkpoint_brings_its_own_code(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["auto_map"]["AutoModelForCausalLM"] == "modeling_reactive.ReactiveForCausalLM"
    assert config["auto_map"]["AutoConfig"] == "configuration_reactive.ReactiveConfig"
    assert (config["query_token"], config["query_token_id"]) == ("[Q]", 5)
    for file in checkpoint.glob("*.py"):
        assert "from mrl" not in file.read_text()
    assert "[Q]" in (checkpoint / "chat_template.jinja").read_text()


ALONE = """
import importlib.util, json, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
try:
    importlib.util.find_spec("mrl"); raise SystemExit("mrl can be imported: the test proves nothing")
except ModuleNotFoundError:
    pass
path, talk = sys.argv[1], json.loads(sys.argv[2])
model = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=True)
prompt = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_tensors="pt")
said = model.generate(**prompt, max_new_tokens=12, do_sample=False, eos_token_id=None)
from transformers import pipeline
dialogue = model.dialogue(tokenizer)
streamed = [piece for query in ("hello", "again") for piece in dialogue.ask(query, max_new_tokens=6)]
chat = pipeline("text-generation", model=model, tokenizer=tokenizer)(talk, max_new_tokens=4, do_sample=False)
model.save_pretrained("again"), tokenizer.save_pretrained("again")
second = AutoModelForCausalLM.from_pretrained("again", trust_remote_code=True)
same = second.generate(**prompt, max_new_tokens=12, do_sample=False, eos_token_id=None).tolist() == said.tolist()
print(json.dumps({"prompt": prompt["input_ids"][0].tolist(), "said": said[0].tolist(), "module": type(model).__module__,
    "streamed": len(streamed), "chat": chat[0]["generated_text"][-1]["role"], "same": same}))
"""


@pytest.mark.slow
def test_a_chat_is_answered_from_memory_without_this_repository(checkpoint, tmp_path):
    done = run_alone(ALONE, tmp_path, str(checkpoint), json.dumps(TALK))
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["module"].startswith("transformers_modules.")
    assert result["same"]
    assert result["streamed"] > 0
    assert result["chat"] == "assistant"
    tokenizer, model = byte_tokenizer(), ReactiveForCausalLM.from_pretrained(checkpoint).eval()

    def ids(text: str) -> torch.Tensor:
        return torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])

    turns = ["[BOS][Q]my cat is Tom[T]a cat[A]nice[EOS]", "[BOS][Q]I live in Rome[A]good[EOS]"]
    state = model.initial_state(1)
    for turn in turns:
        state = model.write(state, ids(turn)).detach()
    last = ids("[BOS][Q]who is my cat?[A]")
    assert result["prompt"] == torch.cat([ids("".join(turns)), last], dim=1)[0].tolist()
    greedy = {"forced": None, "stop": (), "sampling": Sampling(temperature=0), "max_new_tokens": 12}
    expected = model.generate_answers(last, None, state, **greedy).ids[0].tolist()
    assert result["said"][len(result["prompt"]) :] == expected
    # Another memory gives another answer: the turns before really are what the subprocess answered from.
    assert model.generate_answers(last, None, model.initial_state(1), **greedy).ids[0].tolist() != expected


CHOICE = """
task: tiny_choice
dataset_path: json
dataset_kwargs: {data_files: {test: DIR/rows.jsonl}}
test_split: test
fewshot_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: ["yes", "no"]
doc_to_target: "{{label}}"
"""
OPEN = """
task: tiny_open
dataset_path: json
dataset_kwargs: {data_files: {test: DIR/rows.jsonl}}
test_split: test
fewshot_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{['yes', 'no'][label]}}"
generation_kwargs: {until: ["[EOS]"], max_gen_toks: 5, do_sample: false}
metric_list: [{metric: exact_match}]
"""


@pytest.mark.slow
def test_the_stock_lm_eval_drives_a_checkpoint_without_this_repository(checkpoint, tmp_path):
    rows = [{"question": f"is {n} even?", "label": n % 2} for n in (4, 17, 250, 3, 11, 8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in (("choice", CHOICE), ("open", OPEN)):
        (tmp_path / f"tiny_{name}.yaml").write_text(text.replace("DIR", str(tmp_path)))
    arguments = ["run", "--model", "hf", "--model_args", f"pretrained={checkpoint},trust_remote_code=True"]
    arguments += ["--tasks", "tiny_choice,tiny_open", "--include_path", str(tmp_path), "--device", "cpu"]
    arguments += ["--apply_chat_template", "--num_fewshot", "2", "--fewshot_as_multiturn", "--batch_size", "4"]
    arguments += ["--output_path", str(tmp_path / "out"), "--log_samples"]
    code = "import sys; sys.argv[0] = 'lm_eval'\nfrom lm_eval.__main__ import cli_evaluate\ncli_evaluate()"
    run_alone(code, tmp_path, *arguments)
    (results,) = (tmp_path / "out").rglob("results_*.json")
    found = json.loads(results.read_text())["results"]
    assert 0 <= found["tiny_choice"]["acc,none"] <= 1
    assert 0 <= found["tiny_open"]["exact_match,none"] <= 1
    (samples,) = (tmp_path / "out").rglob("samples_tiny_choice*.jsonl")
    first = json.loads(samples.read_text().splitlines()[0])
    prompt, choice = first["arguments"]["gen_args_0"]["arg_0"], first["arguments"]["gen_args_0"]["arg_1"]
    assert prompt.count("[Q]") == 3
    assert prompt.endswith("[A]")
    # The log-likelihood lm_eval got is the one of the last turn after the few-shot turns went into memory.
    tokenizer, model = byte_tokenizer(), ReactiveForCausalLM.from_pretrained(checkpoint).eval()
    state, (*earlier, last) = model.initial_state(1), ["[BOS][Q]" + part for part in prompt.split("[BOS][Q]")[1:]]
    with torch.no_grad():
        for turn in earlier:
            state = model.write(state, torch.tensor([tokenizer(turn)["input_ids"]]))
        asked, said = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (last, choice))
        logits = model.decode(torch.tensor([asked + said]), None, state).logits[0].log_softmax(-1)
    expected = sum(logits[len(asked) - 1 + place, token].item() for place, token in enumerate(said))
    assert float(first["filtered_resps"][0][0]) == pytest.approx(expected, abs=1e-3)


HUB = """
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)
model.push_to_hub("me/reactive", private=True)
AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True).push_to_hub("me/reactive")
pulled = AutoModelForCausalLM.from_pretrained("me/reactive", trust_remote_code=True)
assert all((a == b).all() for a, b in zip(model.parameters(), pulled.parameters(), strict=True))
"""


@pytest.mark.slow
def test_a_checkpoint_goes_to_the_hub_with_its_code_and_comes_back(checkpoint, tmp_path, hub):
    run_alone(HUB, tmp_path, str(checkpoint), variables=hub.env(tmp_path))
    files = set(hub.repo("me/reactive", "model").files)
    assert {
        "config.json",
        "model.safetensors",
        "modeling_reactive.py",
        "tokenizer.json",
        "chat_template.jinja",
    } <= files
