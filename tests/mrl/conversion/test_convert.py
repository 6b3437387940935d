"""mrl/convert.py: from a causal checkpoint's folder to a reactive one that other programs open."""

import json
from dataclasses import replace

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

from mrl.dialogues.dataset import Conversation, Exchange
from mrl.dialogues.tokenization import MARKER, SCORED, build_prompts, encode_dialogues
from mrl.dialogues.turn_frame import frame_of, template_frame
from mrl.recipes.conversion import ConvertStage
from mrl.recipes.model import ModelConfig
from mrl.stages.convert import run_stage
from mrl.training.model_io import load_reactive
from pipeline.config import parse_config
from pipeline.errors import InputError
from pipeline.run import open_run

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_3 = (
    "{% for m in messages %}{{ '<|head|>' + m['role'] + '<|/head|>\n\n' + m['content'] + '<|im_end|>' }}{% endfor %}"
)


@pytest.fixture
def tokenizer():
    words = ["<unk>", "\n", "user", "assistant", *"abcdefgh", "alpha", "beta", "gamma"]
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Split(" ", "removed")]
    )
    made = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="<|im_end|>")
    marks = ["<|im_start|>", "<|head|>", "<|/head|>", "<think>", "</think>"]
    made.add_special_tokens({"additional_special_tokens": [AddedToken(m, special=True) for m in marks]})
    made.chat_template = CHATML
    return made


@pytest.fixture
def source(tmp_path, tokenizer):
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
    )
    folder = tmp_path / "source" / "model"
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder.parent


def converted(tmp_path, source, **changes):
    recipe = {"model": {"name": str(source)}, "memory": {"slots": 8}, "output_dir": str(tmp_path / "out")}
    stage = parse_config(ConvertStage, {**recipe, **changes})
    with open_run(stage, stage="convert", output_dir=stage.output_dir, seed=1) as run:
        run_stage(stage, run)
    return tmp_path / "out"


@torch.no_grad()
def test_the_folder_answers_a_conversation_of_many_turns_from_memory(tmp_path, source):
    out = converted(tmp_path, source)
    facts = json.loads((out / "metrics.json").read_text())
    assert facts["logit_difference"] < 1e-5
    assert facts["turn_header"].split() == ["<|im_start|>", "user"]
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    model = AutoModelForCausalLM.from_pretrained(out / "model").eval()
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


def test_incomplete_weights_and_missing_folders_are_refused(tmp_path, source):
    with pytest.raises(InputError, match="holds no model"):
        parse_config(ConvertStage, {"model": {"name": str(tmp_path / "no")}, "output_dir": "o"}).source()
    config = json.loads((source / "model" / "config.json").read_text())
    (source / "model" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(InputError, match=r"lacks \d+ weights"):
        converted(tmp_path, source)


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


def test_the_stages_load_it_and_refuse_another_tokenizer(tmp_path, source, tokenizer):
    out = converted(tmp_path, source)
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
def test_lm_eval_scores_and_continues_a_rendered_conversation_of_many_turns(tmp_path, source):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = load_reactive(ModelConfig(path=str(converted(tmp_path, source))))
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
