#!/usr/bin/env bash
# What a start from another run's weights is worth: HandWash, test clips of fold 3 (sessions 007 and
# 008), three seeds, from a run on generated movements and from nothing, 100, 200 and 400 steps.
# One CPU thread. Usage: experiments/init.sh
set -euo pipefail
cd "$(dirname "$0")/.."
data=${DATA:?the folder of HandWash, as in: DATA=handwash experiments/init.sh} out=${OUT:-runs/init}
export OMP_NUM_THREADS=1
folds=(--fold-by 'HandWash_(\d+)_' --folds 001+002,003+004,005+006,007+008 --fold 3)

[ -f "$out/motion/best.safetensors" ] ||
  videorwkv train motion --model lcr_pico --lr 2e-3 --steps 600 --set ema=0.98 --seed 0 --quiet \
    --no-baselines --workers 1 --out "$out/motion"

for steps in 100 200 400; do
  for seed in 0 1 2; do
    for start in nothing motion; do
      run=$out/$start-$steps-$seed
      [ -f "$run/evaluation-test/predictions.csv" ] && continue
      options=(--model lcr_pico --lr 2e-3 --set ema=0.98)
      [ "$start" = motion ] && options=(--init "$out/motion")
      ${SLOT:-} videorwkv train "$data" "${folds[@]}" "${options[@]}" --steps "$steps" --seed "$seed" --workers 1 \
        --flips experiments/handwash_flips.csv --cache "$out/cache" --no-baselines --quiet --out "$run"
      ${SLOT:-} videorwkv evaluate "$run" "$data" --split test "${folds[@]}" --workers 0 > "$run/evaluation.txt"
      echo "$start $steps steps, seed $seed: $(head -1 "$run/evaluation.txt")"
    done
  done
done
