#!/usr/bin/env bash
# How fast clips are read, beside bare PyAV: the figures in docs/results.md. About 5 minutes on two idle
# cores. Usage: benchmarks/data_bench.sh DATA [ROUNDS] [OPTIONS of `videorwkv data bench` ...]
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?a data set, as in: benchmarks/data_bench.sh DATA} rounds=${2:-7}
shift $(($# < 2 ? $# : 2))
export OMP_NUM_THREADS=1

videorwkv env | grep -E '^(videorwkv|python|platform|torch|numpy|opencv|av|cpu) '
[ -r /proc/loadavg ] && echo "load             $(cat /proc/loadavg)"
for how in "" --train; do
  # shellcheck disable=SC2086
  videorwkv data bench "$data" --rounds "$rounds" $how "$@"
  [ -r /proc/loadavg ] && echo "load             $(cat /proc/loadavg)"
done
