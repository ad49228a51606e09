"""The recipe for clips that nobody has tuned anything for: `videorwkv train DATA` and nothing else.

What is measured on the clips decides, by rules that were found on other data (LOG.md, 2026-11-30).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from videorwkv.data.manifest import Manifest, Row
from videorwkv.data.timeline import whole_files
from videorwkv.data.transforms import Augmentation
from videorwkv.errors import VideoRWKVError
from videorwkv.models import LCRConfig, model_config
from videorwkv.models.pretrained_stem import has_lite0_weights
from videorwkv.models.shipped import START_LR, start_of
from videorwkv.run.recipes import Recipe, default, finetune
from videorwkv.utils.words import counted
from videorwkv.utils.workers import Lost, one_by_one
from videorwkv.video.base import Sampling

# Clips that are measured, evenly spaced over the training split, and seconds for one and for all.
MEASURED = 40
CLIP_TIMEOUT = 30.0
ALL_TIMEOUT = 60.0
# Training clips up to which a data set is small: `default` learns as many by heart.
SMALL = 2000
# Length up to which a clip is one action, seen whole, and not an activity that goes on.
WHOLE_SECONDS = 10.0
# Width / height from which a centred square loses too much, and its inverse.
WIDE = 1.15

# Steps for each training clip, and the fewest and most.
STEPS_PER_CLIP = 6
STEPS = (600, 1500)
# Presets that rate, averaging and steps were found for, and their share of the steps: a pretrained
# stem has less to learn.
FOUND_FOR = {"lcr_pico": 1.0, "lcr_lite": 0.5}
FOUND_LR, FOUND_EMA = 2e-3, 0.98
# Frames of a clip that is seen whole, and the seconds between them up to which a movement shows as
# a small displacement, so that its direction helps (LOG.md, 2026-12-01).
WHOLE_FRAMES = 16
CLOSE_SECONDS = 0.15
# Windows of a long clip in an epoch, their frames and rate.
WINDOWS = 8
WINDOW = Sampling(num_frames=12, fps=6.0)
# Windows of a timeline: several seconds, of which the first one warms up.
TIMELINE_WINDOW = Sampling(num_frames=32, fps=6.0)
TIMELINE_CONTEXT = 6
# Other colours, crops and rotations, but never a subject that is cut out or covered.
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


class Choice(NamedTuple):
    """What `choose` has chosen.

    Args:
        recipe: the recipe.
        why: a line that says why it is that one.
        init: weights to start from, as of `read_pretrained`; None: random ones.
    """

    recipe: Recipe
    why: str
    init: str | None = None


class ClipStatistics(NamedTuple):
    """What the clips of a training split are like.

    Args:
        seconds: length of the shortest and of the longest that was measured.
        long_seconds: length that nine in ten do not exceed.
        height, width: of the frames whose proportions are the middle ones, in pixels.
    """

    seconds: tuple[float, float]
    long_seconds: float
    height: int
    width: int


def measure_clips(manifest: Manifest, *, workers: int = 1) -> ClipStatistics | None:
    """Open some clips of the training split; None where none can be opened in time.

    Args:
        manifest: the data set.
        workers: 1 opens them in another process, which a clip may crash or hang; 0 in this one.
    """
    rows = _training_rows(manifest)
    if not rows:
        return None
    chosen = [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, MEASURED).astype(int))]
    found = _measure_all(manifest, chosen, workers)
    if not found:
        return None
    seconds_N, height_N, width_N = np.array(found).T
    middle = int(np.argsort(width_N / height_N)[len(found) // 2])
    return ClipStatistics(
        (float(seconds_N.min()), float(seconds_N.max())),
        float(np.quantile(seconds_N, 0.9)),
        int(height_N[middle]),
        int(width_N[middle]),
    )


def _training_rows(manifest: Manifest) -> list[Row]:
    return [row for row in manifest.rows if row.split == "train" and row.label is not None]


def _measure_all(
    manifest: Manifest, rows: Sequence[Row], workers: int
) -> list[tuple[float, int, int]]:
    """`_measure` of those that can be read, until time is up."""
    work = functools.partial(_measure, replace(manifest, rows=(), missing=()))
    end = time.monotonic() + ALL_TIMEOUT
    answers = []
    given = one_by_one(work, rows, timeout=CLIP_TIMEOUT) if workers else (work(row) for row in rows)
    with closing(given):
        for answer in given:
            answers.append(answer)
            if time.monotonic() > end:
                break
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


def choose(
    manifest: Manifest,
    model_name: str | None = None,
    *,
    model: LCRConfig | None = None,
    starts: bool = True,
    workers: int = 1,
) -> Choice:
    """A recipe for the training split of a data set, in a line why it is that one, and weights to
    start from.

    Few clips get a small model that sees what changes and keeps where; it is read out at the end
    of the clip where clips are short, and of windows where they go on. Where they go on and its
    weights are installed, it sees change by a pretrained stem. Where they are short and frames lie
    far apart, it starts from the weights that generated scenes have left. Many get `default`.

    Args:
        manifest: the data set.
        model_name: a preset that is wanted in any case, with the learning rate of `default` unless
            it is one of `FOUND_FOR`; None chooses.
        model: one that is given, as weights to start from are for it, in place of a preset.
        starts: whether weights to start from may be chosen.
        workers: as in `measure_clips`.
    """
    clips = len(_training_rows(manifest))
    fallback = default(model_name or "lcr_tiny")
    many = model_name or "lcr_tiny"
    if model is not None:
        fallback = replace(fallback, model=model)
        many = "the model of the weights"
    if clips > SMALL:
        return Choice(
            fallback,
            f"recipe default with {many}, as there are {clips:,} clips to train on. On a CPU, "
            "--model lcr_nano or lcr_pico is far faster.",
        )
    seen = measure_clips(manifest, workers=workers)
    if seen is None:
        why = "no clip could be opened in time" if clips else "there is no clip to train on"
        return Choice(fallback, f"recipe default, as {why}.")
    if seen.long_seconds == 0:
        return Choice(
            fallback, "recipe default, as the clips are single pictures, in which nothing moves."
        )
    whole = seen.long_seconds <= WHOLE_SECONDS
    stretch = not 1 / WIDE < seen.width / seen.height < WIDE
    own = model_name is None and model is None
    close = whole and seen.long_seconds / WHOLE_FRAMES <= CLOSE_SECONDS
    few = model_name or ("lcr_pico" if whole or not has_lite0_weights() else "lcr_lite")
    base = model or model_config(few)
    found_for = None if model is not None else few
    steps = round(FOUND_FOR.get(found_for or "", 1.0) * np.clip(STEPS_PER_CLIP * clips, *STEPS))
    recipe = replace(
        fallback,
        model=replace(
            base,
            frame_fit="stretch" if stretch else "crop",
            stem_flow=base.stem_flow or (own and close),
        ),
        sampling=Sampling(num_frames=WHOLE_FRAMES) if whole else WINDOW,
        augmentation=AUGMENTATION,
        epochs=None,
        steps=steps,
        repeats=1 if whole else WINDOWS,
        # The label of a short clip holds for its end, that of a window for most of it.
        loss_frames="last" if whole else "all",
        eval_every=max(1, steps // 4),
        views=(3, 1) if whole else (8, 1),
    )
    if found_for in FOUND_FOR:
        recipe = replace(recipe, lr=FOUND_LR, ema=FOUND_EMA)
    if model is not None:
        few = "the model of the weights"
    elif own and few == "lcr_lite":
        few += ", as the weights of its stem are installed"
    parts = "whole clips, as they are short"
    if not whole:
        assert WINDOW.fps is not None
        parts = f"windows of {WINDOW.num_frames / WINDOW.fps:g} s, as clips are long"
    elif own and close:
        parts += ", and directions of movement, as their frames lie close"
    init = start_of(recipe.model) if starts and own and whole else None
    start = ""
    if init is not None:
        recipe = replace(finetune(recipe), lr=START_LR)
        start = f" from the weights that {init} have left (--init none: from random ones)"
    fit = "whole frames, as they are not square" if stretch else "the frame's centred square"
    return Choice(
        recipe,
        f"recipe chosen for {counted(clips, 'clip')} of {seen.seconds[0]:.1f} to "
        f"{seen.seconds[1]:.1f} s, mostly of {seen.width}x{seen.height}: "
        f"{few}{start}; {parts}; {fit}; "
        "strong augmentation. --recipe, --model and --set choose otherwise.",
        init,
    )


def choose_timeline(
    manifest: Manifest,
    model_name: str | None = None,
    *,
    model: LCRConfig | None = None,
    workers: int = 1,
) -> Choice:
    """A recipe that learns when something happens, and in a line why it is that one.

    Args:
        manifest: a data set whose rows are segments of long files.
        model_name, model, workers: as of `choose`.
    """
    segments = _training_rows(manifest)
    files, marks = whole_files(manifest)
    labelled = {row.path for row in segments}
    known = [row._replace(label=marks[row.path][0].label or "") for row in files.rows]
    labels = tuple(sorted({"", *manifest.labels}))
    known = [row for row in known if row.path in labelled]
    files = replace(files, rows=tuple(known), labels=labels, flips=None)
    seen = measure_clips(files, workers=workers)
    base = model or model_config(model_name or "lcr_pico")
    if model is None and model_name is None:
        # What has ended must be forgotten, though nothing changes any more.
        base = replace(base, memory_clock="frames")
    stretch = seen is not None and not 1 / WIDE < seen.width / seen.height < WIDE
    steps = int(np.clip(STEPS_PER_CLIP * len(segments), *STEPS))
    fps = TIMELINE_WINDOW.fps
    assert fps is not None
    window = TIMELINE_WINDOW.num_frames / fps
    repeats = 1 if seen is None else int(np.clip(round(seen.long_seconds / window), 1, 100))
    recipe = with_timeline(
        replace(
            default(),
            model=replace(base, frame_fit="stretch" if stretch else "crop"),
            augmentation=AUGMENTATION,
            epochs=None,
            steps=steps,
            repeats=repeats,
            batch_size=8,
            lr=FOUND_LR,
            ema=FOUND_EMA,
            eval_every=max(1, steps // 4),
        )
    )
    lengths = "" if seen is None else f" of {seen.seconds[0]:.1f} to {seen.seconds[1]:.1f} s"
    few = "the model of the weights" if model is not None else model_name or "lcr_pico"
    return Choice(
        recipe,
        f"recipe for a timeline of {counted(len(segments), 'segment')} in "
        f"{counted(len(files.rows), 'file')}{lengths}: {few}, windows of {window:.1f} s, "
        "`background` where there is no segment. --recipe, --model and --set choose otherwise.",
    )


def with_timeline(recipe: Recipe) -> Recipe:
    """The same recipe for a timeline; frames that were spread over clips become a window."""
    if recipe.timeline:
        return recipe
    sampling = TIMELINE_WINDOW if recipe.sampling.fps is None else recipe.sampling
    return replace(
        recipe,
        timeline=True,
        sampling=sampling,
        context=min(TIMELINE_CONTEXT, sampling.num_frames // 4),
        class_weights="none",
        clip_sampling="all",
        mixup=0.0,
        cutmix=0.0,
        views=(1, 1),
        best_by="f1_50",
    )
