"""Which device and which number format a run gets when the YAML leaves it open."""

import os

import torch

_KEPT_KERNELS = "128"


def keep_few_kernels() -> None:
    """Let a CPU keep the kernels of the latest 128 shapes of bf16 products instead of 1,024, unless the environment
    says how many. Call it before the first product.

    Batches of ever other lengths never ask for an old one again, and each holds about a megabyte: eight steps of DPO
    on SmolLM2-135M stood at 4.2 GB with few and above 5 with all of them, still rising, at the same speed.
    """
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, _KEPT_KERNELS)


def best_device() -> torch.device:
    """The accelerator of this machine (CUDA and ROCm both answer to `cuda`), else the CPU."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator if accelerator is not None else torch.device("cpu")


def best_dtype(device: torch.device | None = None) -> torch.dtype:
    """bf16 where the accelerator has it, else fp16 on an accelerator, else fp32."""
    device = device or best_device()
    if device.type == "cpu":
        return torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.float16


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 matrices with instructions of its own (AVX512-BF16, AMX or their Arm kin)."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "amx_tile", "bf16", "arm_bf16"))


def has_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bf16 matrices with instructions of its own."""
    return cpu_has_bf16() if device.type == "cpu" else best_dtype(device) is torch.bfloat16


def describe_device(device: torch.device | None = None) -> str:
    """A name for reports, such as `cuda (NVIDIA H200)` or `cpu (2 threads)`."""
    device = device or best_device()
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({torch.get_num_threads()} threads)" if device.type == "cpu" else device.type
