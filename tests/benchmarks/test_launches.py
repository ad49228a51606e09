from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from benchmarks.launches import HEADER, Launches, count, measure, rows, saved_bytes
from videorwkv.ops.native import missing

# What there is today, and a little: a change that passes them was not meant, or moves them.
BOUNDS = {"forward": 205, "backward": 270, "optimiser": 10, "evaluation": 150}
SMALL = {"image_size": 32, "patch_size": 8, "width": 32, "depth": 1, "head_width": 16}


@pytest.mark.parametrize("recompute", [False, True])
def test_more_frames_are_no_more_operations_where_all_go_at_once(recompute: bool) -> None:
    if missing(torch.bfloat16):
        pytest.skip("no C compiler")
    options = {"scan": "native", "past": "below", "recompute": recompute, **SMALL}
    found = [measure("lcr_nano", frames, 1, ["bfloat16"], **options) for frames in (2, 5)]
    two, five = (x["training"]["bfloat16"]["parts"] for x in found)
    assert two == five
    assert five["forward"]["cell_native"] == 1


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_kernels_of_the_triton_scan_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name alone: nothing is run, so nothing is imported."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for past, name, number in (("below", "scan_gated", 1), ("own", "scan_short", 2)):
        found = measure("lcr_nano", 2, 1, ["bfloat16"], past=past, **SMALL)
        parts = found["training"]["bfloat16"]["parts"]
        assert parts["forward"][name] == number  # of two frames
        assert parts["backward"][f"{name}_backward"] == 3 * number  # two kernels and a sum
        assert found["evaluation"]["bfloat16"][name] == number


def test_what_is_counted_and_what_is_kept() -> None:
    layer = torch.nn.Linear(4, 4)
    x = torch.zeros(3, 4, requires_grad=True)
    with saved_bytes(layer) as kept, Launches() as launches:
        # A product; a view and what only reserves memory do not count.
        (layer(x).tanh().view(-1) + torch.empty(12)).sum()
        assert kept() == 2 * 3 * 4 * 4  # x and the result of tanh
    assert launches.counts == {"addmm": 1, "tanh": 1, "add": 1, "sum": 1}
    assert count(lambda: x.T @ x) == {"mm": 1}


def test_a_small_model_stays_under_its_bounds() -> None:
    """Whoever adds an operation to each frame sees it here."""
    if missing(torch.bfloat16):
        pytest.skip("no C compiler")
    found = measure("lcr_nano", 3, 4, ["bfloat16"], scan="native", **SMALL)
    parts = found["training"]["bfloat16"]["parts"]
    assert parts["forward"].total() <= BOUNDS["forward"]
    assert parts["backward"].total() <= BOUNDS["backward"]
    assert parts["optimiser"].total() <= BOUNDS["optimiser"]
    assert found["evaluation"]["bfloat16"].total() <= BOUNDS["evaluation"]
    less = measure("lcr_nano", 3, 1, ["bfloat16"], scan="native", recompute=True, **SMALL)
    assert less["training"]["bfloat16"]["bytes"] <= 0.9 * found["training"]["bfloat16"]["bytes"]
    assert [len(row) for row in rows(found, 4)] == [len(HEADER)] * 2
