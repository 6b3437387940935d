#!/bin/sh
# What the quickstart has no time for, in its folder: `make tour` after `make quickstart`. OUT=DIR names the folder, QUICK=1
# takes every stage with a fraction of the data, as there. Stages that are finished aren't done again. What a stage leaves
# lies in OUT/tour/NAME; evaluation/reporting/tour/ says which of it stands in the report.
set -eu
OUT=${OUT:-outputs/quickstart}
if ! [ -f "$OUT/report.json" ] || ! find "$OUT/report.json" -newer "$OUT/started_at" | grep -q .; then
  echo "error: $OUT holds no finished quickstart (its report.json is missing or older than its start): run \`make quickstart OUT=$OUT\` first" >&2
  exit 2
fi
quick() { [ -z "${QUICK:-}" ] || echo "$@"; }  # options that only the shortened form has; no blank inside one
TOUR="$OUT/tour"
EPISODES="$OUT/data/episodes"

# Words never seen: pieces of words, episodes whose words are made up, and slots that keep tokens as they were read.
WORDS="$TOUR/unseen_words"
uv run data/data_collection.py --config-path data/config/quickstart/memory_unseen_episodes.yaml --output-dir "$WORDS/episodes"
uv run data/tokenizer.py --config-path data/config/quickstart/memory_unseen_tokenizer.yaml --output-dir "$WORDS/tokenizer" --set datasets="[$WORDS/episodes/steps_4]"
uv run mrl/memory_sft.py --config-path mrl/config/quickstart/memory_sft_unseen.yaml --output-dir "$WORDS/memory_sft" --set model.tokenizer="$WORDS/tokenizer" --set data.folder="$WORDS/episodes" $(quick --set trainer.max_steps=4 --set held_out_dialogues=20)
for SET in unseen known; do
  [ -f "$WORDS/retention_$SET/retention.json" ] || uv run evaluation/retention.py --model "$WORDS/memory_sft" --data "$WORDS/episodes/test_$SET" --repeats 2 --output-dir "$WORDS/retention_$SET" $(quick --episodes 20)
done

# Thinking: questions whose answer follows from two remembered facts, thought through first and answered at once, as many
# steps of each; both are asked the same held-out questions with their own answers in memory.
THINK="$TOUR/derivations" FEW=$(quick ", limit: 500")
uv run data/data_collection.py --config-path data/config/quickstart/memory_think_episodes.yaml --output-dir "$THINK"
uv run mrl/memory_sft.py --config-path mrl/config/quickstart/memory_sft_think.yaml --output-dir "$TOUR/think" --set model.path="$OUT/memory_sft" --set data.folder="$THINK" --set data.train="[{path: think$FEW}]" $(quick --set trainer.max_steps=4)
uv run mrl/memory_sft.py --config-path mrl/config/quickstart/memory_sft_think.yaml --output-dir "$TOUR/think_direct" --set model.path="$OUT/memory_sft" --set data.folder="$THINK" --set data.train="[{path: direct$FEW}]" --set data.held_out="[{path: validation_direct}]" $(quick --set trainer.max_steps=4)
[ -f "$TOUR/think/asked/retention.json" ] || uv run evaluation/retention.py --model "$TOUR/think" --data "$THINK/test" --think auto --own-answers --repeats 2 --output-dir "$TOUR/think/asked" $(quick --episodes 20)
[ -f "$TOUR/think_direct/asked/retention.json" ] || uv run evaluation/retention.py --model "$TOUR/think_direct" --data "$THINK/test" --own-answers --repeats 2 --output-dir "$TOUR/think_direct/asked" $(quick --episodes 20)

# The two strategies of memory reinforcement at 16 steps: one topic to the end and a question for all of it, and a topic that is
# left and comes back. Both from the supervised model, with its own answers in memory before and after.
STRATEGIES="$TOUR/strategies"
uv run data/data_collection.py --config-path data/config/quickstart/memory_strategy_episodes.yaml --output-dir "$STRATEGIES/episodes"
for RUN in cumulative/extend long_term/change; do
  NAME=${RUN%/*} ROWS=${RUN#*/}
  uv run mrl/train.py --config-path "mrl/config/quickstart/mrl_$NAME.yaml" --output-dir "$STRATEGIES/$NAME" --set model.path="$OUT/memory_sft" --set data.folder="$STRATEGIES/episodes" $(quick --set trainer.max_steps=2 --set rollout.episodes=16 --set held_out_dialogues=8)
  for MODEL in "$OUT/memory_sft" "$STRATEGIES/$NAME"; do
    ASKED="$STRATEGIES/asked_${NAME}_$(basename "$MODEL")"
    [ -f "$ASKED/retention.json" ] || uv run evaluation/retention.py --model "$MODEL" --data "$STRATEGIES/episodes/${ROWS}_test_16" --own-answers --max-new-tokens 24 --repeats 2 --output-dir "$ASKED" $(quick --episodes 20)
  done
