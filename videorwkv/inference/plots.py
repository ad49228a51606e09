"""Pictures, drawn without a display: confusion matrix, learning curve, lines with a band."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The palette of every picture; the pale one is for what lies behind a line.
COLOURS = ("#1f4e8c", "#c8541b", "#3f8f4f", "#7a4fa3", "#8a6d1f", "#2f8f9d", "#555555")
BLUE, ORANGE, PALE = *COLOURS[:2], "#9db8d9"
DPI = 110
# From this many classes on, a cell is too small for its number, or a row for its name.
_MAX_NUMBERS = 20
_MAX_NAMES = 60


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
    made = figure(side + (1.5 if names else 0.0), side)
    axes = made.subplots()
    image = axes.imshow(share_KK, cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest")
    made.colorbar(image, ax=axes, fraction=0.04, label="fraction of the true class")
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
    save(made, path)


def save_learning_curve(
    path: str | Path, log: Sequence[dict[str, Any]], *, least: float = 0.0
) -> None:
    """Draw loss and accuracy over steps from the objects of a run's `log.jsonl`.

    Args:
        path: a PNG.
        log: the objects.
        least: the lowest training loss that there can be, in nats; a dotted line where it is not 0.
    """
    steps = [entry for entry in log if entry.get("kind") == "step"]
    checks = [entry for entry in log if entry.get("kind") == "validation"]
    made = figure(9.0, 3.6)
    left, right = made.subplots(1, 2)
    x = [entry["step"] for entry in steps]
    left.plot(x, [entry["loss"] for entry in steps], color=PALE, linewidth=0.8)
    left.plot(x, _smooth([entry["loss"] for entry in steps]), color=BLUE, label="training")
    if least:
        left.axhline(least, color=BLUE, linestyle=":", linewidth=1.0, label="lowest possible")
    right.plot(x, _smooth([entry["accuracy"] for entry in steps]), color=BLUE, label="training")
    if checks:
        at = [entry["step"] for entry in checks]
        left.plot(at, [e["loss"] for e in checks], "o-", color=ORANGE, label="validation")
        right.plot(at, [e["top1"] for e in checks], "o-", color=ORANGE, label="validation")
    left.set_ylabel("loss")
    right.set_ylabel("accuracy")
    right.set_ylim(0.0, 1.02)
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.legend()
    save(made, path)


def _smooth(values: Sequence[float]) -> NDArray[np.float64]:
    """A centred moving mean over a twentieth of the curve; at its ends over what there is of it.

    Never a value repeated: the last batch alone would bend the end of the curve up or down.
    """
    reach = max(1, len(values) // 20) // 2
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(values, np.float64))])
    at = np.arange(len(values))
    low, high = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def figure(width: float, height: float) -> Any:
    """An empty figure of this size in inches."""
    # The Figure class, not pyplot: no global state, no display, no back end to choose.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, path: str | Path | io.BytesIO) -> None:
    """Write a figure as a PNG."""
    from matplotlib import rc_context
    from matplotlib.text import Text

    # Names of classes and clips are the user's: a dollar in them begins no formula.
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    # Ticks that are made while drawing take theirs from the settings.
    with warnings.catch_warnings(), rc_context({"text.parse_math": False}):
        # A label in a script that the font lacks is drawn as boxes; the CSV has it right.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(path, dpi=DPI)
