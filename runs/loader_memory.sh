#!/usr/bin/env bash
# Memory of the loader over 50 shuffled epochs: the figure in LOG.md. About five minutes.
# Usage: runs/loader_memory.sh [DATA [OPTION ...]]    options: runs/loader_memory.py --help
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1
exec python runs/loader_memory.py "${1:-../shared/data/fight}" "${@:2}"
