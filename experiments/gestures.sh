#!/usr/bin/env bash
# `gestures` with ten clips a class: what the stem sees and how the memory is pooled, beside baselines without a network.
# A small model (64 px, two layers), so that a run takes minutes of one thread. Usage: experiments/gestures.sh [VARIANT ...]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/gestures} seeds=${SEEDS:-0} data=${DATA:-gestures:validation=0}
export OMP_NUM_THREADS=1
small=(--recipe default --model lcr_nano --steps "${STEPS:-300}" --batch-size 16 --lr 2e-3 --precision float32 --workers 1
  --set sampling.num_frames=24 --set model.image_size=64 --set model.patch_size=8 --set model.width=64
  --set model.head_width=32 --set model.depth=2 --set model.position=none
  --set augmentation.scale=0.6,1 --set augmentation.erase_probability=0)

declare -A variants=(
  [default]=""
  [change]="stem_picture=false"
  [cells]="readout=cells"
  [change-cells]="stem_picture=false readout=cells"
  [change-cells-no-edges]="stem_picture=false readout=cells edges=none key_value_source=frame"
)

for variant in "${@:-change-cells}"; do
  [ -v "variants[$variant]" ] || { echo "Unknown variant $variant: ${!variants[*]}" >&2; exit 2; }
  options=()
  for option in ${variants[$variant]}; do options+=(--set "model.$option"); done
  for seed in $seeds; do
    run=$out/$variant-$seed
    [ -f "$run/evaluation-test/predictions.csv" ] && continue
    resume=(); [ -f "$run/state.pt" ] && resume=(--resume)
    videorwkv train "$data" --out "$run" --cache "$out/cache" --seed "$seed" --quiet "${small[@]}" "${options[@]}" "${resume[@]}"
    videorwkv evaluate "$run/last" "$data" --split test --cache "$out/cache" --baselines > "$run/evaluation.txt"
    echo "$variant seed $seed: $(grep -E '^top-1' "$run/evaluation.txt")"
  done
done
