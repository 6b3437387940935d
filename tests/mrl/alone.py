"""A process in which this repository can't be imported, as on a machine that has only a checkpoint."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# Even an editable install must not help: our packages can't be found in this process.
BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("mrl", "pipeline", "data", "post_training", "evaluation"):
            raise ModuleNotFoundError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
"""


def run_alone(
    code: str, folder: Path, *arguments: str, variables: Mapping[str, str] = {}
) -> subprocess.CompletedProcess:
    """Run Python code in `folder`, without network; fails where it fails."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "OMP_NUM_THREADS") if name in os.environ}
    away = {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-I", "-c", BLOCK + code, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=kept | away | dict(variables), capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done
