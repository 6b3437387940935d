"""The `trainer` section: TRL's own arguments, checked before work, completed with what this machine and run decide."""

import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, cast

import datasets
import torch
from transformers import TrainingArguments
from transformers.utils import logging as transformers_logging

from pipeline.config import check_arguments
from pipeline.device import best_device, best_dtype, cpu_has_bf16, keep_few_kernels
from pipeline.errors import InputError
from pipeline.hub import tracker
from pipeline.run import Run
from post_training.recipes.stages import EarlyStoppingConfig
from post_training.trl_options import LIMITS, RENAMED, Stage, refuse_contradictions, refuse_ignored

logger = logging.getLogger(__name__)


def modernise(section: dict[str, Any]) -> dict[str, Any]:
    """The section in today's names: `warmup_ratio: 0.1` becomes `warmup_steps: 0.1` (below 1 it means a share)."""
    section = dict(section)
    if "warmup_ratio" in section:
        ratio = section.pop("warmup_ratio")
        if "warmup_steps" in section:
            raise InputError("trainer.warmup_ratio is the old form of warmup_steps, which is given as well; keep one")
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 <= ratio < 1:
            raise InputError(f"trainer.warmup_ratio should be a share from 0 to below 1, not {ratio!r}")
        logger.warning("trainer.warmup_ratio is now a fractional warmup_steps; %s is used as warmup_steps", ratio)
        section["warmup_steps"] = float(ratio)
    return section


def modernise_dpo(section: dict[str, Any], current: int | None) -> tuple[dict[str, Any], int | None]:
    """DPO's section in today's names, and the longest prompt: `max_prompt_length` is now the filter of `dataset.py`.

    A single `loss_type` may stand without a list around it.
    """
    section = dict(section)
    if isinstance(section.get("loss_type"), str):
        section["loss_type"] = [section["loss_type"]]
    if "max_prompt_length" not in section:
        return section, current
    length = section.pop("max_prompt_length")
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise InputError(f"trainer.max_prompt_length should be a positive whole number, not {length!r}")
    if current is not None:
        raise InputError("trainer.max_prompt_length is now dataset.max_prompt_length, which is given as well; keep one")
    logger.warning("trainer.max_prompt_length is now dataset.max_prompt_length: longer prompts are filtered out")
    return section, length


def precision(section: dict[str, Any], device: torch.device | None = None) -> dict[str, bool]:
    """`bf16` and `fp16` for this machine.

    An accelerator: bf16 where it has it, else fp16, unless the YAML switches it off. A CPU: fp32, and bf16 autocast
    only when the YAML asks for it and the CPU has the instructions.
    """
    device = device or best_device()
    wants_bf16, wants_fp16 = section.get("bf16"), section.get("fp16")
    if wants_bf16 and wants_fp16:
        raise InputError("trainer.bf16 and trainer.fp16 are both true; keep one")
    if device.type == "cpu":
        if wants_fp16:
            logger.warning("trainer.fp16 needs an accelerator; this CPU trains in fp32")
        if wants_bf16 and not cpu_has_bf16():
            logger.warning("trainer.bf16: this CPU has no bf16 instructions, so it trains in fp32")
        return {"bf16": bool(wants_bf16) and cpu_has_bf16(), "fp16": False}
    best = best_dtype(device)
    if wants_bf16 is False and not wants_fp16:
        return {"bf16": False, "fp16": False}
    if wants_bf16 and best is not torch.bfloat16:
        logger.warning("trainer.bf16: this accelerator has no bf16, so it trains in fp16")
    use_bf16 = best is torch.bfloat16 and not wants_fp16
    return {"bf16": use_bf16, "fp16": not use_bf16}


def settle_process() -> None:
    """TF32 for what stays fp32 on an accelerator, denormals flushed on a CPU (they cost a hundred times a normal
    number), few kernels kept there, and no progress bars of the libraries where nobody sees them."""
    keep_few_kernels()
    torch.set_float32_matmul_precision("high")
    torch.set_flush_denormal(True)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        transformers_logging.disable_progress_bar()


