"""The layout holds: import contracts, names that shadow nothing, nothing that only this machine knows."""

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("pipeline", "data", "post_training", "mrl", "evaluation")


def sources(*suffixes: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / line for line in listed.stdout.splitlines() if line.endswith(suffixes) and (ROOT / line).is_file()]


def test_import_contracts_are_kept():
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_no_name_in_a_script_folder_shadows_a_library():
    # `uv run data/x.py` puts data/ first on sys.path: data/datasets.py would replace Hugging Face datasets, and
    # evaluation/speed/mrl.py the room mrl.
    taken = {*sys.stdlib_module_names, *packages_distributions(), *ROOMS}
    inside = [p for p in sources(".py") if p.relative_to(ROOT).parts[0] in ROOMS]
    folders = {p.parent for p in inside if "__main__" in p.read_text()}
    assert ROOT / "evaluation" / "speed" in folders
    modules = [p for p in inside if p.parent in folders and p.stem != "__init__"]
    packages = [p.parent for p in inside if p.parent.parent in folders and p.stem == "__init__"]
    assert [str(p) for p in (*modules, *packages) if p.stem in taken] == []


def test_nothing_is_called_after_a_drawer():
    drawers = {"utils", "util", "helpers", "helper", "common", "misc", "core", "base"}
    assert [str(p) for p in sources(".py") if p.stem in drawers] == []


def test_scripts_are_not_imported():
    inside = {p: p.read_text() for p in sources(".py") if p.relative_to(ROOT).parts[0] in ROOMS}
    scripts = {
        ".".join(p.relative_to(ROOT).with_suffix("").parts): p
        for p, text in inside.items()
        if '__name__ == "__main__"' in text
    }
    assert {"mrl.train", "evaluation.study.run", "evaluation.speed.generation"} <= scripts.keys()
    offenders = [
        f"{path.relative_to(ROOT)} imports {script}"
        for path, text in inside.items()
        for script in scripts.keys() & imported(text)
        if scripts[script] != path
    ]
    assert offenders == []


def imported(source: str) -> set[str]:
    """Dotted names that a source imports; `from a import b` may mean the module a.b as well."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_no_file_names_a_registry_or_a_machine():
    wrong = re.compile(r"/root/|/work/main|files\.pythonhosted|pypi\.org/simple|download\.pytorch\.org")
    offenders = [str(p) for p in sources(".py", ".toml", ".yaml", ".yml", ".md", ".sh", "Makefile", ".json")
                 if p != Path(__file__) and wrong.search(p.read_text(encoding="utf-8", errors="ignore"))]  # fmt: skip
    assert offenders == []
