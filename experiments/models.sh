#!/usr/bin/env bash
# Parameters and multiply-accumulates of every preset in docs/model.md. Usage: experiments/models.sh
set -euo pipefail
cd "$(dirname "$0")/.."
videorwkv models --classes 27