def training_arguments[A: TrainingArguments](
    cls: type[A],
    section: dict[str, Any],
    run: Run,
    *,
    evaluates: bool,
    early_stopping: EarlyStoppingConfig | None = None,
    **defaults: Any,
) -> A:
    """Build `cls` from the checked section. `defaults` hold unless the YAML says otherwise. Raises InputError."""
    section = modernise(section)
    checked = check_arguments(cls, section, "trainer", renamed=RENAMED, limits=LIMITS)
    stage = cast(Stage, cls.__name__.removesuffix("Config").lower())
    refuse_ignored(checked, stage)
    refuse_contradictions(checked, stage)
    _require_evaluation(checked, early_stopping, evaluates)
    if token := checked.pop("hub_token", None):
        os.environ["HF_TOKEN"] = token  # where the Hub's clients look; no object that is written to disk holds it
    on_cpu = bool(checked.get("use_cpu")) or best_device().type == "cpu"
    if on_cpu and checked.get("activation_offloading"):
        raise InputError("trainer.activation_offloading: there is no accelerator to offload from; take it out")
    if checked.get("use_liger_kernel") and find_spec("liger_kernel") is None:
        raise InputError("trainer.use_liger_kernel: the package liger-kernel isn't installed; take it out")
    on_terminal = sys.stderr.isatty()
    settings: dict[str, Any] = {
        "report_to": [tracker()],
        "activation_checkpointing": False,  # recompute only where the YAML says that memory asks for it
        "eval_strategy": "epoch" if evaluates else "no",
        "per_device_eval_batch_size": checked.get("per_device_train_batch_size", 8),
        "dataloader_pin_memory": not on_cpu,
        "use_cpu": on_cpu,
        "disable_tqdm": not on_terminal,
        "logging_nan_inf_filter": False,  # a loss that isn't a number must be seen
        "run_name": run.dir.name,
        **(_for_early_stopping(checked) if early_stopping else {}),
        **defaults,
        **checked,
        **precision(checked, torch.device("cpu") if on_cpu else None),
        "output_dir": str(run.dir),
        "seed": run.seed,
        "data_seed": checked.get("data_seed", run.seed),
    }
    with trl_refusals():
        return cls(**settings)


def _require_evaluation(checked: dict[str, Any], early_stopping: EarlyStoppingConfig | None, evaluates: bool) -> None:
    """Raise InputError for settings about evaluations that would never take place."""
    if not evaluates:
        if checked.get("eval_strategy", "no") != "no":
            raise InputError("trainer.eval_strategy: there is nothing to evaluate; name dataset.held_out")
        if early_stopping is not None:
            raise InputError("early_stopping: there is nothing to evaluate; name dataset.held_out")
        for name in ("eval_steps", "eval_on_start", "eval_delay", "load_best_model_at_end", "metric_for_best_model"):
            if checked.get(name):
                raise InputError(f"trainer.{name}: there is nothing to evaluate; name dataset.held_out")
    elif checked.get("eval_steps") and checked.get("eval_strategy") != "steps":
        raise InputError("trainer.eval_steps: it does nothing without trainer.eval_strategy: steps")
    if early_stopping is not None and checked.get("eval_strategy") == "no":
        raise InputError("early_stopping: trainer.eval_strategy: no never evaluates; write epoch or steps")


def _for_early_stopping(checked: dict[str, Any]) -> dict[str, Any]:
    """Checkpoints where evaluations are, so that the best weights are there, and a patience that outlives a resume."""
    strategy = checked.get("eval_strategy", "epoch")
    steps = {"save_steps": checked["eval_steps"]} if strategy == "steps" and "eval_steps" in checked else {}
    return {
        "load_best_model_at_end": True,
        "metric_for_best_model": "loss",
        "save_strategy": strategy,
        "restore_callback_states_from_checkpoint": True,
        **steps,
    }


@contextmanager
def trl_refusals(key: str = "trainer") -> Generator[None]:
    """What TRL's and transformers' classes refuse while they are built, as one line about `key`."""
    try:
        yield
    except (ValueError, TypeError, NotImplementedError, ImportError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"{key}: {first}") from error
