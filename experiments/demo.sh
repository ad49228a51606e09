#!/usr/bin/env bash
# The demo's accuracy and time, and its two pictures, in README.md and docs/results.md. Usage: experiments/demo.sh
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/demo}
scripts/demo --out "$out"
mkdir -p docs/images
cp "$out/prediction.gif" "$out/learning_curve.png" docs/images/
