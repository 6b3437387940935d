"""mrl/convert.py: from a causal checkpoint's folder to a reactive one that other programs open."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from mrl.dialogues.dataset import Conversation, Exchange
from mrl.dialogues.tokenization import MARKER, SCORED, build_prompts, encode_dialogues
from mrl.dialogues.turn_frame import frame_of, template_frame
from mrl.model import ReactiveConfig, ReactiveForCausalLM
from mrl.recipes.conversion import ConvertStage
from mrl.recipes.model import ModelConfig
from mrl.stages.convert import load_causal
from mrl.training.model_io import load_reactive, save_reactive
from pipeline.config import parse_config
from pipeline.errors import InputError
from tests.mrl.alone import run_alone
from tests.mrl.conversion.toy import CHATML, opened

LLAMA_3 = (
    "{% for m in messages %}{{ '<|head|>' + m['role'] + '<|/head|>\n\n' + m['content'] + '<|im_end|>' }}{% endfor %}"
)
READERS = [{}, {"layers": [1]}, {"memory_read": "cross"}, {"memory_read": "cross", "layers": [0]}]


def refused(tmp_path, config, **memory):
    """Words with which a model of this configuration is refused; there are no weights beside it."""
    config.save_pretrained(tmp_path / "bare")
    recipe = {"model": {"name": str(tmp_path / "bare")}, "memory": memory, "output_dir": "o"}
    with pytest.raises(InputError) as error:
        stage = parse_config(ConvertStage, recipe)
        load_causal(stage.source(), None, stage.memory)
    return str(error.value)


@pytest.mark.parametrize("memory", READERS)
@torch.no_grad()
def test_the_folder_answers_a_conversation_of_many_turns_from_memory(convert, memory):
    out = convert(**memory)
    facts = json.loads((out / "metrics.json").read_text())
    assert facts["logit_difference"] < 1e-5
    assert facts["turn_header"].split() == ["<|im_start|>", "user"]
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    model = opened(AutoModelForCausalLM.from_pretrained(out / "model").eval())
    turns = [{"role": r, "content": c} for r, c in [("user", "a b"), ("assistant", "c"), ("user", "d e f")]]
    ids = tokenizer.apply_chat_template(turns, return_tensors="pt", add_generation_prompt=True)["input_ids"]
    first = tokenizer.apply_chat_template(turns[:2], return_tensors="pt")["input_ids"]
    state = model.write(model.initial_state(1), first)
    expected = model.decode(ids[:, first.shape[1] :], None, state).logits
    torch.testing.assert_close(model(ids).logits[:, first.shape[1] :], expected)
    said = model.generate(ids, do_sample=False, max_new_tokens=4)
    assert said[0, ids.shape[1]] == expected[0, -1].argmax()


@pytest.mark.parametrize(
    ("template", "header"), [(CHATML, ["<|im_start|>", "user"]), (LLAMA_3, ["<|head|>", "user", "<|/head|>"])]
)
def test_the_header_is_what_opens_the_users_part(tokenizer, template, header):
    tokenizer.chat_template = template
    assert tokenizer.convert_ids_to_tokens(template_frame(tokenizer, "x").header) == header


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (None, "no chat template"),
        ("{% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}", "no end token"),
        ("{% for m in messages %}{{ m['content'] + '<|im_end|>' }}{% endfor %}", "no end token with a user header"),
        ("{{ raise_exception('only one turn') }}", "only one turn"),
    ],
)
def test_templates_without_a_header_are_refused(tokenizer, template, said):
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=said):
        template_frame(tokenizer, "x")


TINY = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (Qwen3Config(**TINY), "model_type qwen3 (its attention norms queries and keys: q_norm, k_norm) can't be"),
        (MistralConfig(**TINY, sliding_window=16), "sliding-window attention can't be converted"),
        (Qwen2Config(**TINY, use_sliding_window=True, sliding_window=16, max_window_layers=1), "sliding-window"),
        (Gemma2Config(**TINY), "model_type gemma2 can't be converted"),
    ],
)
def test_what_no_reactive_layer_has_is_refused_by_name_before_weights_are_read(tmp_path, config, said):
    assert said in refused(tmp_path, config)


@pytest.mark.parametrize(
    ("memory", "said"),
    [
        ({"layers": [0, 2]}, "memory.layers: there is no layer 2; the model's are 0 to 1"),
        ({"layers": []}, "memory: layers is empty: no layer would read the memory; name some, or all"),
        ({"layers": [1, 0, 1]}, "layers names 1 more than once"),
        ({"layers": [-1]}, "memory.layers[0] should be at least 0"),
        ({"layers": ["0"]}, "memory.layers[0] should be a valid integer"),
        ({"layers": "some"}, "memory.layers should be"),
        ({"memory_read": "crossed"}, "memory.memory_read: 'crossed' is not one of 'joint' or 'cross'"),
        ({"layer": [1]}, "memory.layer is not a setting; did you mean layers?"),
    ],
)
def test_layers_that_are_none_and_other_readers_are_refused(tmp_path, memory, said):
    assert said in refused(tmp_path, LlamaConfig(**TINY), **memory)


def test_layers_are_taken_in_any_order_and_all_is_the_default(convert):
    assert ReactiveConfig.from_pretrained(convert(layers=[1, 0]) / "model").memory_layers == [0, 1]


@torch.no_grad()
def test_a_checkpoint_from_before_these_settings_reads_in_all_layers_jointly(convert):
    out = convert()
    file = out / "model" / "config.json"
    settings = json.loads(file.read_text())
    assert settings.pop("memory_layers", None) is None
    file.write_text(json.dumps(settings))
    model = ReactiveForCausalLM.from_pretrained(out / "model")
    assert (model.config.memory_read, model.initial_state(1).shape[0]) == ("joint", 2)


ALONE = """
import json, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
path, talk = sys.argv[1], json.loads(sys.argv[2])
model = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True).eval()
tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=True)
prompt = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_tensors="pt")
with torch.no_grad():
    logits = model(**prompt).logits[0, -1].tolist()
