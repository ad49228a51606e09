#!/usr/bin/env bash
# What negatives in training do to false alarms: the table in docs/evaluation.md. About 15 minutes of
# one core. Usage: benchmarks/none_of_these.sh
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1
out=${OUT:-runs/none_of_these}
data=motion:train=8000,validation=160,test=400,size=48
how=(--recipe motion_demo --set model.image_size=48 --steps 400 --workers 0 --no-baselines --quiet)
mkdir -p "$out"
[ -d "$out/plain" ] || videorwkv train "$data" "${how[@]}" --out "$out/plain"
[ -d "$out/negatives" ] || videorwkv train "$data" "${how[@]}" --negatives 0.2 --out "$out/negatives"
python -m benchmarks.none_of_these "$out/negatives" "$out/plain" --data "$data"
