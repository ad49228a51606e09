"""Pictures of a report: times of all models in all ways, and the cost over length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.models.results import SpeedReport, SpeedRow
from benchmarks.models.subjects import Unit
from videorwkv.inference.plots import BLUE, ORANGE, PALE, figure, save

OWN, OTHER, YELLOW, TEAL = BLUE, "#8a8a8a", "#e0a526", "#4b9b8f"
# Way -> marker and colour; one hue for PyTorch, one for ONNX Runtime, one for OpenVINO.
STYLES = {
    "eager": ("o", PALE),
    "inference": ("o", BLUE),
    "bfloat16": ("D", BLUE),
    "compiled": ("s", TEAL),
    "compiled-bfloat16": ("D", TEAL),
    "onnx": ("s", YELLOW),
    "onnx-int8": ("v", YELLOW),
    "openvino": ("s", ORANGE),
    "openvino-bfloat16": ("D", ORANGE),
    "openvino-int8": ("v", ORANGE),
    "exported": ("P", ORANGE),
}


def save_times(path: str | Path, report: SpeedReport) -> None:
    """Draw a line a model and a marker a way, milliseconds on a logarithmic axis, fastest on top.

    Args:
        path: a PNG.
        report: with at least one row.
    """
    units = report.units()
    counts = [len({row.model for row in report.of(unit)}) for unit in units]
    # Inches for the legend, titles and axis labels, then for each line.
    height = sum(1.15 + 0.34 * count for count in counts) + 0.6
    made = figure(9.0, height)
    grid = made.subplots(
        len(units), 1, squeeze=False, gridspec_kw={"height_ratios": [1.5 + n for n in counts]}
    )
    for axes, unit in zip(grid[:, 0], units, strict=True):
        _draw(axes, report, unit)
    ways = {row.way for row in report.rows}
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker=marker, color=colour, linestyle="none", markersize=7, label=way)
        for way, (marker, colour) in STYLES.items()
        if way in ways
    ]
    made.legend(
        handles=handles, loc="outside upper center", ncols=min(6, len(handles)), frameon=False
    )
    save(made, path)


def _draw(axes: Any, report: SpeedReport, unit: Unit) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    models: dict[str, list[SpeedRow]] = {}
    for row in report.of(unit):
        models.setdefault(row.model, []).append(row)
    order = sorted(models, key=lambda name: -min(row.times.wall for row in models[name]))
    every = [row.times.wall for row in report.of(unit)]
    low, high = min(every) / 1.6, max(every) * 1.25
    for y, name in enumerate(order):
        rows = models[name]
        colour = OTHER if rows[0].peer else OWN
        walls = [row.times.wall for row in rows]
        axes.plot([min(walls), max(walls)], [y, y], color=colour, alpha=0.35, linewidth=2, zorder=1)
        for row in rows:
            marker, fill = STYLES[row.way]
            axes.plot(
                row.times.wall,
                y,
                marker=marker,
                color=fill,
                markersize=8,
                markeredgecolor="white",
                markeredgewidth=0.8,
                zorder=2,
            )
        axes.annotate(
            _short(min(walls)),
            (min(walls), y),
            xytext=(-8, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=9,
            color=colour,
            fontweight="normal" if rows[0].peer else "bold",
        )
        macs = rows[0].macs
        if macs is not None:
            axes.annotate(
                f"{macs / 1e9:.3g} GMAC",
                (1.01, y),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=8,
                color=OTHER,
            )
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.set_yticks(range(len(order)), order)
    for label, name in zip(axes.get_yticklabels(), order, strict=True):
        peer = models[name][0].peer
        label.set_color("black" if peer else OWN)
        label.set_fontweight("normal" if peer else "bold")
    steps = (1.0, 2.0, 5.0) if high / low < 300 else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", which="both", alpha=0.25)
    axes.set_title(f"{report.name(unit)}: ms, lower is better", loc="left", fontsize=11)
    _open_frame(axes)


def save_lengths(path: str | Path, report: SpeedReport) -> None:
    """Draw what a new frame costs and what memory it needs, over the frames before it.

    Args:
        path: a PNG.
        report: with lengths.
    """
    from matplotlib.ticker import LogFormatter

    made = figure(10.0, 3.9)
    left, right = made.subplots(1, 2)
    names = list(dict.fromkeys(row.model for row in report.lengths))
    colours = dict(zip(names, (OWN, ORANGE, YELLOW, OTHER), strict=False))
    for name in names:
        rows = [row for row in report.lengths if row.model == name]
        style = {"color": colours[name], "linewidth": 2 if name == names[0] else 1.5}
        ran = [row for row in rows if row.clip is not None]
        left.plot([r.length for r in ran], [r.clip for r in ran], "o-", label=name, **style)
        stopped = next((row for row in rows if row.why), None)
        if stopped is not None and ran:
            left.annotate(
                f"{stopped.length:,} frames: {stopped.why.split(',')[0]}",
                (ran[-1].length, ran[-1].clip),
                xytext=(8, 0),
                textcoords="offset points",
                fontsize=8,
                va="center",
                color=colours[name],
            )
        known = [row for row in rows if row.memory is not None]
        right.plot([r.length for r in known], [r.memory for r in known], "-", alpha=0.6, **style)
        for row in known:
            right.plot(
                row.length,
                row.memory,
                "o",
                color=colours[name],
                markerfacecolor="white" if row.estimated else colours[name],
            )
    left.set_ylabel("ms until the answer to a new frame")
    right.set_ylabel("MiB beyond the weights (hollow: estimate)")
    lengths = sorted({row.length for row in report.lengths})
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: _short(value))
        # The usual one writes formulas, which `plots` does not draw.
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
        axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
        axes.set_xlabel("frames seen")
        axes.grid(alpha=0.25)
        _open_frame(axes)
    left.set_xlim(lengths[0] / 1.4, lengths[-1] * 1.4)
    made.legend(loc="outside upper center", ncols=len(names), frameon=False)
    save(made, path)


def _open_frame(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
