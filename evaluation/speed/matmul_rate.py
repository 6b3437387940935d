"""What a device could do at best: the rate of long matrix products, the floor that times are held against."""

import statistics
import time

import torch


def matmul_rate(size: int, dtype: torch.dtype = torch.float32, device: str = "cpu", repeats: int = 20) -> float:
    """FLOP/s of a product of two square matrices, the median of `repeats` after three that don't count."""
    a = torch.randn(size, size, device=device).to(dtype)
    seconds = []
    for _ in range(repeats + 3):
        started = time.perf_counter()
        a @ a
        if device != "cpu":
            torch.accelerator.synchronize()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(seconds[3:])
