#!/usr/bin/env bash
# A clip through exported files, one frame and several at a time, beside VideoMAE-Ti, and the scan in bfloat16
# beside SDPA: the tables in docs/speed.md. Needs pip install 'videorwkv[bench,openvino]'. One core, 10 minutes.
# Usage: benchmarks/clip.sh [FOLDER for the JSON] [OPTIONS of clip.py]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/clip}
shift $(($# < 1 ? $# : 1))
export OMP_NUM_THREADS=1
python -m benchmarks.clip --json "$out/clip.json" "$@"
echo
python -m benchmarks.scan --dtype bfloat16 --backends native --lengths 49,197,784 --seconds 5 --json "$out/scan.json"
