"""Real (non-padding) tokens/s of `post_training/sft.py` beside plain TRL with the reference's settings. One JSON line.

    uv run evaluation/speed/sft_training.py

Both train the same 5.8M-parameter Llama with the same tokenizer on the same 600 GSM8K conversations, one epoch, batches
of 8, loss dft, each in a process of its own, one after the other. Reference: padded batches, fp32 on a CPU, gradient
checkpointing (TRL's default). Ours: what `sft.py` does with `bf16: true`. Start-up and encoding are left out of both,
compilation (none) would count. On an accelerator `share_of_peak` is 6 x parameters x tokens/s over the bf16 peak of a
long matrix product measured at the end.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from evaluation.command_line import at_least

ROOT = Path(__file__).resolve().parents[2]
ROWS = ROOT.parent / "shared" / "data" / "sft" / "reasoning_gsm8k_train.parquet"
TRAINER: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "num_train_epochs": 1,
    "learning_rate": 3e-4,
    "max_length": 512,
    "loss_type": "dft",
    "logging_steps": 10,
    "report_to": ["none"],
}

LOGGED_ROWS = TRAINER["per_device_train_batch_size"] * TRAINER["logging_steps"]
"""Rows until the first loss is logged; with fewer there is none to report."""


def prepare(folder: Path, rows: Path, count: int) -> None:
    """Write `count` conversations, a BPE tokenizer of 4,096 tokens trained on all of them, and the model."""
    import pyarrow.parquet as pq
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    conversations = pq.read_table(rows, columns=["messages"]).column("messages").to_pylist()
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4096, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator((m["content"] for c in conversations for m in c), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    with (folder / "train.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"messages": c}) + "\n" for c in conversations[:count])


def reference(folder: Path) -> None:
    """Plain TRL as the reference sets it; prints one JSON line."""
    import torch
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from pipeline.provenance import peak_memory_mb

    cpu = not torch.accelerator.is_available()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    rows = load_dataset("json", data_files=str(folder / "train.jsonl"), split="train", cache_dir=str(folder / "cache"))
    args = SFTConfig(
        output_dir=str(folder / "reference"),
        activation_checkpointing=True,
        use_cpu=cpu,
        bf16=not cpu,
        save_strategy="no",
        disable_tqdm=True,
        **TRAINER,
    )
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    trainer = SFTTrainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer)
    started = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - started
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    facts = {
        "tokens": trainer._total_train_tokens,
        "tokens_per_s": trainer._total_train_tokens / seconds,
        "train_s": seconds,
        "final_loss": losses[-1],
        "peak_mb": peak_memory_mb(),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    print(json.dumps(facts))


def ours(folder: Path) -> dict[str, Any]:
    """Run the real script and read its metrics.json."""
    config = {
        "output_dir": str(folder / "ours"),
        "model": {"name": str(folder / "model")},
        "dataset": {"name": str(folder / "train.jsonl")},
        "trainer": {**TRAINER, "bf16": True, "save_strategy": "no"},
    }
    (folder / "ours.yaml").write_text(json.dumps(config))  # JSON is YAML
    run([str(ROOT / "post_training" / "sft.py"), "--config-path", str(folder / "ours.yaml")], folder)
    return json.loads((folder / "ours" / "metrics.json").read_text())


def run(command: list[str], folder: Path) -> str:
    """Run Python on `command`; its stdout. Library caches stay in `folder`."""
    environment = os.environ | {"HF_DATASETS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def peak_flops() -> float | None:
    """bf16 FLOP/s of a long matrix product on the accelerator, None on a CPU."""
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return None
    from evaluation.speed.matmul_rate import matmul_rate

    return matmul_rate(8192, torch.bfloat16, accelerator.type)


def main() -> None:
    """Prepare, run both, print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=at_least(LOGGED_ROWS), default=600)
    parser.add_argument("--data", type=Path, default=ROWS)
    parser.add_argument("--reference", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reference:
        reference(options.reference)
        return
    if not options.data.is_file():
        parser.error(f"--data: {options.data} does not exist; name a Parquet file with a column messages")
    with tempfile.TemporaryDirectory(prefix="trlm-bench-") as name:
        folder = Path(name)
        prepare(folder, options.data, options.rows)
        theirs = json.loads(run([__file__, "--reference", str(folder)], folder).splitlines()[-1])
        mine = ours(folder)
        peak = peak_flops()
    figures = {
        "real_tokens_per_s": round(mine["tokens_per_s"], 1),
        "reference_real_tokens_per_s": round(theirs["tokens_per_s"], 1),
        "ratio": round(mine["tokens_per_s"] / theirs["tokens_per_s"], 2),
        "peak_mb": round(mine["peak_mb"], 1),
        "reference_peak_mb": round(theirs["peak_mb"], 1),
        "tokens": mine["tokens"],
        "reference_tokens": theirs["tokens"],
        "train_s": mine["train_s"],
        "reference_train_s": round(theirs["train_s"], 2),
        "final_loss": mine["final_loss"],
        "reference_final_loss": theirs["final_loss"],
        "parameters": mine["parameters"],
        "precision": mine["precision"],
        "device": mine["device"],
        "share_of_peak": None if peak is None else 6 * mine["parameters"] * mine["tokens_per_s"] / peak,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
