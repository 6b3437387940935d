# The table of contents. Everything runs on a machine that has only Python 3.12 and make: uv is installed with pip when missing.
.DEFAULT_GOAL := help
.PHONY: help uv setup quickstart test lint bench clean

OUT ?= outputs/quickstart
QUICK ?=
BACKEND ?= default
export OUT QUICK

# A version manager's shim may answer to `uv` and still fail, so uv counts as present only when it runs.
UV_OK = uv --version >/dev/null 2>&1
PIP_UV = python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore uv

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

uv:
	@$(UV_OK) || python3 -m uv --version >/dev/null 2>&1 || $(PIP_UV)
	@$(UV_OK) || { echo "uv is installed but not on PATH; add the folder that 'python3 -m site --user-base' names, /bin, to PATH" >&2; exit 2; }

setup: uv  ## install everything; BACKEND=cpu|cuda|rocm picks the torch build
	@uv run --no-project python pipeline/torch_backend.py "$(BACKEND)"

quickstart: uv  ## data, training, memory and evaluation from nothing, on this machine; QUICK=1 shortened, OUT=DIR elsewhere
	@sh quickstart.sh

test: uv  ## all tests
	@uv run pytest

lint: uv  ## style, types, import contracts
	@uv run ruff check . && uv run ruff format --check . && uv run lint-imports && uv run ty check pipeline

bench: uv  ## the benchmarks, one JSON line each
	@for file in evaluation/benchmarks/*.py; do case $$file in */__init__.py) ;; *) echo "# $$file" >&2; uv run $$file || exit 1;; esac; done

clean:  ## remove what runs made
	rm -rf outputs data/artefacts .pytest_cache .ruff_cache
