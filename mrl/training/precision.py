"""Which number format a run computes in."""

import logging
import time
from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from mrl.losses.output import LossOutput
from pipeline.device import best_dtype, cpu_has_bf16

logger = logging.getLogger(__name__)


def choose_precision(accelerator: Accelerator, losses: Sequence[Callable[[], LossOutput]]) -> str:
    """fp32 or bf16: on an accelerator bf16 where it has it; on a CPU whichever runs these losses faster (a small model
    loses more by casting than it gains). The parameters keep gradients from the trial: zero them."""
    device = accelerator.device
    if device.type != "cpu":
        return "bf16" if best_dtype(device) == torch.bfloat16 else "fp32"
    chosen = ["fp32"]
    if cpu_has_bf16() and losses and accelerator.process_index == 0:
        random, spent = torch.get_rng_state(), {}
        for precision in ("fp32", "bf16", "fp32", "bf16"):  # the first of each warms up
            started = time.perf_counter()
            for loss in losses:
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                    total = loss().loss
                total.backward()
            spent[precision] = time.perf_counter() - started
        torch.set_rng_state(random)
        chosen = [min(spent, key=spent.get)]
        logger.info("a step takes %.3f s in fp32, %.3f s in bf16: %s", spent["fp32"], spent["bf16"], chosen[0])
    if accelerator.num_processes > 1:
        broadcast_object_list(chosen)
    return chosen[0]
