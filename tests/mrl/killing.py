"""A run that dies in the middle, in this process or in one of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from mrl.training.loop import Training

ROOT = Path(__file__).resolve().parents[2]


class Killed(Exception):
    """Not an error that a stage would catch."""


@contextmanager
def killed_after(updates: int) -> Iterator[None]:
    """The run inside takes so many updates and dies in the next one."""
    whole, taken = Training.step, []

    def step(self, *arguments, **options):
        taken.append(None)
        if len(taken) > updates:
            raise Killed
        return whole(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Training, "step", step)
        yield


KILLING = """
import os, runpy, signal, sys
from mrl.training.loop import Training
script, updates, whole, taken = sys.argv[1], int(sys.argv[2]), Training.step, []

def step(self, *arguments, **options):
    taken.append(None)
    if len(taken) > updates:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, *arguments, **options)

Training.step, sys.argv = step, [script, *sys.argv[3:]]
runpy.run_path(script, run_name="__main__")
"""


def run_killed_after(updates: int, script: str, *arguments: str) -> None:
    """A script of mrl/ in a process of its own that takes so many updates; SIGKILL ends it in the next one."""
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads()), "WANDB_MODE": "disabled"}
    command = [sys.executable, "-c", KILLING, f"mrl/{script}.py", str(updates), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
