#!/usr/bin/env bash
# What the weights that come with the package are worth: `gestures` as videos, 10 clips a class, `lcr_pico` as `train` chooses it,
# from `scenes` and from random weights, after 100, 200 and 600 steps. One CPU thread; 90 s to 8 minutes a run.
# Usage: [SEEDS="0 1"] [STEPS="100 200 600"] experiments/start.sh
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/start} data=${DATA:-runs/chosen/gestures-100}
export OMP_NUM_THREADS=1
[ -d "$data" ] || { python experiments/as_folder.py gestures:train=100,validation=0,test=200 "$data.part"; mv "$data.part" "$data"; }

for steps in ${STEPS:-100 200 600}; do
  for seed in ${SEEDS:-0 1}; do
    for init in none scenes; do
      run=$out/$init-$steps-$seed
      [ -f "$run/evaluation-test/predictions.csv" ] && continue
      resume=(); [ -f "$run/state.pt" ] && resume=(--resume)
      videorwkv train "$data" --init "$init" --steps "$steps" --seed "$seed" --out "$run" --cache "$out/cache" --workers 1 \
        --no-baselines --quiet "${resume[@]}"
      videorwkv evaluate "$run/last" "$data" --split test --cache "$out/cache" --workers 0 > "$run/evaluation.txt"
      echo "$init, $steps steps, seed $seed: $(grep -E '^top-1' "$run/evaluation.txt")"
    done
  done
done
