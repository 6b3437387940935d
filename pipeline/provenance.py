"""Where a figure comes from: the source's commit, the libraries' versions, the memory it took."""

import platform
import resource
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import psutil

VERSIONED = ("torch", "transformers", "trl", "datasets", "accelerate", "tokenizers", "huggingface_hub", "lm_eval")


def peak_memory_mb() -> float:
    """Peak resident memory of this process in MB (10^6 bytes)."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage also counts what stood in this process before exec: a large parent's memory
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def process_seconds() -> float:
    """Seconds since this process began, its interpreter's start included."""
    return time.time() - psutil.Process().create_time()


def git_commit() -> str | None:
    """The commit of the source tree, with `+dirty` when files differ from it; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        status = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+dirty" if status.stdout.strip() else "")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a result."""
    found = {"python": platform.python_version()}
    for package in VERSIONED:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
