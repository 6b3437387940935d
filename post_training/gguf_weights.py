"""Weights from a GGUF file: read, dequantised, turned into a model like any other, which can be trained and saved."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from pipeline.errors import InputError, nearest

SUFFIX = ".gguf"


def check_gguf(name: str, file: str | None) -> None:
    """Refuse what of a local folder and its GGUF file can be told without reading it. Raises InputError.

    file: None where the recipe names no GGUF; a folder that holds nothing else then needs one.
    """
    folder = Path(name)
    there = sorted(path.name for path in folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
    if file is None:
        if there and not list(folder.glob("*.safetensors")) and not (folder / "model").exists():
            raise InputError(f"model.name: {name} holds GGUF weights; write model.gguf_file: {' or '.join(there[:5])}")
        return
    if not file.endswith(SUFFIX):
        raise InputError(f"model.gguf_file: {file} is no GGUF file; give the name of a *{SUFFIX} file")
    if "-of-0" in file:
        raise InputError(
            f"model.gguf_file: {file} is one of several parts; merge them (llama-gguf-split --merge) first"
        )
    if folder.is_file():
        raise InputError(f"model.name: {name} is a file; give its folder, and its name as model.gguf_file")
    if folder.is_dir() and file not in there:
        raise InputError(f"model.gguf_file: {name} has no {file}{nearest(file, there) or '; it holds no GGUF file'}")


def load_gguf(source: str, file: str, *, dtype: torch.dtype, **options: Any) -> PreTrainedModel:
    """The model of a GGUF file in a folder or on the Hub, dequantised to `dtype`.

    transformers reads it, but marks the result as quantised, which can't be saved or trained; so its weights go into a
    model that is built from the configuration alone. Raises what transformers and gguf raise.
    """
    read: Any = AutoModelForCausalLM.from_pretrained(source, gguf_file=file, dtype=dtype, **options)
    config = read.config
    for leftover in ("quantization_config", "_model_name_or_path"):  # the second: what the file's author called it
        vars(config).pop(leftover, None)
    model = AutoModelForCausalLM.from_config(
        config, dtype=dtype, attn_implementation=options.get("attn_implementation")
    )
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    return model.eval()


__all__ = ["SUFFIX", "check_gguf", "load_gguf"]
