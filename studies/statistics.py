"""Means, paired differences and fitted exponents, each with its interval.

S seeds, M clips.

Which interval a difference of accuracies gets. Two things are drawn at random: the seeds (weights,
order, augmentation) and the clips of the test split. An interval over the seeds alone takes the
clips as given: it says nothing about other clips. A bootstrap over the clips alone takes the
trained weights as given: it says nothing about another training. Drawing both anew in a bootstrap
needs more than three seeds: of three values a bootstrap gives an interval that is a good third too
narrow. So the two parts of the variance are estimated one by one and added,

    var(mean) = s2(means of the seeds) / S + s2(means of the clips) / M,

with the degrees of freedom of Welch and Satterthwaite (Satterthwaite 1946), and Student's t. Both
means are of the paired differences: same seed, same clip. What a seed and a clip have together is
counted twice, which errs to the wide side. With one seed its part can't be known and is left out,
which a finding then says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from videorwkv.utils.optional import load

LEVEL = 0.95


class Estimate(NamedTuple):
    """A number with its confidence interval.

    Args:
        value: the number.
        low, high: ends of the interval at `LEVEL`; infinite where it can't be known.
        seeds: trainings, or points of a fit, that it rests on.
    """

    value: float
    low: float
    high: float
    seeds: int

    @property
    def decides(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0

    def possible(self) -> Estimate:
        """That of a share: an interval of few seeds reaches beyond what a share can be."""
        return self._replace(low=max(0.0, self.low), high=min(1.0, self.high))

    def possible_difference(self) -> Estimate:
        """The same for the difference of two shares; unknown ends stay so."""
        if math.isinf(self.low):
            return self
        return self._replace(low=max(-1.0, self.low), high=min(1.0, self.high))

    def __neg__(self) -> Estimate:
        return Estimate(-self.value, -self.high, -self.low, self.seeds)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1); the deviation of a single value is NaN, and so is the
    mean of none."""
    array = np.asarray(values, np.float64)
    if not len(array):
        return math.nan, math.nan
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else math.nan


def mean_interval(values: Sequence[float]) -> Estimate:
    """Mean of independent values with Student's interval."""
    mean, deviation = mean_and_deviation(values)
    count = len(values)
    if count < 2:
        return Estimate(mean, -math.inf, math.inf, count)
    margin = t_quantile(0.5 + LEVEL / 2, count - 1) * deviation / math.sqrt(count)
    return Estimate(mean, mean - margin, mean + margin, count)


def clips_interval(values_SM: NDArray[np.float64]) -> Estimate:
    """Mean of outcomes, or of paired differences, of the same clips under several seeds.

    Where all outcomes are the same hit, miss or difference of two, their variance says nothing: the
    interval then ends where M clips without an exception would be a chance of one in forty (the
    "rule of three" for a two-sided interval).

    Args:
        values_SM: one number for each seed and clip.
    """
    seeds, clips = values_SM.shape
    parts = []
    if seeds > 1:
        parts.append((float(values_SM.mean(1).var(ddof=1)) / seeds, seeds - 1))
    if clips > 1:
        parts.append((float(values_SM.mean(0).var(ddof=1)) / clips, clips - 1))
    mean = float(values_SM.mean())
    if not parts or clips == 1:
        return Estimate(mean, -math.inf, math.inf, seeds)
    variance = sum(part for part, _ in parts)
    if variance == 0:
        hits = bool(np.isin(values_SM, (-1, 0, 1)).all())
        margin = 1 - ((1 - LEVEL) / 2) ** (1 / clips) if hits else 0.0
        return Estimate(mean, mean - margin, mean + margin, seeds)
    freedom = variance**2 / sum(part**2 / df for part, df in parts)
    margin = t_quantile(0.5 + LEVEL / 2, freedom) * math.sqrt(variance)
    return Estimate(mean, mean - margin, mean + margin, seeds)


def fit_exponent(sizes: Sequence[float], values: Sequence[float]) -> Estimate:
    """p of value = a size^p, by least squares on the logarithms, with Student's interval.

    Args:
        sizes: at least three, above zero.
        values: above zero.
    """
    x, y = np.log(np.asarray(sizes, np.float64)), np.log(np.asarray(values, np.float64))
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    left = y - y.mean() - slope * (x - x.mean())
    freedom = len(x) - 2
    error = math.sqrt(float((left**2).sum()) / freedom / spread)
    margin = t_quantile(0.5 + LEVEL / 2, freedom) * error
    return Estimate(slope, slope - margin, slope + margin, len(x))


def t_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t distribution.

    Raises:
        UsageError: SciPy is not installed.
    """
    return float(load("scipy.stats", "An interval of a study").t.ppf(probability, freedom))
