#!/usr/bin/env bash
# When movements happen in generated films: clips first, then films from those weights, then segments beside a sliding window of
# the same model. Each training takes minutes of a CPU core. Usage: experiments/timeline.sh
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/timeline}
export OMP_NUM_THREADS=1 PYTHONPATH=$PWD
films=motion:timeline=60,train=200,validation=5,test=20,size=48
[ -f "$out/clips/best.safetensors" ] || videorwkv train motion:train=8000,validation=160,test=400,size=48 --recipe motion_demo \
  --set model.image_size=48 --steps 400 --negatives 0.2 --no-baselines --workers 0 --out "$out/clips"
[ -f "$out/films/best.safetensors" ] || videorwkv train "$films" --recipe motion_timeline --init "$out/clips" --out "$out/films"
[ -f "$out/more/best.safetensors" ] || videorwkv train "$films" --recipe motion_timeline --init "$out/films" --lr 1.5e-3 --steps 260 \
  --set eval_every=65 --out "$out/more"
[ -f "$out/last/last.safetensors" ] || videorwkv train "$films" --recipe motion_timeline --init "$out/more/last" --lr 1.5e-3 --steps 300 \
  --set eval_every=150 --out "$out/last"
videorwkv evaluate "$out/last/last" "$films" --timeline  # validation: says which lag; --choose-thresholds keeps the best
python experiments/timeline.py "$out/last/last" "$films" --lag 0.5 --threshold 0.55 --picture "$out/timeline.png" --hour
