#!/usr/bin/env bash
# Time of a training step on 1, 2, ... processes that share a batch, with one thread each on a CPU:
# the table in docs/distributed.md. Usage: benchmarks/processes.sh [PROCESSES ...] [-- OPTIONS],
# for example benchmarks/processes.sh 1 2 4 8 -- --model lcr_tiny --batch-size 128 --precision bfloat16
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1
counts=()
while [ $# -gt 0 ] && [ "$1" != "--" ]; do counts+=("$1"); shift; done
[ $# -eq 0 ] || shift
echo "| processes | model | clips a step | ms a step | clips/s | communication and waiting |"
echo "|---|---|---|---|---|---|"
for count in "${counts[@]:-1}"; do
  python -m torch.distributed.run --standalone --nproc-per-node "$count" -m benchmarks.processes "$@"
done
