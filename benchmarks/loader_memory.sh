#!/usr/bin/env bash
# Memory of the loader over 50 shuffled epochs: the figure in LOG.md. About five minutes.
# Usage: benchmarks/loader_memory.sh DATA [OPTION ...]    options: benchmarks/loader_memory.py --help
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1
exec python benchmarks/loader_memory.py "${1:?a data set, as in: benchmarks/loader_memory.sh DATA}" "${@:2}"
