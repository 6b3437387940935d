"""`make setup BACKEND=…` edits this machine's lock so that `uv run` keeps the torch build that was installed."""

import tomllib

import pytest

from pipeline.torch_backend import ROOT, main, rewrite_lock

LOCK = """version = 1
requires-python = "==3.12.*"

[[package]]
name = "tokenizers"
version = "0.23.3"

[[package]]
name = "torch"
version = "2.15.0"
source = { registry = "https://index.invalid/simple" }
dependencies = [
    { name = "filelock" },
    { name = "nvidia-cublas", marker = "sys_platform == 'linux'" },
    { name = "cuda-bindings", marker = "sys_platform == 'linux'" },
    { name = "sympy" },
    { name = "triton", marker = "sys_platform == 'linux'" },
]
wheels = [
    { url = "https://f.invalid/a/torch-2.15.0-cp312-cp312-manylinux_2_28_x86_64.whl", hash = "sha256:00", size = 1 },
    { url = "https://f.invalid/c/torch-2.15.0-cp312-none-macosx_11_0_arm64.whl", hash = "sha256:01", size = 1 },
]

[[package]]
name = "tqdm"
version = "4.70.1"
"""


def test_only_the_entry_of_torch_changes():
    wheel = "torch-2.15.0+rocm7.2-cp312-cp312-manylinux_2_28_x86_64.whl"
    before, after = tomllib.loads(LOCK), tomllib.loads(rewrite_lock(LOCK, "2.15.0+rocm7.2", wheel))
    assert [p["name"] for p in after["package"]] == ["tokenizers", "torch", "tqdm"]
    assert [after["package"][0], after["package"][2]] == [before["package"][0], before["package"][2]]
    torch = after["package"][1]
    assert torch["version"] == "2.15.0+rocm7.2"
    assert [d["name"] for d in torch["dependencies"]] == ["filelock", "sympy"]
    assert [w["url"].rsplit("/", 1)[1] for w in torch["wheels"]] == [wheel]


def test_a_lock_of_another_shape_is_refused():
    with pytest.raises(SystemExit, match="0 entries for torch"):
        rewrite_lock("version = 1\n", "2.15.0+cpu", "x.whl")


def test_an_unknown_backend_is_refused_before_anything_happens():
    with pytest.raises(SystemExit, match="BACKEND=cuuda is not one of default, cpu, cuda, rocm"):
        main("cuuda")


def test_the_development_tools_are_an_extra_and_installed_without_asking():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {"pytest", "ruff"} <= {tool.split("==")[0] for tool in project["project"]["optional-dependencies"]["dev"]}
    assert project["dependency-groups"]["dev"] == ["trlm[dev]"]
