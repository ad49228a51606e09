#!/usr/bin/env bash
# What masks at inference cost in accuracy and save in time: table, JSON and plot, on HandWash
# (the 4 folds of experiments/handwash.sh) and on `motion` (the run of experiments/demo.sh). One CPU thread.
# Figures that are there stay, so it can be stopped and called again. Usage: benchmarks/masking.sh
set -euo pipefail
cd "$(dirname "$0")/.."
data=${DATA:?the folder of HandWash, as in: DATA=handwash benchmarks/masking.sh} runs=${RUNS:-runs/handwash} demo=${DEMO:-runs/demo/run}
out=${OUT:-runs/masking}
export OMP_NUM_THREADS=1
python -m benchmarks.masking --handwash "$data" --folds "$runs/default" --cache "$runs/cache" \
  --demo "$demo" --out "$out" "$@"
