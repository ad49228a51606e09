#!/usr/bin/env bash
# How fast a frame cache is beside the videos that it was made of, and how large: the table in
# docs/results.md. About two minutes. Usage: benchmarks/cache.sh FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1
exec python -m benchmarks.cache "${1:?a folder of clips, as in: benchmarks/cache.sh FOLDER}"