said = model.generate(**prompt, max_new_tokens=6, do_sample=False, eos_token_id=None)[0, -6:].tolist()
dialogue = model.dialogue(tokenizer)
for query in ("a b", "c"):
    list(dialogue.ask(query, max_new_tokens=4))
model.save_pretrained("again")
second = AutoModelForCausalLM.from_pretrained("again", trust_remote_code=True).eval()
with torch.no_grad():
    same = torch.equal(second(**prompt).logits, model(**prompt).logits)
print(json.dumps({"module": type(model).__module__, "logits": logits, "said": said, "same": same,
    "state": list(dialogue.state.shape)}))
"""


@pytest.mark.slow
@torch.no_grad()
def test_a_separate_reader_in_chosen_layers_travels_without_this_repository(convert, tmp_path):
    folder = convert(memory_read="cross", layers=[1]) / "model"
    model, tokenizer = load_reactive(ModelConfig(path=str(folder)))
    save_reactive(opened(model), tokenizer, folder)
    talk = [{"role": r, "content": c} for r, c in [("user", "a b"), ("assistant", "c"), ("user", "d e f")]]
    done = run_alone(ALONE, tmp_path, str(folder), json.dumps(talk))
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["module"].startswith("transformers_modules.")
    assert found["same"]
    assert found["state"] == [1, 1, 8, 32]
    prompt = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_tensors="pt")
    expected = model.eval()(**prompt).logits[0, -1]
    torch.testing.assert_close(torch.tensor(found["logits"]), expected)
    said = model.generate(**prompt, max_new_tokens=6, do_sample=False, eos_token_id=None)
    assert found["said"] == said[0, -6:].tolist()
    # Another memory says something else: the turn before really is what was answered from.
    last = tokenizer.apply_chat_template(talk[2:], add_generation_prompt=True, return_tensors="pt")["input_ids"]
    assert (model(last).logits[0, -1] - expected).abs().max() > 1e-3


def test_incomplete_weights_and_missing_folders_are_refused(tmp_path, source, convert):
    with pytest.raises(InputError, match="holds no model"):
        parse_config(ConvertStage, {"model": {"name": str(tmp_path / "no")}, "output_dir": "o"}).source()
    config = json.loads((source / "model" / "config.json").read_text())
    (source / "model" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(InputError, match=r"lacks \d+ weights"):
        convert()


def test_turns_are_framed_as_the_template_renders_them(tokenizer, source):
    said = [("a b", "c", ""), ("d", "e f", "g h")]
    exchanges = tuple(Exchange(query, answer, think) for query, answer, think in said)
    data = encode_dialogues([Conversation(exchanges, "x")], tokenizer, max_length=64)
    contents = ["c", "<think>\ng h\n</think>\ne f"]
    for turn, (query, _, think) in enumerate(said):
        messages = [{"role": "user", "content": query}, {"role": "assistant", "content": contents[turn]}]
        rendered = tokenizer.apply_chat_template(messages, tokenize=True)["input_ids"]
        ids = data.tokens[data.start[turn] : data.start[turn + 1]].tolist()
        assert ids == rendered[: len(ids)]
        assert tokenizer.decode(rendered[len(ids) :]).strip() == ""
        flags = data.flags[data.start[turn] : data.start[turn + 1]]
        scored = tokenizer.convert_ids_to_tokens([i for i, f in zip(ids, flags, strict=True) if f & SCORED])
        assert scored == (["g", "h", "\n", "</think>", "\n", "e", "f", "<|im_end|>"] if think else ["c", "<|im_end|>"])
        chosen = tokenizer.convert_ids_to_tokens([i for i, f in zip(ids, flags, strict=True) if f & MARKER])
        assert chosen == (["<think>", "\n"] if think else [])
    prompts = build_prompts(tokenizer, frame_of(tokenizer, "x"), ["a b"], 64)
    assert data.tokens[: len(prompts[0])].tolist() == prompts[0]


def test_the_stages_load_it_and_refuse_another_tokenizer(tmp_path, convert, tokenizer):
    out = convert()
    model, own = load_reactive(ModelConfig(path=str(out)), needs_memory=True)
    assert own.chat_template == tokenizer.chat_template
    assert replace(frame_of(own, "x"), mask=None) == model.config.frame
    with pytest.raises(InputError, match=r"has no \[Q\]"):
        load_reactive(ModelConfig(tokenizer=str(out / "model")))
    tokenizer.chat_template = LLAMA_3
    tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match="frames turns in another way"):
        load_reactive(ModelConfig(path=str(out), tokenizer=str(tmp_path / "other")))


@torch.no_grad()
def test_lm_eval_scores_and_continues_a_rendered_conversation_of_many_turns(convert):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = load_reactive(ModelConfig(path=str(convert())))
    asked = HFLM(pretrained=model.eval(), tokenizer=tokenizer, batch_size=2, device="cpu")
    turns = [("user", "a b"), ("assistant", "c"), ("user", "d e f"), ("assistant", "g h"), ("user", "b c")]
    dialogues = [[{"role": r, "content": c} for r, c in turns[:n]] for n in (5, 3)]
    requests, expected, said = [], [], []
    for messages in dialogues:
        text = asked.apply_chat_template(messages)
        requests.append(text)
        ids = tokenizer(text + "g", return_tensors="pt", add_special_tokens=False)["input_ids"]
        state = model.initial_state(1)
        for turn in range(0, len(messages) - 1, 2):
            earlier = tokenizer.apply_chat_template(messages[turn : turn + 2], return_tensors="pt")["input_ids"]
            state = model.write(state, earlier)
        last = tokenizer.apply_chat_template(messages[-1:], return_tensors="pt", add_generation_prompt=True)[
            "input_ids"
        ]
        logits = model.decode(last, None, state).logits[0, -2:]
        # lm_eval counts white space at a context's end, here the header's, with what is scored.
        expected.append(float(logits.log_softmax(-1).gather(1, ids[0, -2:, None]).sum()))
        said.append(int(logits[-1].argmax()))
    scored = asked.loglikelihood([Instance("loglikelihood", {}, (text, "g"), i) for i, text in enumerate(requests)])
    assert [value for value, _ in scored] == pytest.approx(expected, abs=1e-4)
    options = {"until": ["<none>"], "max_gen_toks": 1, "do_sample": False}
    out = asked.generate_until([Instance("generate_until", {}, (t, options), i) for i, t in enumerate(requests)])
    assert out == [tokenizer.decode([token], skip_special_tokens=True) for token in said]
