"""The recipe for clips that nobody has tuned anything for: `videorwkv train DATA` and nothing else.

What is measured on the clips decides, by rules that were fixed on other data (LOG.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from videorwkv.data.manifest import Manifest, Row
from videorwkv.data.transforms import Augmentation
from videorwkv.errors import VideoRWKVError
from videorwkv.models import LCRConfig, model_config
from videorwkv.run.recipes import Recipe, default
from videorwkv.video.base import Sampling

# Clips that are looked at, evenly spaced over the training split.
LOOKED_AT = 40
# Training clips up to which a data set is small: the default recipe learns as many by heart.
SMALL = 2000
# Length up to which a clip is one action, seen whole, and not an activity that goes on.
WHOLE_SECONDS = 10.0
# Width / height from which a centred square loses too much, and its inverse.
WIDE = 1.15


class Look(NamedTuple):
    """What the clips of a training split are like.

    Args:
        clips: how many there are.
        seconds: length of the shortest, the middle and the longest that was looked at.
        long_seconds: length that nine in ten do not exceed.
        height, width: of the middle frame size in pixels.
    """

    clips: int
    seconds: tuple[float, float, float]
    long_seconds: float
    height: int
    width: int


def look(manifest: Manifest) -> Look | None:
    """Open some clips of the training split; None where none can be read."""
    rows = [row for row in manifest.rows if row.split == "train" and row.label is not None]
    chosen = [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, LOOKED_AT).astype(int))]
    found = [seen for row in chosen if (seen := _measure(manifest, row)) is not None]
    if not found:
        return None
    seconds_N, height_N, width_N = np.array(found).T
    middle = int(np.argsort(width_N / height_N)[len(found) // 2])
    return Look(
        len(rows),
        (float(seconds_N.min()), float(np.median(seconds_N)), float(seconds_N.max())),
        float(np.quantile(seconds_N, 0.9)),
        int(height_N[middle]),
        int(width_N[middle]),
    )


def _measure(manifest: Manifest, row: Row) -> tuple[float, int, int] | None:
    """Seconds, height and width of a clip; None if it can't be read."""
    try:
        with manifest.open(row) as video:
            times = video.times()
            height, width = video.read([0], transform=None).frames_THWC.shape[1:3]
    except (VideoRWKVError, OSError):
        return None  # training names it
    # The last frame is shown as long as those before.
    return float(times[-1] - times[0]) * len(times) / max(1, len(times) - 1), height, width
