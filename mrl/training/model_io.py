"""Section `model`: which reactive model a stage starts from, and how a finished one is laid down."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from mrl.dialogues.tokenization import load_tokenizer
from mrl.dialogues.turn_frame import frame_of
from mrl.model import ReactiveConfig, ReactiveForCausalLM, TurnFrame, chat_template
from mrl.recipes.model import ModelConfig, resolve
from pipeline.errors import InputError
from pipeline.hub import first_line, keep_hub_offline_if_unreachable, retrying

logger = logging.getLogger(__name__)
disable_progress_bar()  # a bar for each file of weights, at each checkpoint


def load_reactive(
    config: ModelConfig, *, needs_memory: bool = False, needs_encoder: bool = False
) -> tuple[ReactiveForCausalLM, Any]:
    """Model and tokenizer of a stage. Raises InputError where one is missing, they don't fit together, a weight is no
    number, or there is no memory, or no encoder that writes it, though the stage `needs_memory`, or `needs_encoder`."""
    source = None if config.path is None else resolve(config.path)
    tokenizer = load_tokenizer(_tokenizer_folder(config.tokenizer or str(source)))
    where = f"model.tokenizer: {config.tokenizer or source}"
    frame = frame_of(tokenizer, where)
    given = config.checked_new()
    if source is None:
        model = fresh(given, tokenizer, frame, where)
    else:
        model = _read(source)
        differing = [k for k, v in given.items() if getattr(model.config, k) != v]
        if differing:
            key = differing[0]
            raise InputError(
                f"model.new.{key} is {given[key]}, but the weights in {source} have {getattr(model.config, key)}; "
                "leave model.new out or start from other weights"
            )
        if len(tokenizer) > model.config.vocab_size:
            raise InputError(
                f"model.tokenizer: {len(tokenizer)} tokens, but the weights in {source} know "
                f"{model.config.vocab_size}; use the tokenizer they were trained with"
            )
        if replace(frame, pad=0, mask=None) != replace(model.config.frame, pad=0, mask=None):
            raise InputError(
                f"{where} frames turns in another way than the weights in {source} have learnt; use the tokenizer "
                "that was saved with them"
            )
    shown = "model.new" if source is None else f"model.path: {config.path}"
    if needs_memory and not model.config.memory_slots:
        raise InputError(f"{shown} has no memory (memory_slots 0); nothing to train here")
    if needs_encoder and model.model.keeps_tokens:
        raise InputError(
            f"{shown} keeps token states (memory_write surprise); this takes the encoder and memory attention of a "
            "model of mrl/pretrain.py"
        )
    if config.normal_start_std is not None:
        if model.model.keeps_tokens:
            raise InputError(f"model.normal_start_std: {config.path} keeps token states and starts empty; leave it out")
        start_from_normal(model, config.normal_start_std)
    refuse_nonfinite(model, f"model.path: {source}")
    if model.config.turn_frame is None:
        tokenizer.chat_template = chat_template(model.config)
    return model, tokenizer


def start_from_normal(model: ReactiveForCausalLM, std: float) -> None:
    """Let dialogues start from random normal memories; a state that was learnt or loaded is dropped."""
    model.config.initial_state, model.config.initial_state_std = "normal", std
    if model.model.initial_memory is not None:
        del model.model.initial_memory
        model.model.initial_memory = None


def refuse_nonfinite(model: torch.nn.Module, where: str) -> None:
    """Raises InputError naming the first tensor of the model that holds NaN or infinity, used or not."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise InputError(
                f"{where}: {name} holds values that are not numbers; use weights from before that happened and a "
                "lower optimizer.learning_rate"
            )


def _tokenizer_folder(path: str) -> Path:
    inner = Path(path) / "tokenizer"
    return inner if inner.is_dir() and not (Path(path) / "tokenizer.json").exists() else Path(path)


def fresh(given: dict[str, Any], tokenizer: Any, frame: TurnFrame, where: str) -> ReactiveForCausalLM:
    """A model with new weights, drawn from torch's global generator. Raises InputError for sizes that don't fit, and
    for a tokenizer without single tokens for the turns."""
    if frame.choice is None:
        raise InputError(
            f"{where}: the tokenizer has no [Q], [A], [T]; train one with data/tokenizer.py, or give a causal model "
            "with this one a memory with mrl/convert.py"
        )
    ids = {
        "pad_token_id": frame.pad,
        "unk_token_id": tokenizer.unk_token_id if tokenizer.unk_token_id is not None else frame.pad,
        "bos_token_id": frame.opening[0],
        "eos_token_id": frame.end[-1],
        "mask_token_id": frame.mask,
        "query_token_id": frame.header[0],
        "answer_token_id": frame.answer[0],
        "think_token_id": frame.think[0],
    }
    try:
        settings: dict[str, Any] = {"vocab_size": len(tokenizer), **ids, **given}
        return ReactiveForCausalLM(ReactiveConfig(**settings))
    except ValueError as error:
        raise InputError(f"model.new: {error}") from None


def _model_type(folder: Path) -> str | None:
    try:
        found = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"model.path: {folder}/config.json can't be read: {first_line(error)}") from None
    return found.get("model_type") if isinstance(found, dict) else None


def _read(source: Path | str) -> ReactiveForCausalLM:
    kind = _model_type(source) if isinstance(source, Path) else ReactiveConfig.model_type
    if kind != ReactiveConfig.model_type:
        raise InputError(
            f"model.path: {source} holds a model of type {kind}, not a reactive one; give the folder of a stage of mrl/"
        )
    if isinstance(source, str):
        keep_hub_offline_if_unreachable()
    try:
        # The class of this tree, not the copy in the checkpoint: fixes of ours should reach old weights.
        loaded: Any = retrying(
            lambda: ReactiveForCausalLM.from_pretrained(source, output_loading_info=True, dtype=torch.float32),
            what=f"loading {source}",
        )
    except (OSError, ValueError, RuntimeError) as error:
        first = first_line(error)[:300]
        raise InputError(f"model.path: {source} can't be loaded as a reactive model: {first}") from None
    model, report = loaded
    wrong = sorted(report.get("mismatched_keys") or []) + sorted(report["missing_keys"])
    if wrong:
        raise InputError(f"model.path: {source} has weights of another shape (first: {wrong[0]}); use its own config")
    return model


def save_reactive(model: PreTrainedModel, tokenizer: Any, folder: Path) -> None:
    """Weights, configuration, modelling code and tokenizer: what AutoModelForCausalLM needs without this project.
    Raises InputError where a weight is no number."""
    refuse_nonfinite(model, str(folder.parent))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
