#!/usr/bin/env bash
# Accuracy of the exported step on HandWash, through the files, fold by fold (its speed: benchmarks/bench.sh).
# Needs pip install 'videorwkv[openvino]' and the runs of experiments/handwash.sh default. One CPU thread.
# Usage: benchmarks/export.sh [FOLD ...]
set -euo pipefail
cd "$(dirname "$0")/.."
data=${DATA:?the folder of HandWash, as in: DATA=handwash benchmarks/export.sh} runs=${RUNS:-runs/handwash} out=${OUT:-runs/export}
export OMP_NUM_THREADS=1
mkdir -p "$out"

folds=(${*:-0 1 2 3})
for fold in "${folds[@]}"; do
  run=$runs/default/fold$fold
  split=(--fold-by 'HandWash_(\d+)_' --folds 001+002,003+004,005+006,007+008 --fold "$fold"
         --cache "$runs/cache")
  score() {  # MODEL NAME
    videorwkv evaluate "$1" "$data" --split test "${split[@]}" --workers 0 \
      --out "$out/$2/fold$fold/evaluation-test" | grep top-1 | sed "s|^|fold $fold, $2: |"
  }
  score "$run" pytorch
  for way in onnx/float32 onnx/int8 openvino/float32 openvino/bfloat16 openvino/int8; do
    to=${way%/*} precision=${way#*/}
    calibrate=(); [ $precision = int8 ] && calibrate=(--calibrate "$data" "${split[@]}")
    file=$out/$to-$precision/fold$fold.$([ $to = onnx ] && echo onnx || echo xml)
    videorwkv export "$run" --to $to --precision $precision --out "$file" \
      "${calibrate[@]}" | sed "s|^|fold $fold, $way: |"
    score "$file" $to-$precision
  done
done
python experiments/pool.py --folds "${#folds[@]}" "$out"/pytorch "$out"/{onnx,openvino}-*
