#!/usr/bin/env bash
# Ruined clips against `videorwkv data check`: the figures in docs/results.md. Usage: benchmarks/mutants.sh FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1
python -m benchmarks.mutants "${1:?a folder of clips, as in: benchmarks/mutants.sh FOLDER}" --count 1000 --seed 0
