#!/usr/bin/env bash
# A stream of 100,000 frames (memory, time, logits) and a long file through `stream`: the figures
# in LOG.md. RUN should be a trained lcr_nano; without one, a short training makes it.
# 20 minutes of one core. Usage: benchmarks/stream.sh [RUN]
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1
out=${OUT:-runs/stream} run=${1:-runs/handwash/default/fold0}
mkdir -p "$out"
if [ ! -f "$run/config.json" ]; then
  run=$out/nano
  [ -f "$run/config.json" ] || videorwkv train motion:size=112,train=4000,validation=160 \
    --recipe default --model lcr_nano --set sampling.fps=4 --set sampling.num_frames=8 --steps 300 \
    --batch-size 8 --lr 0.002 --workers 0 --quiet --out "$run"
fi
status=0
python -m benchmarks.stream_length "$run" --json "$out/length.json" || status=$?
python -m benchmarks.stream_file "$run" --folder "$out" || status=$?
exit "$status"
