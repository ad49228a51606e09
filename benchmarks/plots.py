"""Line plots with bands, in one palette, for benchmarks and studies."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from videorwkv.inference.plots import COLOURS, figure, save


class Curve(NamedTuple):
    """A line, with a band if both of its ends are given.

    Args:
        x, y: its points.
        low, high: ends of the band at each point, an interval or a range.
    """

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def draw_curves(axes: Any, curves: Mapping[str, Curve], *, x_label: str, y_label: str = "") -> None:
    """Draw curves with their names on axes of a `figure`; the legend is the caller's."""
    for (name, curve), colour in zip(curves.items(), itertools.cycle(COLOURS), strict=False):
        axes.plot(curve.x, curve.y, "o-", color=colour, markersize=4, label=name)
        if curve.low is not None and curve.high is not None:
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)


def save_curves(
    path: str | Path, panels: Mapping[str, Mapping[str, Curve]], *, x_label: str, y_label: str
) -> None:
    """Draw curves side by side.

    Args:
        path: a PNG.
        panels: title -> name -> curve; colours are given in this order.
        x_label: below each panel.
        y_label: left of the first.
    """
    made = figure(4.6 * len(panels), 3.8)
    grid = made.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, curves) in zip(grid, panels.items(), strict=True):
        draw_curves(axes, curves, x_label=x_label, y_label=y_label if axes is grid[0] else "")
        axes.set_title(title)
        axes.legend()
    save(made, path)


def to_png(figure: Any) -> bytes:
    """The figure as the content of a PNG file."""
    buffer = io.BytesIO()
    save(figure, buffer)
    return buffer.getvalue()
