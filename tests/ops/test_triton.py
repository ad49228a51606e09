"""The Triton kernels, in triton's interpreter: no GPU is needed, and none has run them yet."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from test_wkv import NAMES, TOLERANCE, make

from videorwkv.errors import UsageError
from videorwkv.ops.triton_short import interpreted
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


def beyond(
    results: dict[str, dict], way: str, decay_bound: int, names: Sequence[str] = NAMES
) -> list[tuple[str, str]]:
    """The cases of a way, and what of each, whose error reaches its bound."""
    cases = {name: errors for name, errors in results.items() if name.startswith(way)}
    assert len(cases) >= 7
    found = []
    for case, errors in cases.items():
        tolerance = {**TOLERANCE, torch.float16: 1e-3}[getattr(torch, case.split()[2])]
        assert errors.keys() == {"out", *names}
        for name, error in errors.items():
            bound = {"out": 1, "log_decay": decay_bound}.get(name, 4) * tolerance
            if not error < bound:
                found.append((case, name))
    return found


@needs_triton
def test_equal_reference(results):
    assert beyond(results, "states", 30) == []


@needs_triton
def test_short_frames_equal_reference(results):
    # Its gradient of the decay is no difference of large sums.
    assert beyond(results, "short", 4) == []


@needs_triton
def test_rotary_norm_and_gate_in_the_scan(results):
    assert beyond(results, "gated", 4, ("rg", "kv", "log_decay", "bonus")) == []


@needs_triton
def test_models_with_it(results):
    assert results["model"] == {way: pytest.approx(0, abs=2e-5) for way in ("triton", "recompute")}


@needs_triton
def test_mixed_types(results):
    assert results["types"] == {
        "torch.float32": [pytest.approx(0, abs=3e-6), True],
        "torch.bfloat16": [pytest.approx(0, abs=6e-3), True],
    }


@needs_triton
def test_only_longer_frames_have_states(results):
    assert results["longer"] == {"256": False, "257": True}


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
    assert "computes wrong numbers" in found["wrong states"]
    assert "computes wrong numbers" in found["wrong gate"]
    assert "no such instruction" in found["broken"]


@pytest.mark.skipif(interpreted(), reason="TRITON_INTERPRET is set")
def test_named_but_impossible():
    wanted = "needs a GPU; the tensors are on 'cpu'" if has_triton else "pip install triton"
    with pytest.raises(UsageError, match=wanted):
        wkv(*make(5, torch.float32), backend="triton")
