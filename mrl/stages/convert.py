"""A reactive model from a causal one: what mrl/convert.py does."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mrl.conversion.weights import reactive_from_causal, require_supported
from mrl.dialogues.turn_frame import PROBE, template_frame
from mrl.model import ReactiveForCausalLM
from mrl.model.frame import MARKERS
from mrl.recipes.conversion import ConvertStage
from mrl.recipes.model import MODEL_FOLDER
from mrl.training.model_io import refuse_nonfinite, save_reactive
from pipeline.artifact import atomic_dir
from pipeline.errors import InputError
from pipeline.hub import first_line, retrying
from pipeline.run import Run


def load_causal(source: str, revision: str | None) -> tuple[Any, Any]:
    """A causal model in fp32 and its tokenizer. Raises InputError where either can't be had."""
    where = f"model.name: {source}"
    try:
        loaded: Any = retrying(
            lambda: AutoModelForCausalLM.from_pretrained(
                source, revision=revision, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
            ),
            what=f"loading {source}",
        )
        model, told = loaded
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # damaged files raise what JSON, safetensors or a model's class happen to raise
        raise InputError(f"{where} can't be loaded: {first_line(error)}; check the name, files and network") from None
    if missing := sorted(told["missing_keys"]):
        raise InputError(f"{where} lacks {len(missing)} weights (first: {missing[0]}); take a complete model")
    require_supported(model.config, where)
    refuse_nonfinite(model, where)
    return model.eval(), tokenizer


def convert(causal: Any, tokenizer: Any, stage: ConvertStage) -> ReactiveForCausalLM:
    """The same weights with a memory of token states. Raises InputError where turns can't be told apart."""
    where = f"model.name: {stage.model.name}"
    frame = template_frame(tokenizer, where)
    return reactive_from_causal(
        causal,
        memory_slots=stage.memory.slots,
        kept_share=stage.memory.kept_share,
        encoder=stage.memory.encoder,
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
    causal, tokenizer = load_causal(stage.source(), stage.model.revision)
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
