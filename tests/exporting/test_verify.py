from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from videorwkv.errors import CheckpointError
from videorwkv.exporting import verify
from videorwkv.exporting.verify import (
    MOST_ROUNDING,
    TOLERANCES,
    Tolerance,
    Verification,
    check,
    compare,
)
from videorwkv.models import Inputs, LCRConfig

TOLERANCE = Tolerance(logits=0.1, probability=0.1, top1=1.0)
FRAMES, STREAMS, CLASSES = 64, 2, 3


def found(difference_TBK: object = 0.0, tolerance: Tolerance = TOLERANCE) -> Verification:
    """What `compare` says of logits that differ by so much."""
    expected_TBK = np.random.default_rng(0).normal(size=(FRAMES, STREAMS, CLASSES))
    # One class is clearly the best.
    expected_TBK[..., 1] += 5
    return compare(expected_TBK, expected_TBK + difference_TBK, source="test", tolerance=tolerance)


def test_the_same_logits_have_no_fault() -> None:
    same = found()
    assert (same.logits, same.probability, same.top1, same.decided_top1) == (0, 0, 1, 1)
    assert same.decided > FRAMES
    assert not same.faults(TOLERANCE)
    check(same, "float32")


def test_differences_are_shares_of_the_largest_logit() -> None:
    shifted = found(np.full(CLASSES, 0.5))
    # The same for all classes: no probability changes.
    assert shifted.probability < 1e-12
    assert 0.05 < shifted.logits < 0.5
    assert not shifted.faults(TOLERANCE)
    (fault,) = shifted.faults(replace(TOLERANCE, logits=0.01))
    assert fault.startswith("logits differ by")


def test_one_nan_is_a_fault() -> None:
    difference_TBK = np.zeros((FRAMES, STREAMS, CLASSES))
    difference_TBK[5, 0, 0] = np.nan
    assert len(found(difference_TBK).faults(TOLERANCE)) >= 2


def test_another_best_class_counts_only_where_the_best_is_clear() -> None:
    difference_TBK = np.zeros((FRAMES, STREAMS, CLASSES))
    difference_TBK[3, 0, 0] = 20
    wide = Tolerance(logits=10, probability=0.9, top1=1.0)
    assert any("another best class" in fault for fault in found(difference_TBK, wide).faults(wide))
    # Nothing is that clear.
    unclear = replace(wide, probability=1.0)
    none = found(difference_TBK, unclear)
    assert none.top1 < 1
    assert none.decided == 0
    assert not none.faults(unclear)


@pytest.mark.parametrize(("late", "drifts"), [(0.04, False), (0.06, True)])
def test_a_difference_that_grows_is_a_fault_halfway_to_the_limit(late: float, drifts: bool) -> None:
    grown = replace(found(), early=0.02, late=late)
    assert any("grows" in fault for fault in grown.faults(TOLERANCE)) is drifts
    # As large from the start: no drift.
    assert not replace(grown, early=late).faults(TOLERANCE)


def test_rounding_widens_the_limits_within_reason() -> None:
    strict = Tolerance(logits=1e-4, probability=1e-4, top1=1.0)
    off = replace(found(), logits=5e-4)
    assert off.faults(strict)
    assert not replace(off, rounding=1e-4).faults(strict)
    assert replace(off, logits=2 * MOST_ROUNDING, rounding=1.0).faults(strict)


@pytest.mark.parametrize(
    ("margin", "rounding", "counts"),
    [
        (0.00024, None, True),
        (0.00024, 1e-6, True),
        (0.00024, 1e-5, True),
        (0.00024, 0.0051, False),
        # However much it rounds: two classes, each moved by the most that is allowed.
        (0.019, 1.0, False),
        (0.021, 1.0, True),
    ],
)
def test_only_frames_that_rounding_cannot_turn_are_clear(
    margin: float, rounding: float | None, counts: bool
) -> None:
    strict = TOLERANCES["float32"]
    expected_TBK = np.zeros((FRAMES, 1, 2))
    expected_TBK[..., 1] = 5
    # The first frame is nearly even, and turns.
    expected_TBK[0, 0] = 0, 2 * np.arctanh(margin)
    found_TBK = expected_TBK.copy()
    found_TBK[0] = expected_TBK[0, :, ::-1]
    one = compare(expected_TBK, found_TBK, source="test", tolerance=strict, rounding=rounding)
    assert one.rounding == rounding
    assert one.decided == FRAMES - 1 + counts
    assert any("another best class" in fault for fault in one.faults(strict)) is counts


def test_rounding_decides_which_frames_are_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    expected_TBK = np.zeros((FRAMES, 1, 2))
    expected_TBK[..., 1] = 5
    expected_TBK[0, 0] = 0, 0.0004
    found_TBK = expected_TBK.copy()
    found_TBK[0, 0] = 0.0004, 0
    exact_TBK = expected_TBK + 0.02
    runs = iter([found_TBK, expected_TBK, exact_TBK])
    monkeypatch.setattr(verify, "_run", lambda *_: next(runs))
    monkeypatch.setattr(verify, "_same_start", lambda *_: None)
    inputs = Inputs(torch.zeros(1, FRAMES, 8, 8, 3), torch.zeros(1, FRAMES, 8, 8))
    file: Any = SimpleNamespace(init_state=lambda _: None, config=LCRConfig())
    model: Any = torch.nn.Identity()
    strict = TOLERANCES["float32"]
    one = verify.verify(model, file, inputs, source="test", tolerance=strict)
    assert one.rounding == pytest.approx(0.02 / 5.02)
    assert one.top1 < 1
    assert not one.faults(strict)


@pytest.mark.parametrize(
    ("decided", "said"),
    [
        (0, "98.4% (no clear frame)"),
        (1, "98.4% (100.0% of 1 clear frame)"),
        (7, "98.4% (100.0% of 7 clear frames)"),
    ],
)
def test_the_summary_says_how_many_frames_are_clear(decided: int, said: str) -> None:
    one = replace(found(), top1=0.984, decided_top1=1.0, decided=decided)
    assert one.summary().endswith(f"same best class {said}")


@pytest.mark.parametrize("precision", TOLERANCES)
def test_what_next_suits_the_precision(precision: str) -> None:
    with pytest.raises(CheckpointError, match=r"Nothing was written\. \w") as caught:
        check(replace(found(), logits=1.0), precision)
    message = str(caught.value)
    assert ("Choose" in message) is (precision != "float32")
    assert ("--calibrate" in message) is (precision == "int8")


def test_refusing_says_what_and_what_next() -> None:
    with pytest.raises(CheckpointError, match=r"int8 step.*\(test\).*logits.*Nothing.*--calibrate"):
        check(replace(found(), logits=1.0), "int8")
