"""The recipe for clips that nobody has tuned anything for: `videorwkv train DATA` and nothing else.

What is measured on the clips decides, by rules that were fixed on other data (LOG.md).
"""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from videorwkv.data.manifest import Manifest, Row
from videorwkv.data.transforms import Augmentation
from videorwkv.errors import VideoRWKVError
from videorwkv.models import model_config
from videorwkv.run.recipes import Recipe, default
from videorwkv.utils.workers import Lost, WorkerPool
from videorwkv.video.base import Sampling

# Clips that are looked at, evenly spaced over the training split.
LOOKED_AT = 40
# Seconds after which a clip is left out; training gives it more.
PATIENCE = 30.0
# Training clips up to which a data set is small: the default recipe learns as many by heart.
SMALL = 2000
# Length up to which a clip is one action, seen whole, and not an activity that goes on.
WHOLE_SECONDS = 10.0
# Width / height from which a centred square loses too much, and its inverse.
WIDE = 1.15

# Steps for each training clip, and the fewest and most.
STEPS_PER_CLIP = 6
STEPS = (600, 1500)
# Windows of a long clip in an epoch.
WINDOWS = 8
# Another light, place and slant, but never a subject that is cut out or covered.
AUGMENTATION = Augmentation(
    scale=(0.5, 1.0),
    ratio=(0.8, 1.25),
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    grey_probability=0.5,
    tint=0.25,
    rotate=12.0,
    erase_probability=0.0,
)


class Look(NamedTuple):
    """What the clips of a training split are like.

    Args:
        clips: how many there are.
        seconds: length of the shortest and of the longest that was looked at.
        long_seconds: length that nine in ten do not exceed.
        height, width: of the middle frame size in pixels.
    """

    clips: int
    seconds: tuple[float, float]
    long_seconds: float
    height: int
    width: int


def look(manifest: Manifest) -> Look | None:
    """Open some clips of the training split; None where none can be read."""
    rows = _training_rows(manifest)
    if not rows:
        return None
    chosen = [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, LOOKED_AT).astype(int))]
    found = _measure_all(manifest, chosen)
    if not found:
        return None
    seconds_N, height_N, width_N = np.array(found).T
    middle = int(np.argsort(width_N / height_N)[len(found) // 2])
    return Look(
        len(rows),
        (float(seconds_N.min()), float(seconds_N.max())),
        float(np.quantile(seconds_N, 0.9)),
        int(height_N[middle]),
        int(width_N[middle]),
    )


def _training_rows(manifest: Manifest) -> list[Row]:
    return [row for row in manifest.rows if row.split == "train" and row.label is not None]


def _measure_all(manifest: Manifest, rows: Sequence[Row]) -> list[tuple[float, int, int]]:
    """`_measure` of the clips that can be read, in a process that a clip may crash or hang."""
    work = functools.partial(_measure, replace(manifest, rows=(), missing=()))
    if multiprocessing.current_process().daemon:  # it may start no other
        answers = [work(row) for row in rows]
    else:
        with WorkerPool(work, workers=1, timeout=PATIENCE) as pool:
            for row in rows:
                pool.submit(row.path, row)
            answers = [pool.next()[1] for _ in rows]
    return [answer for answer in answers if answer and not isinstance(answer, Lost)]


def _measure(manifest: Manifest, row: Row) -> tuple[float, int, int] | None:
    """Seconds, height and width of a clip; None if it can't be read."""
    try:
        with manifest.open(row) as video:
            times = video.times()
            height, width = video.read([0]).frames_THWC.shape[1:3]
    except (VideoRWKVError, OSError):
        return None  # training names it
    # The last frame is shown as long as those before.
    return float(times[-1] - times[0]) * len(times) / max(1, len(times) - 1), height, width


def choose(manifest: Manifest, model_name: str | None = None) -> tuple[Recipe, str]:
    """A recipe for the training split of a data set, and in a line why it is that one.

    Few clips get a small model that sees what changes and keeps where; it is read out at the end
    of the clip where clips are short, and of windows where they go on. Many get `default`.

    Args:
        manifest: the data set.
        model_name: a preset that is wanted in any case; None chooses.
    """
    clips = len(_training_rows(manifest))
    seen = look(manifest) if clips <= SMALL else None
    if seen is None:
        why = f"{clips:,} clips to train on" if clips > SMALL else "no clip could be opened"
        return default(model_name or "lcr_tiny"), f"recipe default: {why}"
    whole = seen.long_seconds <= WHOLE_SECONDS
    stretch = not 1 / WIDE < seen.width / seen.height < WIDE
    model = model_config(model_name or "lcr_pico", frame_fit="stretch" if stretch else "crop")
    steps = int(np.clip(STEPS_PER_CLIP * seen.clips, *STEPS))
    recipe = Recipe(
        model=model,
        sampling=Sampling(num_frames=16) if whole else Sampling(num_frames=12, fps=6.0),
        augmentation=AUGMENTATION,
        steps=steps,
        repeats=1 if whole else WINDOWS,
        lr=2e-3,
        ema=0.98,
        # The label of a short clip holds for its end, that of a window for most of it.
        loss_frames="last" if whole else "all",
        eval_every=max(1, steps // 4),
        views=(3, 1) if whole else (8, 1),
    )
    size = "a small model" if model_name is None else model_name
    parts = "whole clips, as they are short" if whole else "windows of 2 s, as clips are long"
    fit = "whole frames, as they are not square" if stretch else "the frame's centred square"
    return recipe, (
        f"recipe chosen for {seen.clips:,} clips of {seen.seconds[0]:.1f} to {seen.seconds[1]:.1f} "
        f"s, {seen.width}x{seen.height}: {size}; {parts}; {fit}; another light, place and slant "
        "each time. --recipe, --model and --set choose otherwise."
    )
