"""`videorwkv.bench.measure`, for the scripts beside this file."""

from __future__ import annotations

from videorwkv.bench.measure import *  # noqa: F403
