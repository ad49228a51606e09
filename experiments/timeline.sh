#!/usr/bin/env bash
# When movements happen in generated films: clips first, then films from those weights, threshold and lag by the validation films, then
# the test films beside a sliding window of the same model. Half an hour of a CPU core. Usage: experiments/timeline.sh
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/timeline}
export OMP_NUM_THREADS=1 PYTHONPATH=$PWD
films=motion:timeline=60,train=300,validation=12,test=20,size=48
[ -f "$out/clips/best.safetensors" ] || videorwkv train motion:train=8000,validation=160,test=400,size=48 --recipe motion_demo \
  --set model.image_size=48 --steps 400 --negatives 0.2 --no-baselines --workers 0 --out "$out/clips"
resume=(); [ -f "$out/films/state.pt" ] && resume=(--resume)
videorwkv train "$films" --recipe motion_timeline --init "$out/clips" --out "$out/films" "${resume[@]}"
videorwkv evaluate "$out/films" "$films" --timeline --choose-thresholds --max-false-alarms 1
python experiments/timeline.py "$out/films" "$films" --picture "$out/timeline.png" --hour
