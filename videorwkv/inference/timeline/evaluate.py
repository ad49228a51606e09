"""Evaluate timelines: every file of a data set goes through the model from its first frame on.

K classes, with a background among them whether the model has it or not. T frames of a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from videorwkv.data.background import BACKGROUND, BACKGROUNDS, background_of
from videorwkv.data.cache import FrameCache
from videorwkv.data.manifest import Manifest, Row
from videorwkv.data.timeline import (
    ActionSegment,
    frame_labels,
    segments_of,
    whole_files,
)
from videorwkv.errors import DataError, NonFiniteError, UsageError, VideoRWKVError
from videorwkv.inference.recogniser import ModelLike, Recogniser
from videorwkv.inference.stream import StreamOptions
from videorwkv.inference.timeline.find import FrameScores, frame_scores
from videorwkv.inference.timeline.metrics import confusion
from videorwkv.inference.timeline.results import ScoredVideo, TimelineEvaluation
from videorwkv.inference.timeline.segments import Segmenter, TimelineOptions
from videorwkv.models.masking import Masks
from videorwkv.utils.processes import ALONE, Processes
from videorwkv.video import Sampling, Video

# What gives the probabilities after each frame; another one is a baseline.
FrameScorer: TypeAlias = Callable[[Recogniser, Video, StreamOptions], Iterator[FrameScores]]
# Frames whose true classes are looked up at a time.
_PART = 256


def evaluate_timeline(
    model: ModelLike,
    manifest: Manifest,
    sampling: Sampling | None = None,
    *,
    labels: Sequence[str] | None = None,
    options: TimelineOptions | None = None,
    fps: float | None = None,
    device: str | torch.device = "auto",
    precision: str | None = None,
    cache: str | Path | None = None,
    tube_mask_ratio: float = 0.0,
    motion_mask_ratio: float = 0.0,
    on_video: Callable[[int], None] | None = None,
    processes: Processes = ALONE,
    stopped: Callable[[], bool] = lambda: False,
    scorer: FrameScorer = frame_scores,
    kept: dict[str, list[FrameScores]] | None = None,
) -> TimelineEvaluation:
    """Find the segments of every file and compare them with those of the data set.

    A file that can't be read counts as one in which nothing was found.

    Args:
        model: as in `evaluate`.
        manifest: rows that are segments of long files, one split as a rule; a row without a segment
            is a whole file, and one of the class `background` (or `none`) says that nothing happens
            there.
        sampling: its rate; the run's or the file's own if None.
        labels: the model's class names; its own, or the manifest's, if None.
        options: how probabilities become segments; those that were chosen for the model if None,
            else the usual ones.
        fps: frames a second for the model; those of its training if None.
        device, precision: as in `evaluate`.
        cache: folder that keeps decoded, resized frames of whole files.
        tube_mask_ratio, motion_mask_ratio: as in `evaluate`.
        on_video: called with the number of files done, after each.
        processes: those that share the files, each of which calls this function alike and gets the
            whole.
        stopped: whether to end with KeyboardInterrupt, asked before each file.
        scorer: gives the probabilities after each frame of a file.
        kept: gets what the scorer gave, by the paths of the files that this process reads.

    Raises:
        ManifestError: a label that the model does not know, or a file in several splits.
        DataError: no file has a labelled segment or is said to have none.
        UsageError, CheckpointError: as in `evaluate`; or clips or model have several labels.
        NonFiniteError: the model gives NaN or infinity; the message names the module.
    """
    rows = [row for row in manifest.rows if row.label is not None]
    if not rows:
        raise DataError(
            f"{manifest.name}: none of its {len(manifest)} clips carries a label, so there is "
            "nothing to compare with. `videorwkv predict RUN FILES --timeline` finds segments."
        )
    labelled = {row.path for row in rows}
    files, marks = whole_files(manifest)
    chosen = [row for row in files.rows if row.path in labelled]
    recogniser = Recogniser.open(
        model,
        what="evaluate",
        labels=labels,
        default_labels=manifest.labels,
        sampling=sampling,
        masks=Masks(tube_mask_ratio=tube_mask_ratio, motion_mask_ratio=motion_mask_ratio),
        device=device,
        precision=precision,
    )
    if manifest.multilabel or recogniser.network.config.multilabel:
        raise UsageError(
            f"{manifest.name}: timelines are scored where one class holds at a time, and "
            f"{'its clips have' if manifest.multilabel else 'the model answers with'} several "
            "labels. `evaluate` without --timeline scores its segments as clips."
        )
    # What is no action, the model need not know.
    known = tuple(row for row in rows if row.label not in BACKGROUNDS)
    replace(manifest, rows=known).with_labels(recogniser.labels)
    stream_options = StreamOptions(
        fps=fps, tube_mask_ratio=tube_mask_ratio, motion_mask_ratio=motion_mask_ratio
    )
    rules = options or recogniser.chosen_timeline() or TimelineOptions()
    size = recogniser.network.config.image_size
    rate = manifest.frame_rate
    frames = None if cache is None else FrameCache.for_images(cache, size, frame_rate=rate)
    found: dict[int, ScoredVideo] = {}
    mine = range(processes.rank, len(chosen), processes.size)
    with recogniser.evaluating():
        for turn in range(-(-len(chosen) // processes.size)):
            if any(told[0] for told in processes.gather([float(stopped())])):
                raise KeyboardInterrupt
            if turn < len(mine):
                row = chosen[mine[turn]]
                own = scorer
                if kept is not None:
                    own = partial(_keeping, scorer, kept.setdefault(row.path, []))
                found[mine[turn]] = _score(
                    recogniser,
                    manifest,
                    row,
                    marks[row.path],
                    stream_options,
                    rules,
                    own,
                    frames,
                )
            if on_video is not None:
                on_video(min(len(chosen), (turn + 1) * processes.size))
    if processes.size > 1:
        for others in processes.collect(found):
            found |= others
    return TimelineEvaluation(
        labels=_with_background(recogniser.labels),
        videos=tuple(found[index] for index in range(len(chosen))),
        options=rules,
        fps=stream_options.rate(recogniser.sampling),
        data={"name": manifest.name, "digest": manifest.digest},
        n_unlabelled=len(files.rows) - len(chosen),
        n_missing=len(files.missing),
    )


def _keeping(
    scorer: FrameScorer,
    into: list[FrameScores],
    recogniser: Recogniser,
    video: Video,
    options: StreamOptions,
) -> Iterator[FrameScores]:
    for one in scorer(recogniser, video, options):
        into.append(one)
        yield one


def _score(
    recogniser: Recogniser,
    manifest: Manifest,
    row: Row,
    marks: Sequence[Row],
    options: StreamOptions,
    rules: TimelineOptions,
    scorer: FrameScorer,
    cache: FrameCache | None,
) -> ScoredVideo:
    """One file: what is said about it, and what is true."""
    try:
        with manifest.open(row) if cache is None else cache.open_row(manifest, row) as video:
            truth = segments_of(marks, video.times())
            frames = scorer(recogniser, video, options)
            return _compare(recogniser, row.path, frames, truth, options, rules, video)
    except (NonFiniteError, DataError):
        raise  # the model is broken, or the cache, not the video
    except (VideoRWKVError, OSError) as error:
        # Segments that are counted in frames have no seconds then; they are missed all the same.
        truth = segments_of(marks, np.array([0.0, 1.0]))
        return ScoredVideo(row.path, truth=_actions(truth), reason=str(error))


def _compare(
    recogniser: Recogniser,
    path: str,
    frames: Iterator[FrameScores],
    truth: Sequence[ActionSegment],
    options: StreamOptions,
    rules: TimelineOptions,
    video: Video,
) -> ScoredVideo:
    labels, step = recogniser.labels, 1 / options.rate(recogniser.sampling)
    segmenter = Segmenter(labels=labels, step=step, options=rules)
    state, found = segmenter.start(), []
    times: list[float] = []
    loss, count = 0.0, 0
    while part := list(islice(frames, _PART)):
        for time, scores_K, reset in part:
            state, done = segmenter.advance(state, time, scores_K, reset=reset)
            found += done
        times += [one.time for one in part]
        truth_T = frame_labels(np.array([one.time for one in part]), truth, labels)
        sure_T = np.stack([one.scores_K for one in part])[np.arange(len(part)), truth_T]
        loss -= float(np.log(np.maximum(sure_T[truth_T >= 0], 1e-12)).sum())
        count += int((truth_T >= 0).sum())
    found += segmenter.finish(state)
    every = _with_background(labels)
    times_T = np.array(times)
    found_T = frame_labels(times_T, found, every)
    return ScoredVideo(
        path=path,
        seconds=times[-1] + step,
        truth=_actions(truth),
        found=tuple(sorted(found)),
        confusion_KK=confusion(frame_labels(times_T, truth, every), found_T, len(every)),
        loss=loss / count if count else math.nan,
        warnings=video.warnings,
    )


def _with_background(labels: Sequence[str]) -> tuple[str, ...]:
    return tuple(labels) if background_of(labels) else (*labels, BACKGROUND)


def _actions(segments: Sequence[ActionSegment]) -> tuple[ActionSegment, ...]:
    """Without what is none, and what nobody has named."""
    return tuple(s for s in segments if s.label not in ("", *BACKGROUNDS))
