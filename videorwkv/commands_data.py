"""What `videorwkv data ...` does with its arguments."""

from __future__ import annotations

import argparse

from videorwkv.errors import UsageError


def prepare(options: argparse.Namespace) -> int:
    raise UsageError("data prepare: not there yet.")


def check(options: argparse.Namespace) -> int:
    raise UsageError("data check: not there yet.")


def bench(options: argparse.Namespace) -> int:
    raise UsageError("data bench: not there yet.")
