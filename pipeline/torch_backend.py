"""Install another build of torch than the default index carries, so that plain `uv run …` keeps it.

    make setup BACKEND=rocm      (or cpu, cuda)

uv chooses torch builds only in `uv pip install --torch-backend`; the next `uv run` would sync the environment back to
the lock. So, after installing, the entry of torch in uv.lock (git-ignored, this machine's own) is rewritten to the
build that is there, without the CUDA libraries that the default build asks for. Standard library only: it runs before
the environment exists.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BACKENDS = {"cpu": "cpu", "cuda": "auto", "rocm": "rocm7.2"}
# What the default Linux build of torch pulls in and the other builds bring along or can't use.
CUDA_ONLY = re.compile(r"^(nvidia-|cuda-|triton$)")


def uv(*arguments: str, capture: bool = False) -> str:
    """Run uv in the repository; its own messages are the best ones, so a failure just ends the script."""
    done = subprocess.run(["uv", *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE if capture else None)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout or ""


def rewrite_lock(lock: str, version: str, wheel: str) -> str:
    """The text of uv.lock with torch at `version` (such as 2.15.0+rocm7.2) and none of its CUDA dependencies."""

    def entry(match: re.Match[str]) -> str:
        text = match[0]
        text = re.sub(r'^version = ".*"$', f'version = "{version}"', text, count=1, flags=re.MULTILINE)
        kept = [line for line in text.splitlines(keepends=True) if not _names_cuda(line)]
        text = "".join(kept)
        url = re.search(r'url = "([^"]*/)[^"/]+\.whl"', text)
        base = url[1] if url else "https://example.invalid/"
        # Never fetched while the installed version matches; uv only wants a wheel that would fit this platform.
        return re.sub(
            r"^wheels = \[\n.*?^\]\n",
            f'wheels = [\n    {{ url = "{base}{wheel}" }},\n]\n',
            text,
            flags=re.MULTILINE | re.DOTALL,
        )

    pattern = re.compile(r'^\[\[package\]\]\nname = "torch"\n.*?(?=^\[\[package\]\]|\Z)', re.MULTILINE | re.DOTALL)
    rewritten, found = pattern.subn(entry, lock)
    if found != 1:
        sys.exit(f"error: uv.lock holds {found} entries for torch where one was expected; delete uv.lock and try again")
    return rewritten


def _names_cuda(line: str) -> bool:
    name = re.match(r'\s+\{ name = "([^"]+)"', line)
    return bool(name and CUDA_ONLY.match(name[1]))


def installed_torch() -> tuple[str, str]:
    """Version and wheel file name of the torch in the project's environment."""
    found = sorted((ROOT / ".venv").glob("lib/python*/site-packages/torch-*.dist-info"))
    if len(found) != 1:
        sys.exit(f"error: expected one torch in .venv, found {len(found)}; delete .venv and try again")
    version = found[0].name.removeprefix("torch-").removesuffix(".dist-info")
    tags = re.findall(r"^Tag: (.+)$", (found[0] / "WHEEL").read_text(encoding="utf-8"), re.MULTILINE)
    return version, f"torch-{version}-{tags[0]}.whl"


def main(backend: str) -> None:
    """Install everything with the torch build of `backend`, then make the lock agree."""
    if backend == "default":
        (ROOT / "uv.lock").unlink(missing_ok=True)
        uv("sync")
        return
    if backend not in BACKENDS:
        sys.exit(f"error: BACKEND={backend} is not one of {', '.join(['default', *BACKENDS])}")
    (ROOT / "uv.lock").unlink(missing_ok=True)
    uv("lock")
    exported = uv(
        "export", "--frozen", "--no-hashes", "--no-emit-project", "--no-header", "--no-annotate", capture=True
    )
    lines = [line for line in exported.splitlines() if not CUDA_ONLY.match(line.split("==")[0])]
    requirements = ROOT / ".venv" / "requirements.txt"
    uv("venv", "--clear")
    requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
    # The export pins every version; exclude-newer would hide the torch index, which tells no upload times.
    flags = ("--no-config", "--torch-backend", BACKENDS[backend])
    uv("pip", "install", *flags, "--requirements", str(requirements), "--editable", ".")
    version, wheel = installed_torch()
    lock = ROOT / "uv.lock"
    lock.write_text(rewrite_lock(lock.read_text(encoding="utf-8"), version, wheel), encoding="utf-8")
    uv(
        "run",
        "python",
        "-c",
        "import torch; print('torch', torch.__version__, 'accelerator:', torch.accelerator.is_available())",
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: torch_backend.py default|" + "|".join(BACKENDS))
    main(sys.argv[1])
