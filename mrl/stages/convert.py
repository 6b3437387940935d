"""A reactive model from a causal one: what mrl/convert.py does."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from mrl.conversion.weights import reactive_from_causal, require_supported
from mrl.dialogues.turn_frame import PROBE, template_frame
from mrl.model import ReactiveForCausalLM
from mrl.model.frame import MARKERS
from mrl.recipes.conversion import ConvertedMemoryConfig, ConvertStage
from mrl.recipes.model import MODEL_FOLDER
from mrl.training.model_io import refuse_nonfinite, save_reactive
from pipeline.artifact import atomic_dir
from pipeline.errors import InputError
from pipeline.hub import first_line, keep_hub_offline_if_unreachable, retrying
from pipeline.run import Run


def load_causal(source: str, revision: str | None, memory: ConvertedMemoryConfig) -> tuple[Any, Any]:
    """A causal model in fp32 and its tokenizer. Raises InputError where either can't be had, and, before any weight is
    read, where its architecture can't be converted or lacks one of the layers that `memory` names."""
    where = f"model.name: {source}"

    def loaded(kind: Any, **options: Any) -> Any:
        try:
            options |= {"revision": revision, "trust_remote_code": False}
            return retrying(lambda: kind.from_pretrained(source, **options), what=f"loading {source}")
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # damaged files raise what JSON, safetensors or a model's class happen to raise
            first = first_line(error)
            raise InputError(f"{where} can't be loaded: {first}; check the name, files and network") from None

    if not Path(source).exists():
        keep_hub_offline_if_unreachable()
    config = loaded(AutoConfig)
    require_supported(config, where)
    memory.reading(config.num_hidden_layers)
    model, told = loaded(AutoModelForCausalLM, dtype=torch.float32, output_loading_info=True)
    if missing := sorted(told["missing_keys"]):
        raise InputError(f"{where} lacks {len(missing)} weights (first: {missing[0]}); take a complete model")
    refuse_nonfinite(model, where)
    return model.eval(), loaded(AutoTokenizer)


def convert(causal: Any, tokenizer: Any, stage: ConvertStage) -> ReactiveForCausalLM:
    """The same weights with a memory of token states. Raises InputError where turns can't be told apart."""
    where = f"model.name: {stage.model.name}"
    frame = template_frame(tokenizer, where)
    return reactive_from_causal(
        causal,
        memory_slots=stage.memory.slots,
        kept_share=stage.memory.kept_share,
        memory_keep=stage.memory.keep,
        encoder=stage.memory.encoder,
        memory_read=stage.memory.memory_read,
        memory_layers=stage.memory.reading(causal.config.num_hidden_layers),
        max_interaction_length=stage.max_interaction_length,
        turn_frame={name: list(getattr(frame, name)) for name in MARKERS},
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=frame.pad,
    ).eval()


@torch.no_grad()
def logit_difference(causal: Any, reactive: ReactiveForCausalLM, tokenizer: Any) -> float:
    """The largest difference of any logit on one rendered interaction, while the memory is empty."""
    messages = [{"role": role, "content": content} for role, content in PROBE[:2]]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    return float((causal(ids).logits - reactive(ids).logits).abs().max())


def run_stage(stage: ConvertStage, run: Run) -> None:
    """Load, convert, compare, save."""
    causal, tokenizer = load_causal(stage.source(), stage.model.revision, stage.memory)
    reactive = convert(causal, tokenizer, stage)
    run.begin()
    facts = {
        "parameters": reactive.num_parameters(),
        "logit_difference": logit_difference(causal, reactive, tokenizer),
        "turn_header": tokenizer.decode(reactive.config.frame.header),
    }
    folder = run.dir / MODEL_FOLDER
    with atomic_dir(folder, {"source": stage.model.name, **facts}) as temporary:
        save_reactive(reactive, tokenizer, temporary)
    run.report(**facts, model_dir=str(folder))
