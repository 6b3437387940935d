# The table of contents. Everything runs on a machine that has only Python and make: uv is installed with pip when missing.
.DEFAULT_GOAL := help
.PHONY: help uv setup quickstart control remember tour smollm2 smollm2-memory study test lint bench clean

OUT ?= outputs/quickstart
QUICK ?=
PARTS ?=
BACKEND ?= default
export OUT QUICK
# Where Python may not keep what it compiles, every command compiles torch and transformers again: ten seconds a time.
unexport PYTHONDONTWRITEBYTECODE

# pip may put uv where the shell doesn't look, and a version manager's shim may answer to `uv` and still fail:
# both script folders of this Python go on PATH, and uv counts as present only when it runs.
SCRIPTS := $(shell python3 -c 'import os, site, sysconfig; print(sysconfig.get_path("scripts") + ":" + os.path.join(site.getuserbase(), "bin"))')
export PATH := $(PATH):$(SCRIPTS)
PIP := python3 -m pip install --quiet --disable-pip-version-check

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

uv:
	@uv --version >/dev/null 2>&1 || $(PIP) uv 2>/dev/null || $(PIP) --user --break-system-packages uv

setup: uv  ## install everything; BACKEND=cpu|cuda|rocm picks the torch build
	@uv run --no-project python pipeline/torch_backend.py "$(BACKEND)"

quickstart: uv  ## data, training, memory and evaluation from nothing, on this machine; QUICK=1 shortened, OUT=DIR elsewhere
	@uv run evaluation/quickstart/run.py --output-dir "$(OUT)" $(if $(QUICK),--quick)

tour: uv  ## the longer stages, in the folder of a finished quickstart; QUICK=1 shortened, OUT=DIR elsewhere
	@uv run evaluation/quickstart/run.py --config-path tour.yaml --output-dir "$(OUT)" $(if $(QUICK),--quick)

smollm2: uv  ## SmolLM2-135M-Instruct through all stages, asked before and after each (hours); QUICK=1 shortened, RECIPES=smollm2_gpu
	@OUT=$(if $(filter file,$(origin OUT)),outputs/smollm2,$(OUT)) sh smollm2.sh

smollm2-memory: uv  ## SmolLM2-135M-Instruct is given a memory (hours); QUICK=1 shortened, OUT=DIR elsewhere
	@OUT=$(if $(filter file,$(origin OUT)),outputs/smollm2_memory,$(OUT)) sh smollm2_memory.sh

remember: uv  ## your own dialogues, DATA=FILE (docs/own_dialogues.md), become a model in OUT (default outputs/own); HELD_OUT=FILE, MODEL=FOLDER
	@test -n "$(DATA)" || { echo "say which dialogues: make remember DATA=chats.jsonl" >&2; exit 2; }
	@uv run mrl/remember.py --data $(DATA) $(if $(HELD_OUT),--held-out $(HELD_OUT)) $(if $(MODEL),--model $(MODEL)) --output-dir $(if $(filter file,$(origin OUT)),outputs/own,$(OUT))

control: uv  ## the quickstart's memory beside a plain decoder that reads the whole history (four minutes of training)
	@uv run data/data_collection.py --config-path data/config/quickstart/memory_chats.yaml --output-dir "$(OUT)/data/memory_chats"
	@uv run post_training/initialise.py --config-path post_training/config/quickstart/memory_chats_model.yaml --output-dir "$(OUT)/full_history_start" --set tokenizer="$(OUT)/memory_tokenizer/tokenizer"
	@uv run post_training/sft.py --config-path post_training/config/quickstart/memory_chats.yaml --output-dir "$(OUT)/full_history" --set model.name="$(OUT)/full_history_start" --set dataset.name="$(OUT)/data/memory_chats"
	@uv run evaluation/retention.py --model "$(OUT)/memory_sft" --data "$(OUT)/data/episodes/study_16" "$(OUT)/data/episodes/test_32" --episodes 2000 --controls 200 --baseline "$(OUT)/full_history" --output-dir "$(OUT)/retention"
	@uv run evaluation/report.py "$(OUT)"

study: uv  ## seeds and ablations of memory reinforcement learning, from the quickstart's model; PARTS="critic rlhf" others, PARTS=all every one
	@uv run evaluation/study/run.py $(if $(PARTS),--parts $(PARTS))
	@uv run evaluation/report.py outputs/quickstart outputs/study --output-dir outputs/study

# A worker a core, one thread each: most of the tests are small, and threads would wait for one another. One of them drives
# the chat page in a browser, and says so where there is none.
test: uv  ## all tests
	@OMP_NUM_THREADS=1 uv run --group browser pytest -n auto --dist loadfile

lint: uv  ## style, types, import contracts
	@uv run ruff check .
	@uv run ruff format --check .
	@uv run lint-imports
	@uv run ty check pipeline evaluation post_training mrl

bench: uv  ## the benchmarks, one JSON line each
	@for file in $$(grep -l __main__ evaluation/speed/*.py); do echo "# $$file" >&2; uv run $$file || exit 1; done

clean:  ## remove what runs made
	rm -rf outputs data/artefacts .pytest_cache .ruff_cache
