#!/usr/bin/env bash
# The demo's accuracy and time in README.md, and the two pictures there. Usage: experiments/demo.sh
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/demo}
scripts/demo --out "$out"
mkdir -p docs/images
cp "$out/prediction.gif" "$out/learning_curve.png" docs/images/
