"""How sure an accuracy is: the exact interval of a share of N clips."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from videorwkv.utils.words import counted

CONFIDENCE = 0.95


def interval(correct: int, total: int) -> tuple[float, float]:
    """The shares that would give `correct` of `total` clips in 19 of 20 draws of clips.

    The exact binomial interval of Clopper and Pearson (1934). Clips of one recording are no
    independent draws: the true interval is then wider.

    Args:
        correct: clips named right, 0 to `total`.
        total: clips.

    Returns:
        Lower and upper end, in [0, 1]; (0, 1) without a clip.
    """
    tail = (1 - CONFIDENCE) / 2
    k = np.arange(1, total + 1)
    # Logarithms of the binomial coefficients of 0 to `total`.
    logs_N = np.concatenate([[0.0], np.cumsum(np.log(total + 1 - k) - np.log(k))])
    low, high = 0.0, 1.0
    if correct > 0:
        # Below it, so many right or more would be too rare.
        low = _where(lambda share: 1 - _at_most(correct - 1, logs_N, share) < tail)
    if correct < total:
        high = _where(lambda share: _at_most(correct, logs_N, share) > tail)
    return low, high


def interval_text(correct: int, total: int) -> str:
    """`8 clips: 63 to 100 %`."""
    if not total:
        return "0 clips"
    low, high = interval(correct, total)
    return f"{counted(total, 'clip')}: {100 * low:.0f} to {100 * high:.0f} %"


def _at_most(count: int, logs_N: NDArray[np.float64], share: float) -> float:
    """The probability of `count` or fewer of all, each with probability `share` in (0, 1)."""
    k = np.arange(count + 1)
    rest = len(logs_N) - 1 - k
    return float(
        np.exp(logs_N[: count + 1] + k * math.log(share) + rest * math.log1p(-share)).sum()
    )


def _where(holds: Callable[[float], bool]) -> float:
    """The share in [0, 1] up to which `holds` is true."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return (low + high) / 2
