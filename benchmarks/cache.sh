#!/usr/bin/env bash
# How fast a frame cache is beside the videos that it was made of, and how large: the table in
# docs/results.md. About two minutes. Usage: benchmarks/cache.sh [FOLDER WITH CLIPS]
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1
exec python -m benchmarks.cache "${1:-../shared/clips/kinetics400}"
