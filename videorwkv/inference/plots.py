"""Pictures, drawn without a display: confusion matrix, learning curve, curves side by side."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# From this many classes on, a cell is too small for its number, or a row for its name.
_MAX_NUMBERS = 20
_MAX_NAMES = 60
_COLOURS = ("#1f4e8c", "#c8541b", "#3a7d44", "#7a4b94", "#8c7a1f")


def save_confusion(
    path: str | Path, confusion_KK: NDArray[np.int64], labels: Sequence[str]
) -> None:
    """Draw a confusion matrix, rows the truth, columns the prediction, each row adding up to 1.

    Up to 20 classes carry counts and names, up to 60 names, more only the picture.

    Args:
        path: a PNG.
        confusion_KK: counts, [K, K].
        labels: K names.
    """
    num_classes = len(labels)
    total_K1 = confusion_KK.sum(1, keepdims=True)
    share_KK = confusion_KK / np.maximum(total_K1, 1)
    names = num_classes <= _MAX_NAMES
    side = min(3.5 + 0.32 * num_classes, 16.0) if names else 9.0
    figure = _figure(side + (1.5 if names else 0.0), side)
    axes = figure.subplots()
    image = axes.imshow(share_KK, cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest")
    figure.colorbar(image, ax=axes, fraction=0.04, label="fraction of the true class")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if names:
        size = 9 if num_classes <= _MAX_NUMBERS else 6
        short = [label if len(label) <= 32 else label[:31] + "…" for label in labels]
        axes.set_xticks(range(num_classes), short, rotation=90, fontsize=size)
        axes.set_yticks(range(num_classes), short, fontsize=size)
    if num_classes <= _MAX_NUMBERS:
        for row, column in zip(*np.nonzero(confusion_KK), strict=True):
            colour = "white" if share_KK[row, column] > 0.5 else "black"
            count = str(confusion_KK[row, column])
            axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=8)
    _save(figure, path)


def save_learning_curve(path: str | Path, log: Sequence[dict[str, Any]]) -> None:
    """Draw loss and accuracy over steps from the objects of a run's `log.jsonl`."""
    steps = [entry for entry in log if entry.get("kind") == "step"]
    checks = [entry for entry in log if entry.get("kind") == "validation"]
    figure = _figure(9.0, 3.6)
    left, right = figure.subplots(1, 2)
    x = [entry["step"] for entry in steps]
    left.plot(x, [entry["loss"] for entry in steps], color="#9db8d9", linewidth=0.8)
    left.plot(x, _smooth([entry["loss"] for entry in steps]), color="#1f4e8c", label="training")
    right.plot(
        x, _smooth([entry["accuracy"] for entry in steps]), color="#1f4e8c", label="training"
    )
    if checks:
        at = [entry["step"] for entry in checks]
        left.plot(at, [e["loss"] for e in checks], "o-", color="#c8541b", label="validation")
        right.plot(at, [e["top1"] for e in checks], "o-", color="#c8541b", label="validation")
    left.set_ylabel("loss")
    right.set_ylabel("accuracy")
    right.set_ylim(0.0, 1.02)
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


class Curve(NamedTuple):
    """One line of a plot.

    Args:
        name: for the legend.
        x: where its points are.
        y: what they show.
        low: the lowest value at each point; a band reaches from it to `high`.
        high: the highest.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def save_curves(
    path: str | Path,
    panels: Mapping[str, Sequence[Curve]],
    *,
    x_label: str,
    y_label: str,
) -> None:
    """Draw curves side by side, one panel for each title.

    Args:
        path: a PNG.
        panels: title -> curves; a curve has the same colour in every panel.
        x_label: below each panel.
        y_label: left of the first.
    """
    figure = _figure(4.6 * len(panels), 3.8)
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, curves) in zip(grid, panels.items(), strict=True):
        for number, curve in enumerate(curves):
            colour = _COLOURS[number % len(_COLOURS)]
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(curve.x, curve.y, "o-", color=colour, markersize=4, label=curve.name)
        axes.set_title(title)
        axes.set_xlabel(x_label)
        axes.grid(alpha=0.3)
        axes.legend()
    grid[0].set_ylabel(y_label)
    _save(figure, path)


def _smooth(values: Sequence[float]) -> NDArray[np.float64]:
    """A centred moving mean over a twentieth of the curve."""
    if not values:
        return np.zeros(0)
    width = max(1, len(values) // 20)
    padded = np.pad(np.asarray(values, np.float64), (width // 2, width - 1 - width // 2), "edge")
    return np.convolve(padded, np.full(width, 1.0 / width), "valid")


def _figure(width: float, height: float) -> Any:
    # The Figure class, not pyplot: no global state, no display, no back end to choose.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: str | Path | io.BytesIO) -> None:
    from matplotlib import rc_context
    from matplotlib.text import Text

    # Names of classes and clips are the user's: a dollar in them begins no formula.
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    # Ticks that are made while drawing take theirs from the settings.
    with warnings.catch_warnings(), rc_context({"text.parse_math": False}):
        # A label in a script that the font lacks is drawn as boxes; the CSV has it right.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(path, dpi=110)


def blank(width: float, height: float) -> Any:
    """An empty figure of this size in inches, for plots that are drawn elsewhere."""
    return _figure(width, height)


def to_png(figure: Any) -> bytes:
    """The figure as the content of a PNG file."""
    buffer = io.BytesIO()
    _save(figure, buffer)
    return buffer.getvalue()
