"""The commands of the README: parsed by the installed lm_eval, and the local ones run by it with no network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lm_eval._cli.harness import HarnessCLI
from lm_eval.config.evaluate_config import EvaluatorConfig
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evaluation.tasks.local_files import DEFAULT_DATA

ROOT = Path(__file__).parents[3]
SEVEN = ["gsm8k", "bbh", "arc_challenge", "boolq", "piqa", "ifeval", "mmlu"]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.slow
@pytest.mark.parametrize("subcommand", [["run", "--model", "hf"], []])
def test_the_published_command_is_understood(monkeypatch, subcommand):
    command = [
        "lm_eval", *subcommand, "--model_args",
        "pretrained=Shekswess/trlm-stage-3-dpo-final-2,trust_remote_code=True,dtype=bfloat16",
        "--tasks", ",".join(SEVEN), "--apply_chat_template", "--fewshot_as_multiturn",
        "--batch_size", "auto", "--output_path", "results",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    config = EvaluatorConfig.from_cli(HarnessCLI().parse_args())
    assert (config.model, config.apply_chat_template, config.fewshot_as_multiturn) == ("hf", True, True)
    assert config.model_args["pretrained"] == "Shekswess/trlm-stage-3-dpo-final-2"
    if subcommand:  # indexing lm_eval's own tasks takes 8 s: once is enough
        config.process_tasks()
        assert config.tasks == SEVEN


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory) -> Path:
    """A random Llama of 29,000 parameters with a byte-level tokenizer and ChatML."""
    path = tmp_path_factory.mktemp("model") / "tiny"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    text = ["The answer is what a question asks for, step by step."] * 4
    tokenizer.train_from_iterator(
        text,
        trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=special[0], eos_token=special[2])
    wrapped.chat_template = CHATML
    wrapped.save_pretrained(path)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(wrapped), max_position_embeddings=2048, eos_token_id=2, pad_token_id=0, **shape)
    LlamaForCausalLM(config).save_pretrained(path)
    return path


@pytest.mark.slow
@pytest.mark.skipif(not DEFAULT_DATA.is_dir(), reason="the benchmark files are not beside the repository")
def test_the_seven_local_tasks_run_offline(tiny_model, tmp_path):
    """One item of each of the 89 tasks through the real command, then the report of it."""
    command = [
        Path(sys.executable).with_name("lm_eval"), "--model", "hf", "--device", "cpu", "--limit", "1",
        "--model_args", f"pretrained={tiny_model},max_length=512", "--gen_kwargs", "max_gen_toks=4",
        "--tasks", ",".join(f"local_{name}" for name in (*SEVEN, "gsm8k_0shot")), "--include_path", "evaluation/tasks",
        "--apply_chat_template", "--fewshot_as_multiturn", "--log_samples", "--batch_size", "32",
        "--output_path", tmp_path / "lm_eval" / "tiny",
    ]  # fmt: skip
    closed = "http://127.0.0.1:9"  # nothing listens there: a request fails at once
    offline = {"HF_ENDPOINT": closed, "HTTPS_PROXY": closed, "HTTP_PROXY": closed, "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(command, cwd=ROOT, env={**os.environ, **offline}, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr[-3000:]
    results = json.loads(next((tmp_path / "lm_eval").rglob("results_*.json")).read_text())
    by_task = results["results"]
    assert len(results["n-samples"]) == 6 + 27 + 57
    assert by_task["local_bbh"]["sample_len"] == 27
    assert by_task["local_mmlu"]["sample_len"] == 57
    assert {results["n-shot"][t] for t in ("local_gsm8k", "local_bbh", "local_mmlu::stem::anatomy")} == {5, 3, 0}
    assert 0 <= by_task["local_ifeval"]["inst_level_strict_acc,none"] <= 1
    sample = next((tmp_path / "lm_eval").rglob("samples_local_gsm8k_2*.jsonl")).read_text().splitlines()[0]
    prompt = json.loads(sample)["arguments"]["gen_args_0"]["arg_0"]
    assert prompt.count("<|im_start|>user\nQuestion: ") == 6  # five earlier turns, then the question
    assert prompt.endswith("\nAnswer:<|im_end|>\n<|im_start|>assistant\n")
    sample = next((tmp_path / "lm_eval").rglob("samples_local_gsm8k_0shot_*.jsonl")).read_text().splitlines()[0]
    assert json.loads(sample)["arguments"]["gen_args_0"]["arg_0"].count("<|im_start|>user\nQuestion: ") == 1

    script = ROOT / "evaluation" / "report.py"
    report = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, timeout=120)
    assert report.returncode == 0, report.stderr
    text = (tmp_path / "report.md").read_text()
    assert "| benchmark | tiny | trlm-135M | SmolLM2-135M-Instruct |" in text
    assert "(57 of 14042) | 34.95 | 29.3 (cloze) |" in text
