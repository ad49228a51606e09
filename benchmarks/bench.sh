#!/usr/bin/env bash
# The speed tables of docs/speed.md: models and baselines, a frame and a clip of 16 x 224 x 224, and the
# cost over length. Needs pip install 'videorwkv[bench,openvino]'. One core, about 20 minutes.
# Usage: benchmarks/bench.sh [OPTIONS of videorwkv bench]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/bench}
export OMP_NUM_THREADS=1
# Without torch.compile: it takes 30 to 140 s for a baseline and gains less than OpenVINO does (LOG.md).
videorwkv bench lcr_tiny lcr_nano --against all --tube-mask 0.5 \
  --ways eager,inference,bfloat16,onnx,onnx-int8,openvino,openvino-bfloat16,openvino-int8 \
  --lengths 16,64,256,1024,4096 --seconds 240 --out "$out" "$@"
[ -r /proc/loadavg ] && echo "load after: $(cat /proc/loadavg)"
