#!/usr/bin/env bash
# Whose past a layer asks: `motion` (400 test clips) with the demo's recipe, `past=own` against `below`. One CPU thread and one for
# the clips, two to five minutes a run. Usage: [SEEDS="0 1"] experiments/past.sh
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/past} data=motion:train=8000,validation=160,test=400
export OMP_NUM_THREADS=1

for seed in ${SEEDS:-0 1}; do
  for past in own below; do
    run=$out/$past-$seed
    [ -f "$run/evaluation-test/predictions.csv" ] && continue
    resume=(); [ -f "$run/state.pt" ] && resume=(--resume)
    videorwkv train "$data" --recipe motion_demo --set model.past=$past --seed "$seed" --no-baselines --quiet --out "$run" "${resume[@]}"
    videorwkv evaluate "$run" "$data" --split test --workers 0 > "$run/evaluation.txt"
    echo "$past, seed $seed: $(grep -E '^top-1' "$run/evaluation.txt")"
  done
done
