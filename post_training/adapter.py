"""Section `peft`: low-rank adapters (LoRA) on the linear layers instead of training every weight.

E. J. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021), by the PEFT library. What is left at the
end is an ordinary model with the adapter merged into its weights, or the adapter alone.
"""

from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel

from pipeline.errors import InputError
from post_training.recipes.model import AdapterConfig


def lora_config(config: AdapterConfig | None, model: PreTrainedModel, added_tokens: list[str]) -> LoraConfig | None:
    """The section as PEFT takes it. Raises InputError for layers that the model doesn't have and for new tokens."""
    if config is None:
        return None
    if added_tokens:
        raise InputError(
            f"peft: the tokens {', '.join(added_tokens)} are new and an adapter trains no embeddings; add them in a "
            "stage without peft first"
        )
    if not isinstance(config.target_modules, str):
        names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
        for name in config.target_modules:
            if name == "lm_head" or name not in names:
                linear = sorted(n for n in names if n.endswith("_proj")) or sorted(filter(None, names))[:12]
                raise InputError(f"peft.target_modules: {name} can't have an adapter; valid here: {', '.join(linear)}")
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=config.r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=config.target_modules,
        use_rslora=config.use_rslora,
    )


def merged(model: PeftModel) -> PreTrainedModel:
    """The base model with the adapter added to its weights; `model` isn't usable afterwards."""
    return model.merge_and_unload()


__all__ = ["lora_config", "merged"]
