"""Numbers -> words: cells of tables, and sentences that say no more than the numbers do."""

from __future__ import annotations

import math

from studies.design import Measure
from studies.statistics import Estimate

NO_DIFFERENCE = "no significant difference"
# An exponent whose whole interval is so near 1 is called linear, even if it does not contain 1.
LINEAR = 0.05


def number(value: float, unit: str) -> str:
    """`0.934` of a share is `93.4 %`; else three significant digits and the unit."""
    if math.isnan(value):
        return "unknown"
    return f"{100 * value:.1f} %" if unit == "share" else f"{value:.3g} {unit}".rstrip()


def spread(mean: float, deviation: float, unit: str) -> str:
    """`93.4 ± 0.6 %`: mean and standard deviation."""
    if math.isnan(deviation):
        return number(mean, unit)
    if unit == "share":
        return f"{100 * mean:.1f} ± {100 * deviation:.1f} %"
    return f"{mean:.3g} ± {deviation:.2g} {unit}".rstrip()


def with_interval(estimate: Estimate, unit: str) -> str:
    """`93.4 % [91.0, 95.8]`; the number alone where no interval can be known."""
    if math.isinf(estimate.low):
        return number(estimate.value, unit)
    if unit == "share":
        estimate = estimate.possible()
    ends = (
        f"{100 * end:.1f}" if unit == "share" else f"{end:.3g}"
        for end in (estimate.low, estimate.high)
    )
    return f"{number(estimate.value, unit)} [{', '.join(ends)}]"


def signed(estimate: Estimate, unit: str) -> str:
    """`-2.1 [-3.4, -0.8]`, in points for shares; else three significant digits."""
    estimate = estimate.possible_difference() if unit == "share" else estimate
    value, low, high = (_signed(x, unit) for x in estimate[:3])
    return f"{value} [unknown]" if math.isinf(estimate.low) else f"{value} [{low}, {high}]"


def _signed(value: float, unit: str) -> str:
    return f"{100 * value:+.1f}" if unit == "share" else f"{value:+.3g}"


def difference(
    name: str, reference: str, estimate: Estimate, measure: Measure, what: str = ""
) -> str:
    """What a paired difference, `name` minus `reference`, shows.

    Args:
        name, reference: what is compared.
        estimate: the difference.
        measure: what was measured.
        what: its name in the sentence; the measure's if empty.
    """
    unit = "points" if measure.unit == "share" else measure.unit
    figures = " ".join([signed(estimate, measure.unit), *unit.split(), "of", what or measure.name])
    rests = (
        f"{estimate.seeds} seeds"
        if estimate.seeds > 1
        else "single seed, seed variance not included"
    )
    if math.isinf(estimate.low):
        return f"{name} against {reference}: {NO_DIFFERENCE}; a single value gives no interval."
    if estimate.value == estimate.low == estimate.high == 0:
        return f"{name} against {reference}: {NO_DIFFERENCE}; all seeds are equal ({rests})."
    if not estimate.decides:
        most = max(-estimate.low, estimate.high)
        size = " ".join([_signed(most, measure.unit).removeprefix("+"), *unit.split()])
        rest = f"a difference above {size} is excluded at 95 %"
        if measure.unit == "share" and most >= 0.5:
            rest = "the interval is too wide for a conclusion; more seeds narrow it"
        return f"{name} against {reference}: {NO_DIFFERENCE} ({figures}, {rests}); {rest}."
    better = (estimate.value > 0) != measure.lower_is_better
    return f"{name} is {'better' if better else 'worse'} than {reference}: {figures} ({rests})."


def exponent(name: str, estimate: Estimate, of: str) -> str:
    """What a fitted exponent shows about growth."""
    figures = f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
    if estimate.low <= 0 and estimate.high >= 1:
        growth = "the interval does not decide between no growth and linear growth"
    elif estimate.low <= 0:
        growth = "no significant growth" if estimate.high > 0 else "it shrinks"
    elif estimate.low >= 1 - LINEAR and estimate.high <= 1 + LINEAR:
        growth = f"linear, to within {LINEAR:g}"
    elif estimate.low <= 1 <= estimate.high:
        growth = "no significant departure from linear growth"
    elif estimate.high < 1:
        growth = "slower than linear"
    else:
        growth = "faster than linear"
    return f"{name} grows with {of} to the power {figures}: {growth}."


def count(value: float) -> str:
    """`1234567` -> `1.23 M`."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:g}"


def seconds(value: float) -> str:
    if math.isnan(value):
        return "unknown"
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.1f} min"
