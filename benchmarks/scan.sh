#!/usr/bin/env bash
# The scan alone over length beside softmax attention, and what it costs a frame: the tables in
# LOG.md. 15 minutes of one core. Usage: benchmarks/scan.sh [FOLDER for the JSON] [OPTIONS of scan.py]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/scan}
shift $(($# < 1 ? $# : 1))
export OMP_NUM_THREADS=1
python -m benchmarks.scan --json "$out/scan.json" "$@"
echo
python -m benchmarks.frame --json "$out/frame.json"
[ -r /proc/loadavg ] && echo "load after             $(cat /proc/loadavg)"
