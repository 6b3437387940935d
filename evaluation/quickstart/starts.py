"""Starting a command: as people type it, or as a fork of this process, which has loaded torch and its kin already.

A fork does what a new process would do (its own seeds, memory, exit status, log) and spares the ten seconds and more in
which Python loads the same libraries again. Where an accelerator is there commands are started as typed: its driver
doesn't outlive a fork.
"""

import atexit
import gc
import importlib
import os
import runpy
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

_WRITTEN = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def can_fork() -> bool:
    """Whether commands may be forks of this process."""
    accelerators = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd")
    return sys.platform == "linux" and not any(Path(device).exists() for device in accelerators)


def load(module: str) -> None:
    """Import something that the commands that follow share; their collector of garbage need never look at it."""
    importlib.import_module(module)
    gc.freeze()
    # What is still frozen when Python ends counts as leaked, and triton says so in fifty lines.
    atexit.unregister(gc.unfreeze)
    atexit.register(gc.unfreeze)


def start(words: Sequence[str], log: Path | None, threads: int, fork: bool) -> int:
    """Begin a command whose output goes to `log`, or (None) to this process's own; returns its process id. words:
    `uv run SCRIPT …`."""
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
    if not fork:
        begin: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        if log is not None:
            begin += [(os.POSIX_SPAWN_OPEN, 1, str(log), _WRITTEN, 0o644), (os.POSIX_SPAWN_DUP2, 1, 2)]
        variables = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        return os.posix_spawnp(words[0], list(words), variables, file_actions=begin)
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    status = 1
    try:
        status = _become(words[2:], log, threads)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _become(words: Sequence[str], log: Path | None, threads: int) -> int:
    """Be the process of a script or of an installed command, to its exit status."""
    if log is not None:
        out = os.open(log, _WRITTEN, 0o644)
        for stream in (1, 2):
            os.dup2(out, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
    sys.argv = list(words)
    try:
        if words[0].endswith(".py"):
            sys.path[0] = str(Path(words[0]).resolve().parent)
            runpy.run_path(words[0], run_name="__main__")
        else:
            (command,) = entry_points(group="console_scripts", name=words[0])
            command.load()()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status
