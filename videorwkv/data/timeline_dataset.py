"""Windows of long files, with the class of every frame. T frames of a window, N of a file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from videorwkv.data.background import background_of, with_background
from videorwkv.data.dataset import ClipDataset, Drawn, Sample, tensor
from videorwkv.data.manifest import Manifest, Row
from videorwkv.data.timeline import (
    UNKNOWN,
    ActionSegment,
    frame_labels,
    segments_of,
    whole_files,
)
from videorwkv.data.transforms import Draw
from videorwkv.errors import ConfigError
from videorwkv.preprocess.inputs import Inputs
from videorwkv.video.base import Sampling, Video

# Share of the windows that show a beginning or an end of a segment, wherever in the file it is.
BOUNDARIES = 0.5


class TimelineDataset(ClipDataset):
    """Windows of whole files, each a pure function of (seed, epoch, index), for training.

    Half of the windows lie anywhere in their file, half of them around a boundary of a segment, so
    that rare actions in long files are seen. Nothing is known of the first `context` frames of a
    window, in which the model warms up: it has begun in the middle of something. A window at the
    beginning of its file has no such frames, as a stream begins like that. A file that is shorter
    than a window is followed by copies of its last frame, of which nothing is known either.

    Args:
        manifest: one split; its rows are segments, and each of its files is a sample.
        sampling: T frames at a rate.
        context: frames, below T.
        options: as of `ClipDataset`; of a timeline there are no views.

    Raises:
        ConfigError: the sampling has no rate, or a number is out of range.
        ManifestError: segments of a file are in several splits.
    """

    def __init__(
        self, manifest: Manifest, *, sampling: Sampling, context: int = 0, **options: Any
    ) -> None:
        if sampling.fps is None:
            raise ConfigError(
                "A timeline needs frames at a rate: give sampling.fps, such as "
                "--set sampling.fps=6; spread over a long file they would be seconds apart."
            )
        if not 0 <= context < sampling.num_frames:
            raise ConfigError(
                f"TimelineDataset: context ({context}) must lie in [0, {sampling.num_frames})."
            )
        files, self.marks = whole_files(with_background(manifest))
        super().__init__(files, sampling=sampling, **options)
        self.context = context

    def _training_sample(
        self, video: Video, row: Row, index: int, drawn: Drawn, draw: Draw
    ) -> Sample:
        sampling = drawn.sampling
        assert drawn.places is not None
        times = video.times()
        segments = segments_of(self.marks[row.path], times)
        chosen = window(times, segments, sampling, self.context, drawn.places)
        clip = video.read(chosen.tolist(), transform=draw.crop)
        frames_THWC, edges_THW = self.finished(clip.frames_THWC, draw)
        labels = self.manifest.labels
        flips = self.manifest.flips
        if draw.flipped and flips is not None:
            segments = [s._replace(label=flips.get(s.label, s.label)) for s in segments]
        labels_T = frame_labels(clip.times, segments, labels)
        labels_T[1:][np.diff(clip.times) <= 0] = UNKNOWN
        if draw.negative is not None:
            labels_T[labels_T != UNKNOWN] = labels.index(background_of(labels) or "")
        if clip.times[0] > 0:
            labels_T[: self.context] = UNKNOWN
        inputs = Inputs(tensor(frames_THWC), tensor(edges_THW))
        return Sample(inputs, labels_T, index, clip.warnings)


def window(
    times: NDArray[np.float64],
    segments: list[ActionSegment],
    sampling: Sampling,
    context: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Which frames of a file make a window, int64 [T], not decreasing; the last frame is repeated
    where the file ends before the window does.

    Args:
        times: of the file's frames, float64 [N].
        segments: of the file.
        sampling: T and the rate.
        context: frames in which no boundary is shown, if it can be avoided.
        rng: draws the place, and the same number of values whatever comes out.
    """
    fps = sampling.fps
    assert fps is not None
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
    ticks = np.arange(sampling.num_frames) / fps
    free = max(0.0, float(times[-1]) - float(ticks[-1]))
    kind, anywhere, which, where = rng.uniform(size=4)
    begin = free * anywhere
    boundaries = sorted({x for s in segments for x in (s.start, s.end) if 0 < x < times[-1]})
    if kind < BOUNDARIES and boundaries:
        boundary = boundaries[int(which * len(boundaries))]
        shown = ticks[context] + where * (ticks[-1] - ticks[context])
        begin = float(np.clip(boundary - shown, 0.0, free))
    # Half a frame of slack, as in `Sampling.indices`.
    found = np.searchsorted(times, begin + ticks + step / 2, side="right") - 1
    return np.clip(found, 0, len(times) - 1).astype(np.int64)
