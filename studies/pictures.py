"""Plots of a study, in the colours of `videorwkv.inference.plots`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.plots import Curve, draw_curves, to_png
from studies.statistics import Estimate
from videorwkv.inference.plots import BLUE, COLOURS, ORANGE, PALE, figure


def curve(x: Sequence[float], estimates: Sequence[Estimate], *, share: bool = False) -> Curve:
    """The estimates at the places `x` with their intervals; shares in per cent, from 0 to 100."""
    scale = 100.0 if share else 1.0
    ends = [e.possible() if share else e for e in estimates]
    finite = [
        (e.value if math.isinf(e.low) else end.low, e.value if math.isinf(e.high) else end.high)
        for e, end in zip(estimates, ends, strict=True)
    ]
    return Curve(
        x,
        [scale * e.value for e in estimates],
        [scale * low for low, _ in finite],
        [scale * high for _, high in finite],
    )


def forest(rows: Sequence[tuple[str, Estimate, Sequence[float]]], label: str) -> bytes:
    """Differences with their intervals, a row each, and a faint dot for every seed.

    Args:
        rows: name, the difference in the unit of `label`, and that of every seed.
        label: what the axis shows.
    """
    made = figure(7.5, 1.1 + 0.34 * len(rows))
    axes = made.subplots()
    axes.axvline(0.0, color="black", linewidth=0.8)
    for place, (_, estimate, seeds) in enumerate(rows):
        colour = ORANGE if estimate.decides else BLUE
        axes.plot(seeds, [place] * len(seeds), "o", color=PALE, markersize=4)
        if not math.isinf(estimate.low):
            axes.plot([estimate.low, estimate.high], [place] * 2, color=colour, linewidth=2)
        axes.plot(estimate.value, place, "o", color=colour)
    # One wide interval, of two seeds say, must not make a line of all others.
    ends = sorted(abs(x) for _, e, s in rows for x in (e.value, *s))
    ends += sorted(max(abs(e.low), abs(e.high)) for _, e, _ in rows if not math.isinf(e.low))[
        : max(1, len(rows) * 3 // 4)
    ]
    reach = 1.15 * max([*ends, 1e-3])
    axes.set_xlim(-reach, reach)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.grid(alpha=0.3, axis="x")
    return to_png(made)


def curves(
    lines: Mapping[str, Curve],
    *,
    x: str,
    y: str,
    logarithmic: bool = False,
    level: tuple[float, str] | None = None,
) -> bytes:
    """Lines over a common axis.

    Args:
        lines: name -> its points.
        x, y: what the axes show.
        logarithmic: both axes are.
        level: a value on the y axis to mark, with its name: chance, say.
    """
    made = figure(7.5, 4.0)
    axes = made.subplots()
    draw_curves(axes, lines, x_label=x, y_label=y)
    if level is not None:
        axes.axhline(level[0], color="black", linewidth=0.8, linestyle="--", label=level[1])
    if logarithmic:
        from matplotlib.ticker import LogFormatter

        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_major_formatter(LogFormatter())  # 200, not 2 x 10^2
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
    if len(lines) > 3:
        axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    elif len(lines) > 1 or level is not None:
        axes.legend(fontsize=9)
    return to_png(made)


def places(
    values: Mapping[str, Mapping[int, Estimate]], label: str, level: tuple[float, str], what: str
) -> bytes:
    """One line a variant over places that are drawn at even steps, whatever their numbers.

    Args:
        values: variant -> place -> a share.
        label: what the places are.
        level: a value in % to mark, with its name.
        what: what the values are.
    """
    made = figure(8.5, 4.4)
    axes = made.subplots()
    marks = list(next(iter(values.values())))
    for number, (name, by) in enumerate(values.items()):
        colour = COLOURS[number % len(COLOURS)]
        estimates = [by[place] for place in marks]
        # Beside each other: bands of six variants would hide one another.
        step = min(0.09, 0.5 / len(values))
        x = [i + step * (number - (len(values) - 1) / 2) for i in range(len(marks))]
        y = [100 * e.value for e in estimates]
        bars = [
            [100 * (e.value - e.low) for e in estimates],
            [100 * (e.high - e.value) for e in estimates],
        ]
        style = "o-" if number < len(COLOURS) else "s:"
        axes.plot(x, y, style, color=colour, label=name, markersize=4)
        axes.errorbar(x, y, bars, fmt="none", ecolor=colour, elinewidth=1, alpha=0.5)
    axes.axhline(level[0], color="black", linewidth=0.8, linestyle="--", label=level[1])
    axes.set_xticks(range(len(marks)), [str(place) for place in marks])
    drawn = [100 * e.value for by in values.values() for e in by.values()]
    axes.set_ylim(min(0.0, *drawn), max(100.0, *drawn) + 2)
    axes.set_xlabel(label)
    axes.set_ylabel(what)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return to_png(made)


def bars(
    groups: Sequence[str],
    series: Mapping[str, Sequence[Estimate]],
    *,
    y: str,
    level: tuple[float, str] | None = None,
) -> bytes:
    """Bars side by side, one group a name, with their intervals."""
    made = figure(max(6.0, 1.2 + 0.28 * len(groups) * (len(series) + 1)), 3.8)
    axes = made.subplots()
    width = 0.8 / len(series)
    for number, ((name, estimates), colour) in enumerate(
        zip(series.items(), itertools.cycle(COLOURS), strict=False)
    ):
        places = [i - 0.4 + (number + 0.5) * width for i in range(len(groups))]
        heights = [e.value for e in estimates]
        errors: Any = [
            [0.0 if math.isinf(e.low) else max(0.0, e.value - max(0.0, e.low)) for e in estimates],
            [0.0 if math.isinf(e.high) else max(0.0, e.high - e.value) for e in estimates],
        ]
        axes.bar(places, heights, 0.9 * width, color=colour, label=name)
        axes.errorbar(places, heights, errors, fmt="none", ecolor="black", elinewidth=0.8)
    if level is not None:
        axes.axhline(level[0], color="black", linewidth=0.8, linestyle="--", label=level[1])
    turned = max(map(len, groups)) * len(groups) > 60
    axes.set_xticks(range(len(groups)), groups, rotation=30 if turned else 0,
                    ha="right" if turned else "center")  # fmt: skip
    axes.set_ylabel(y)
    axes.set_ylim(0.0, None)
    axes.grid(alpha=0.3, axis="y")
    # Above: inside it would hide a bar.
    axes.legend(fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=5, frameon=False)
    return to_png(made)
