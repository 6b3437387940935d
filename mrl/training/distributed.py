"""How the processes of a run find each other, where it is tracked, and which number format it computes in."""

import logging
import os
import time
from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, broadcast_object_list

from mrl.losses.output import LossOutput
from pipeline.config import to_dict
from pipeline.device import best_device, best_dtype, cpu_has_bf16
from pipeline.errors import InputError
from pipeline.hub import redact, tracker
from pipeline.run import Run

logger = logging.getLogger(__name__)


def fsdp_asked_for() -> bool:
    """Whether accelerate's launcher asks for FSDP: gradients and moments in parts over the processes. The request is
    taken out of the environment, because `Optimizer` meets it: weights are read by methods other than `forward`, in
    each process as often as its dialogues are long, which FSDP's own gathering of weights can't follow.

    Raises InputError where weights are to be in parts too.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() != "true":
        return False
    whole = os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "").lower() == "false"
    if not whole or os.environ.get("FSDP_OFFLOAD_PARAMS", "").lower() == "true":
        raise InputError(
            "these stages keep whole weights in each process (every turn of a dialogue reads them); launch with "
            "mrl/config/accelerate/fsdp.yaml, which has fsdp_version 2, fsdp_reshard_after_forward false and no offload"
        )
    os.environ["ACCELERATE_USE_FSDP"] = "false"
    logger.info("FSDP: gradients and the optimizer's moments are shared out over the processes (optimizer.shard)")
    return True


def join_processes(run: Run, report_to: str, expected: int | None) -> Accelerator:
    """Join the other processes of this run; `report_to` names its tracker. Raises InputError for ways of running that
    would silently be another."""
    if os.environ.get("ACCELERATE_USE_DEEPSPEED"):
        raise InputError("these stages don't run under DeepSpeed; launch with accelerate's ddp.yaml or fsdp.yaml")
    chosen = tracker() if report_to == "auto" else report_to
    accelerator = Accelerator(
        cpu=best_device().type == "cpu", log_with=None if chosen == "none" else chosen, project_dir=str(run.dir)
    )
    if accelerator.distributed_type not in (
        DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU,
    ):  # fmt: skip
        raise InputError(f"{accelerator.distributed_type} is not supported; launch with torchrun --nproc_per_node N")
    if expected is not None and accelerator.num_processes != expected:
        raise InputError(
            f"trainer.processes is {expected}, but this run has {accelerator.num_processes}; launch it with "
            f"`torchrun --nproc_per_node {expected}` (accelerate launch --cpu starts one process only)"
        )
    if chosen != "none":
        names = {"wandb": {"name": f"{run.stage}-{run.dir.name}", "dir": str(run.dir)}}
        accelerator.init_trackers(
            os.environ.get("WANDB_PROJECT", "trlm") if chosen == "wandb" else "tensorboard",
            config={"config": str(redact(to_dict(run.config)))},
            init_kwargs=names if chosen == "wandb" else {},
        )
    return accelerator


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
        chosen = [min(spent, key=spent.__getitem__)]
        logger.info("a step takes %.3f s in fp32, %.3f s in bf16: %s", spent["fp32"], spent["bf16"], chosen[0])
    if accelerator.num_processes > 1:
        broadcast_object_list(chosen)
    return chosen[0]
