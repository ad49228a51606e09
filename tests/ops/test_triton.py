"""The Triton kernels, in triton's interpreter: no GPU is needed, and none has run them yet."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_wkv import TOLERANCE, make

from videorwkv.errors import UsageError
from videorwkv.ops.triton_scan import interpreted
from videorwkv.ops.wkv import wkv

SCRIPT = Path(__file__).with_name("triton_parity.py")
has_triton = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not has_triton, reason="triton is not installed")


@pytest.fixture(scope="module")
def results() -> dict[str, dict]:
    """In a process of its own: triton must be told to interpret before its first import."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


@needs_triton
def test_equal_reference(results):
    cases = {name: errors for name, errors in results.items() if name[0].isdigit()}
    assert len(cases) >= 10
    for case, errors in cases.items():
        tolerance = TOLERANCE[getattr(torch, case.split()[1])]
        for name, error in errors.items():
            bound = {"out": 1, "log_decay": 30}.get(name, 4) * tolerance
            assert error < bound, (case, name)


@needs_triton
def test_prepared_frames_are_the_frames(results):
    assert results["frames"]["out"] < 3e-6


@needs_triton
def test_operators_are_well_formed(results):
    assert results["operators"] == {}


@needs_triton
def test_auto_checks_a_gpu_first(results):
    found = results["failing"]
    assert found["right"] is None
    assert "computes wrong numbers" in found["wrong"]
    assert "no such instruction" in found["broken"]


@pytest.mark.skipif(interpreted(), reason="TRITON_INTERPRET is set")
def test_named_but_impossible():
    wanted = "needs a GPU; the tensors are on 'cpu'" if has_triton else "pip install triton"
    with pytest.raises(UsageError, match=wanted):
        wkv(*make(5, torch.float32), backend="triton")
