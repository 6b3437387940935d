"""The model that is trained and its tokenizer: loading, special tokens, and agreement on how a turn ends."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from pipeline.artifact import is_complete, verify
from pipeline.errors import InputError
from pipeline.hub import first_line, keep_hub_offline_if_unreachable, retrying
from post_training.adapter import lora_config
from post_training.chat_template import read_template
from post_training.gguf_weights import load_gguf
from post_training.recipes.model import AdapterConfig, PolicyConfig

logger = logging.getLogger(__name__)

THOUGHT_MARKS = ("<think>", "</think>")
MODEL_FOLDER = "model"
"""Folder inside a run's output_dir that holds the finished weights."""


class Policy(NamedTuple):
    """A model that is to be trained, its tokenizer, and what PEFT is to be given (None without the section `peft`)."""

    model: PreTrainedModel
    tokenizer: Any
    adapter: LoraConfig | None


def resolve_model(name: str) -> str:
    """The folder with weights that `name` stands for, or `name` itself for the Hub. Raises InputError."""
    folder = Path(name)
    if not folder.exists():
        PolicyConfig(name=name).refuse_missing()
        return name
    inner = folder / MODEL_FOLDER
    if is_complete(inner):
        verify(inner)
        return str(inner)
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise InputError(
            f"model.name: {name} holds no finished model (config.json and *.safetensors, or {MODEL_FOLDER}/ with a"
            " manifest.json); let the stage that makes it run to its end"
        )
    return str(folder)


def load_policy(config: PolicyConfig, chat_template: str | None, adapter: AdapterConfig | None = None) -> Policy:
    """Load model and tokenizer, give them the template and the tokens of the YAML. Raises InputError.

    Afterwards tokenizer, model configuration and generation configuration agree on BOS, EOS and PAD, and every weight
    is one of the file and a finite number.
    """
    config.refuse_missing()
    path = config.name if config.gguf_file else resolve_model(config.name)
    template = read_template(chat_template)
    if not Path(path).exists():
        keep_hub_offline_if_unreachable()
    tokenizer = load_tokenizer(config, path)
    model = _load_model(config, path)
    if template is not None:
        tokenizer.chat_template = template
    elif not tokenizer.chat_template:
        raise InputError(f"chat_template: {config.name} brings no chat template; write one into the YAML")
    added = [token for token in config.special_tokens if token not in tokenizer.get_vocab()]
    add_special_tokens(model, tokenizer, config.special_tokens)
    keep_thought_marks(tokenizer)
    agree_on_turn_end(model, tokenizer, eos=config.eos_token, pad=config.pad_token)
    if not set(config.special_tokens) <= set(tokenizer.get_vocab()):
        raise InputError(f"model.special_tokens: {config.special_tokens} could not all be added")
    return Policy(model, tokenizer, lora_config(adapter, model, added))


def load_tokenizer(config: PolicyConfig, path: str) -> Any:
    """The tokenizer beside the weights at `path`, or the one that the section names. Raises InputError."""
    source = config.tokenizer or path
    try:
        return retrying(
            lambda: AutoTokenizer.from_pretrained(
                source,
                revision=config.revision if source == config.name else None,
                gguf_file=config.gguf_file if source == config.name else None,
                trust_remote_code=config.trust_remote_code,
            ),
            what=f"loading the tokenizer of {source}",
        )
    except Exception as error:  # the tokenizers library raises bare Exceptions
        key = "model.tokenizer" if config.tokenizer else "model.gguf_file" if config.gguf_file else "model.name"
        raise InputError(f"{key}: the tokenizer of {source} can't be loaded: {first_line(error)}") from None


def _load_model(config: PolicyConfig, path: str) -> PreTrainedModel:
    if (Path(path) / "adapter_config.json").is_file():
        raise InputError(
            f"model.name: {config.name} is an adapter; make it with peft.output: merged, or merge it first"
        )
    if config.gguf_file is not None:
        return _load_gguf(config)
    try:
        loaded: Any = retrying(
            lambda: AutoModelForCausalLM.from_pretrained(
                path,
                revision=config.revision if path == config.name else None,
                dtype=getattr(torch, config.dtype),
                attn_implementation=config.attn_implementation,
                trust_remote_code=config.trust_remote_code,
                output_loading_info=True,
            ),
            what=f"loading {path}",
        )
        model, told = loaded
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # damaged files raise what JSON, safetensors or the model's own class happen to raise
        raise InputError(
            f"model.name: {config.name} can't be loaded: {first_line(error)}; check the name, files and network"
        ) from None
    if missing := sorted(told["missing_keys"]):
        raise InputError(
            f"model.name: {config.name} lacks {len(missing)} weights ({', '.join(missing[:3])}), which would be "
            "random; take a complete model"
        )
    return _finite(model, config.name)