done

# Verifiable rewards: the finished stage 2, after some rows that are answered at once, thinks in some of its answers only;
# GRPO from there is paid for right answers alone.
GRPO="$TOUR/grpo"
uv run data/data_collection.py --config-path data/config/quickstart/both_ways.yaml --output-dir "$GRPO/data"
uv run post_training/sft.py --config-path post_training/config/quickstart/both_ways.yaml --output-dir "$GRPO/start" --set model.name="$OUT/stage_2" --set dataset.name="$GRPO/data" $(quick --set trainer.max_steps=20)
uv run post_training/grpo.py --config-path post_training/config/quickstart/grpo.yaml --output-dir "$GRPO/run" --set model.name="$GRPO/start" --set dataset.name="$OUT/data/stage_2" --set dataset.evaluate_on.puzzles.name="$OUT/data/held_out" $(quick --set trainer.max_steps=2 --set trainer.per_device_train_batch_size=16 --set dataset.evaluate_on.puzzles.rows=16)

# Preferences: a start that answers in all manners, then DPO, a reward model, reinforcement by it, and by it and memory.
PREFER="$TOUR/preferences"
uv run data/data_collection.py --config-path data/config/quickstart/preferences.yaml --output-dir "$PREFER/data"
uv run mrl/memory_sft.py --config-path mrl/config/quickstart/manners_memory_sft.yaml --output-dir "$PREFER/start" --set model.path="$OUT/mrl" --set data.folder="$PREFER/data" $(quick --set trainer.max_steps=2 --set held_out_dialogues=20)
uv run mrl/dpo.py --config-path mrl/config/quickstart/dpo.yaml --output-dir "$PREFER/dpo" --set model.path="$PREFER/start" --set data.folder="$PREFER/data" $(quick --set trainer.max_steps=2 --set 'data.train=[{"path":"pairs","limit":64}]' --set 'data.held_out=[{"path":"validation","limit":20}]')
uv run mrl/reward_model.py --config-path mrl/config/quickstart/reward_model.yaml --output-dir "$PREFER/reward_model" --set model.path="$PREFER/start" --set data.folder="$PREFER/data" $(quick --set trainer.max_steps=2 --set 'data.train=[{"path":"pairs","limit":64}]' --set 'data.held_out=[{"path":"validation","limit":20}]')
for RUN in rlhf combined; do
  uv run mrl/rlhf.py --config-path "mrl/config/quickstart/$RUN.yaml" --output-dir "$PREFER/$RUN" --set model.path="$PREFER/start" --set data.folder="$PREFER/data" --set rewards.models.quality="$PREFER/reward_model" $(quick --set trainer.max_steps=2 --set rollout.episodes=8 --set held_out_dialogues=8)
done
[ -f "$PREFER/compared/preferences.json" ] || uv run evaluation/preferences.py --start "$PREFER/start" --model "$PREFER/dpo" "$PREFER/rlhf" "$PREFER/combined" --data "$PREFER/data/test" --output-dir "$PREFER/compared" $(quick --episodes 20)

# A memory for the reasoner: stage 3's model, converted, learns to remember with its puzzles among the episodes, and is
# asked them again. lm_eval's files are moved: what lies under results_* would stand among the stages' own.
CONVERT="$TOUR/convert"
uv run mrl/convert.py --config-path mrl/config/quickstart/convert.yaml --from "$OUT/stage_3" --output-dir "$CONVERT/converted"
uv run mrl/memory_sft.py --config-path mrl/config/quickstart/converted_memory_sft.yaml --output-dir "$CONVERT/memory_sft" --set model.path="$CONVERT/converted" --set data.folder="$OUT" $(quick --set trainer.max_steps=2 --set trainer.batch_size=8 --set held_out_dialogues=10)
[ -f "$CONVERT/retention/retention.json" ] || uv run evaluation/retention.py --model "$CONVERT/memory_sft" --data "$EPISODES/test" --episodes 300 --repeats 2 --output-dir "$CONVERT/retention" $(quick --episodes 20)
cp "$OUT"/lm_eval/stage_3/*/results_*.json "$CONVERT/puzzles_before.json"
if ! [ -f "$CONVERT/puzzles_after.json" ]; then
  rm -rf "$CONVERT/lm_eval"
  uv run lm_eval run --model hf --model_args pretrained="$CONVERT/memory_sft/model",trust_remote_code=True --include_path evaluation/tasks --tasks quickstart_sums,quickstart_variables,quickstart_whereabouts --metadata "{\"held_out\": \"$OUT/data/held_out\"}" --apply_chat_template --batch_size 64 --output_path "$CONVERT/lm_eval/after" $(quick --limit 8)
  mv "$CONVERT"/lm_eval/after/*/results_*.json "$CONVERT/puzzles_after.json"
fi

# The report again, with the tour's figures in it.
uv run evaluation/report.py "$OUT"
