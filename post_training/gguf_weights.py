"""Weights from a GGUF file: read, dequantised, turned into a model like any other, which can be trained and saved."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel


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


__all__ = ["load_gguf"]
