#!/usr/bin/env bash
# The weights that come with the package as `scenes`: training, test, and the folder that is shipped. One CPU core and one for
# its clips; about 35 minutes. Usage: [PAST=below] experiments/scenes.sh
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/scenes}
export OMP_NUM_THREADS=1
[ -f "$out/best.safetensors" ] && resume=(--resume) || resume=()
# shellcheck disable=SC2206  # two words, or none
past=(${PAST:+--set model.past=$PAST})
videorwkv train scenes --recipe pretrain_scenes "${past[@]}" --out "$out" --no-baselines "${resume[@]}"
videorwkv evaluate "$out" scenes --split test
[ -n "${PAST:-}" ] || python experiments/ship.py "$out" scenes
