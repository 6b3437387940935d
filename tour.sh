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
quick() { [ -z "${QUICK:-}" ] || echo "$@"; }  # options that only the shortened form has
TOUR="$OUT/tour"
EPISODES="$OUT/data/episodes"

# The report again, with the tour's figures in it.
uv run evaluation/report.py "$OUT"
