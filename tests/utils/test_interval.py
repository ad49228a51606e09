from __future__ import annotations

import math

import pytest

from videorwkv.utils.interval import interval, interval_text


@pytest.mark.parametrize(("correct", "total"), [(1, 1), (3, 10), (95, 106), (50, 50), (0, 20)])
def test_its_ends_leave_the_tails(correct: int, total: int) -> None:
    low, high = interval(correct, total)

    def more_than(count: int, share: float) -> float:
        return sum(
            math.comb(total, k) * share**k * (1 - share) ** (total - k)
            for k in range(count, total + 1)
        )

    # By the definition: each end makes what was seen, or more extreme, a case of 1 in 40.
    if correct:
        assert more_than(correct, low) == pytest.approx(0.025, abs=1e-9)
    else:
        assert low == 0
    if correct < total:
        assert 1 - more_than(correct + 1, high) == pytest.approx(0.025, abs=1e-9)
    else:
        assert high == 1


def test_as_text() -> None:
    assert interval_text(8, 8) == "8 clips: 63 to 100 %"
    assert interval_text(1, 1) == "1 clip: 3 to 100 %"
    assert interval_text(0, 0) == "0 clips"
    assert interval_text(15_000, 20_000) == "20,000 clips: 74 to 76 %"