def _load_gguf(config: PolicyConfig) -> PreTrainedModel:
    file = str(config.gguf_file)
    try:
        model = retrying(
            lambda: load_gguf(
                config.name, file, dtype=getattr(torch, config.dtype), revision=config.revision,
                attn_implementation=config.attn_implementation,
            ),
            what=f"loading {file} of {config.name}",
        )  # fmt: skip
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # damaged files raise what gguf happens to raise
        raise InputError(
            f"model.gguf_file: {file} of {config.name} can't be loaded: {first_line(error)}; give a whole file of an "
            "architecture that transformers reads from GGUF"
        ) from None
    return _finite(model, config.name)


def _finite(model: PreTrainedModel, source: str) -> PreTrainedModel:
    """The model, if all its weights are numbers. Raises InputError."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter.detach()).all():
            raise InputError(f"model.name: {name} of {source} holds numbers that aren't finite; take other weights")
    return model


def weights_fingerprint(model: PreTrainedModel) -> str:
    """Sixteen digits that stand for every weight: what a reference or an adapter's base has to be again on resume."""
    digest = hashlib.blake2b(digest_size=8)
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def add_special_tokens(model: PreTrainedModel, tokenizer: Any, tokens: list[str]) -> list[int]:
    """Add `tokens` where missing and start their rows from the mean of the old ones. Returns the new ids.

    A random row has another length than the trained ones and its logit starts anywhere; the mean row starts new
    tokens as an average word (J. Hewitt, "Initializing New Word Embeddings for Pretrained Language Models", 2021).
    """
    known = set(tokenizer.get_vocab())
    rows_used = len(tokenizer)
    missing = [token for token in dict.fromkeys(tokens) if token not in known]
    existing = [token for token in tokens if token in known]
    if tokens:
        tokenizer.add_special_tokens(
            {"additional_special_tokens": existing + missing}, replace_extra_special_tokens=False
        )
    if not missing:
        return []
    new_ids = tokenizer.convert_tokens_to_ids(missing)
    embeddings: Any = model.get_input_embeddings()
    rows = embeddings.weight.shape[0]
    if max(new_ids) >= rows:
        model.resize_token_embeddings(max(new_ids) + 1, mean_resizing=False)
    old = min(rows_used, rows)
    seen: set[int] = set()
    tables: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    for layer in tables:
        if layer is None or layer.weight.data_ptr() in seen:  # tied weights: one table
            continue
        seen.add(layer.weight.data_ptr())
        with torch.no_grad():
            layer.weight[new_ids] = layer.weight[:old].float().mean(dim=0).to(layer.weight.dtype)
    logger.info("added %s as ids %s, rows start from the mean of %d old ones", missing, new_ids, old)
    return new_ids


def keep_thought_marks(tokenizer: Any) -> None:
    """Let <think> and </think> stay tokens of their own, but no longer special ones.

    Decoding without special tokens, as lm_eval and most programs do it, drops a special mark and leaves the thought
    in the answer, where nothing can tell them apart any more. The ids don't change.
    """
    backend = getattr(tokenizer, "_tokenizer", None)
    marks = set(THOUGHT_MARKS) & set(tokenizer.all_special_tokens)
    if backend is None or not marks:
        return
    rules = json.loads(backend.to_str())
    for token in rules["added_tokens"]:
        token["special"] = token["special"] and token["content"] not in marks
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(rules))
    tokenizer.extra_special_tokens = [token for token in tokenizer.extra_special_tokens if token not in marks]


def agree_on_turn_end(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, eos: str | None = None, pad: str | None = None
) -> None:
    """Make tokenizer, config and generation config name the same EOS, PAD and BOS. Raises InputError."""
    vocabulary = tokenizer.get_vocab()
    if eos is None and "<|im_end|>" in str(tokenizer.chat_template) and "<|im_end|>" in vocabulary:
        eos = "<|im_end|>"
    for key, token in (("eos_token", eos), ("pad_token", pad)):
        if token is not None and token not in vocabulary:
            raise InputError(f"model.{key}: {token} is not in the vocabulary; add it to model.special_tokens")
    if eos is not None:
        tokenizer.eos_token = eos
    if tokenizer.eos_token is None:
        raise InputError("model.eos_token: the tokenizer has no EOS token; name one")
    if pad is not None:
        tokenizer.pad_token = pad
    elif tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    for config in (model.config, model.generation_config):
        if config is not None:
            config.eos_token_id = tokenizer.eos_token_id
            config.pad_token_id = tokenizer.pad_token_id
            config.bos_token_id = tokenizer.bos_token_id
