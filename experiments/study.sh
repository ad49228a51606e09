#!/usr/bin/env bash
# The pages of docs/study/. Needs pip install -e '.[study]'. Usage: experiments/study.sh [quick | full | handwash]
# quick: 40 minutes on two cores, into runs/study/quick. full: about five hours on two cores, or a GPU.
# handwash: `ablation` and `edges` on real clips, two hours; smaller and shorter than experiments/handwash.sh (a minute
# and a half per training), so its accuracies are lower. The same command resumes an interrupted study.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1
case ${1:-quick} in
  quick) videorwkv study all --quick --out runs/study/quick ;;
  full) videorwkv study all --out docs/study ;;
  handwash)
    data=${DATA:?the folder of HandWash, as in: DATA=handwash experiments/study.sh}
    for name in ablation edges; do
      videorwkv study "$name" "$data" --recipe handwash --set model.image_size=80 --set steps=200 --flips experiments/handwash_flips.csv \
        --fold-by 'HandWash_(\d+)_' --folds 001+002,003+004,005+006,007+008 \
        --cache runs/handwash/cache --seeds "${SEEDS:-1}" --no-frames --out docs/study/handwash
    done ;;
  *) echo "Unknown: $1 (quick, full, handwash)" >&2; exit 2 ;;
esac
