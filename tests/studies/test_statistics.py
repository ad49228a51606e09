from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from studies.statistics import (
    Estimate,
    clips_interval,
    fit_exponent,
    mean_and_deviation,
    mean_interval,
    t_quantile,
)


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.30265), (5, 2.57058), (10, 2.22814), (30, 2.04227), (1000, 1.96234)],
)
def test_quantiles_are_those_of_the_tables(freedom: float, quantile: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(quantile, rel=1e-5)


def test_quantile_undoes_probability() -> None:
    for freedom in (0.7, 1.5, 2.9, 40.0):
        for t in (0.1, 1.0, 3.0):
            assert t_quantile(stats.t.cdf(t, freedom), freedom) == pytest.approx(t, rel=1e-6)
    assert t_quantile(0.5, 3) == pytest.approx(0.0)


def test_mean_of_three() -> None:
    assert mean_and_deviation([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert math.isnan(mean_and_deviation([1.0])[1])
    found = mean_interval([1.0, 2.0, 3.0])
    assert found.value == 2.0
    assert found.high - 2.0 == pytest.approx(4.30265 / math.sqrt(3), rel=1e-5)
    assert found.low == pytest.approx(4.0 - found.high)
    assert found.seeds == 3


def test_one_value_has_no_interval() -> None:
    found = mean_interval([0.5])
    assert math.isinf(found.low)
    assert math.isinf(found.high)
    assert not found.decides


def test_decides_where_zero_is_outside() -> None:
    assert Estimate(1.0, 0.1, 2.0, 3).decides
    assert (-Estimate(1.0, 0.1, 2.0, 3)) == Estimate(-1.0, -2.0, -0.1, 3)
    assert (-Estimate(1.0, 0.1, 2.0, 3)).decides
    assert not Estimate(1.0, 0.0, 2.0, 3).decides


def test_no_difference_of_shares_is_beyond_one() -> None:
    assert Estimate(-0.8, -1.5, -0.1, 2).possible_difference() == Estimate(-0.8, -1.0, -0.1, 2)
    unknown = Estimate(0.5, -math.inf, math.inf, 1)
    assert unknown.possible_difference() == unknown


def test_clips_alone_and_seeds_alone() -> None:
    row = np.array([[0.0, 1.0, 1.0, 0.0, 1.0]])
    assert clips_interval(row)[:3] == pytest.approx(mean_interval(row[0].tolist())[:3])
    # No clip differs from another: what is left is the interval over seeds.
    seeds = np.repeat([[0.1], [0.2], [0.4]], 50, axis=1)
    assert clips_interval(seeds)[:3] == pytest.approx(mean_interval([0.1, 0.2, 0.4])[:3])
    # One clip alone tells nothing of others.
    assert clips_interval(np.array([[1.0], [0.0]])).high == math.inf


@pytest.mark.parametrize("outcome", [0, 1, -1])
def test_ten_clips_without_an_exception_leave_room_for_one(outcome: int) -> None:
    found = clips_interval(np.full((3, 10), float(outcome)))
    assert found.value == outcome
    # With this chance of another outcome, ten clips without one are one in forty.
    assert (1 - (found.high - outcome)) ** 10 == pytest.approx(0.025)
    assert found.high - outcome == pytest.approx(outcome - found.low)


def coverage(seed_deviation: float, tries: int = 200) -> dict[str, float]:
    """Share of intervals that hold the true difference, seeds and clips both drawn anew."""
    rng = np.random.default_rng(0)
    truth = 0.02
    held = dict.fromkeys(("both", "clips", "seeds", "bootstrap"), 0.0)
    for _ in range(tries):
        d_SM = truth + rng.normal(0, seed_deviation, (3, 1)) + rng.normal(0, 0.25, 200)
        d_SM = d_SM + rng.normal(0, 0.3, (3, 200))
        drawn = d_SM[rng.integers(3, size=(100, 3, 1)), rng.integers(200, size=(100, 1, 200))]
        low, high = np.quantile(drawn.mean((1, 2)), [0.025, 0.975])
        found = {
            "both": clips_interval(d_SM)[1:3],
            "clips": mean_interval(d_SM.mean(0).tolist())[1:3],
            "seeds": mean_interval(d_SM.mean(1).tolist())[1:3],
            "bootstrap": (low, high),
        }
        for name, (low, high) in found.items():
            held[name] += (low <= truth <= high) / tries
    return held


def test_interval_covers_the_truth_and_others_do_not() -> None:
    noisy_seeds, equal_seeds = coverage(0.1), coverage(0.001)
    assert 0.9 <= noisy_seeds["both"] <= 0.99
    assert 0.93 <= equal_seeds["both"] <= 0.999
    assert noisy_seeds["clips"] < 0.6
    assert noisy_seeds["bootstrap"] < 0.9
    assert equal_seeds["seeds"] < 0.93


def test_exponent_of_a_power() -> None:
    sizes = [8, 16, 32, 64]
    found = fit_exponent(sizes, [3 * x**1.5 for x in sizes])
    assert found.value == pytest.approx(1.5)
    assert found.low == pytest.approx(1.5)
    noisy = fit_exponent([1, 2, 4, 8], [1, 2.05, 3.9, 8.1])
    assert noisy.low < 1 < noisy.high
    assert noisy.low > 0.8
