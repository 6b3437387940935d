#!/bin/sh
# The whole way from nothing to a report, one real command a line. `make quickstart` runs it; copy from it what you need.
# OUT=DIR writes elsewhere than outputs/quickstart. QUICK=1 takes every step with a fraction of the data: it shows that
# everything runs, not that anything is learnt.
set -eu
OUT=${OUT:-outputs/quickstart}
SFT="" DPO="" EVAL="" BASE="" MEM="" MRL="" RECALL=""
if [ "${QUICK:-}" ]; then
  SFT="--set trainer.max_steps=40" DPO="--set trainer.max_steps=10" EVAL="--limit 16"
  BASE="--set trainer.max_steps=6" MEM="--set trainer.max_steps=10" MRL="--set trainer.max_steps=4 --set rollout.episodes=16" RECALL="--episodes 20 --repeats 2"
fi
mkdir -p "$OUT" && date +%s >"$OUT/started_at"

# Data, generated: the blends of the three stages and the held-out puzzles, whose content is in none of them.
uv run data/data_collection.py --config-path data/config/quickstart/stage_1.yaml --output-dir "$OUT/data/stage_1"
uv run data/data_collection.py --config-path data/config/quickstart/stage_2.yaml --output-dir "$OUT/data/stage_2"
uv run data/data_collection.py --config-path data/config/quickstart/stage_3.yaml --output-dir "$OUT/data/stage_3"
uv run data/data_collection.py --config-path data/config/quickstart/held_out.yaml --output-dir "$OUT/data/held_out"

# A tokenizer and a Llama with random weights, then the three stages: answers at once, thinks first, prefers.
uv run data/tokenizer.py --config-path data/config/quickstart/tokenizer.yaml --output-dir "$OUT/tokenizer" --set datasets="[$OUT/data/stage_1, $OUT/data/stage_2, $OUT/data/stage_3]"
uv run post_training/initialise.py --config-path post_training/config/quickstart/model.yaml --output-dir "$OUT/model" --set tokenizer="$OUT/tokenizer/tokenizer"
uv run post_training/sft.py --config-path post_training/config/quickstart/stage_1.yaml --output-dir "$OUT/stage_1" --set model.name="$OUT/model" --set dataset.name="$OUT/data/stage_1" $SFT
uv run post_training/sft.py --config-path post_training/config/quickstart/stage_2.yaml --output-dir "$OUT/stage_2" --set model.name="$OUT/stage_1" --set dataset.name="$OUT/data/stage_2" $SFT
uv run post_training/dpo.py --config-path post_training/config/quickstart/stage_3.yaml --output-dir "$OUT/stage_3" --set model.name="$OUT/stage_2" --set dataset.name="$OUT/data/stage_3" $DPO

# Held-out puzzles after each stage, generated freely and scored by lm_eval.
export TRLM_HELD_OUT="$OUT/data/held_out"
for STAGE in stage_1 stage_2 stage_3; do
  uv run lm_eval run --model hf --model_args "pretrained=$OUT/$STAGE/model" --include_path evaluation/tasks --tasks quickstart_sums,quickstart_variables,quickstart_whereabouts --apply_chat_template --batch_size 64 --log_samples --output_path "$OUT/lm_eval/$STAGE" $EVAL
done

# Memory: episodes whose people and things are made up, a tokenizer of whole words, and a reactive model, which reads one
# interaction at a time, through its four supervised runs.
EPISODES="$OUT/data/episodes"
uv run data/data_collection.py --config-path data/config/quickstart/memory_episodes.yaml --output-dir "$EPISODES"
uv run data/tokenizer.py --config-path data/config/quickstart/memory_tokenizer.yaml --output-dir "$OUT/memory_tokenizer" --set datasets="[$EPISODES/steps_4, $EPISODES/steps_8]"
uv run mrl/pretrain.py --config-path mrl/config/quickstart/pretrain.yaml --output-dir "$OUT/reactive_base" --set model.tokenizer="$OUT/memory_tokenizer" --set data.folder="$EPISODES" $BASE
uv run mrl/pretrain.py --config-path mrl/config/quickstart/interaction_sft.yaml --output-dir "$OUT/reactive_sft" --set model.path="$OUT/reactive_base" --set data.folder="$EPISODES" $BASE
uv run mrl/memory_pretrain.py --config-path mrl/config/quickstart/memory_pretrain.yaml --output-dir "$OUT/memory_pretrain" --set model.path="$OUT/reactive_sft" --set data.folder="$EPISODES" $BASE
uv run mrl/memory_sft.py --config-path mrl/config/quickstart/memory_sft.yaml --output-dir "$OUT/memory_sft" --set model.path="$OUT/memory_pretrain" --set data.folder="$EPISODES" $MEM

# Its control: a plain decoder of the size that reads the whole conversation before each answer.
uv run data/data_collection.py --config-path data/config/quickstart/memory_chats.yaml --output-dir "$OUT/data/memory_chats"
uv run post_training/initialise.py --config-path post_training/config/quickstart/memory_chats_model.yaml --output-dir "$OUT/full_history_start" --set tokenizer="$OUT/memory_tokenizer/tokenizer"
uv run post_training/sft.py --config-path post_training/config/quickstart/memory_chats.yaml --output-dir "$OUT/full_history" --set model.name="$OUT/full_history_start" --set dataset.name="$OUT/data/memory_chats" $SFT

# Memory reinforcement learning: dialogues grow to 16 steps; the model's own answers go into its memory.
uv run mrl/train.py --config-path mrl/config/quickstart/mrl.yaml --output-dir "$OUT/mrl" --set model.path="$OUT/memory_sft" --set data.folder="$EPISODES" --set prerequisites="[]" $MRL

# What is recalled at which distance, beside a memory that was reset, one of another dialogue, and the control.
uv run evaluation/retention.py --model "$OUT/memory_sft" --data "$EPISODES/test_16" "$EPISODES/test_32" --baseline "$OUT/full_history" --output-dir "$OUT/retention" $RECALL
uv run evaluation/retention.py --model "$OUT/mrl" --name mrl --data "$EPISODES/test_16" "$EPISODES/test_32" --output-dir "$OUT/retention_mrl" $RECALL

# Tables, plots and samples.
uv run evaluation/report.py --open "$OUT"
