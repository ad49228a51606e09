"""Frames and clips as values, which frames become a clip, and what every video source offers.

T frames, H height, W width, C = 3 (RGB).
"""

from __future__ import annotations

import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import ConfigError, DecodeError, UsageError

# Names of files that are taken for clips and for frames; anything else in a folder (texts,
# thumbnails, archives) is passed over.
VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3gp", "avi", "flv", "gif", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "ogv"),
        *("ts", "webm", "wmv"),
    )
)
IMAGE_SUFFIXES = frozenset({".bmp", ".jpg", ".jpeg", ".png", ".webp"})
# A picture of more pixels is not decoded: twice those of 8K video; 200 MB as RGB.
MOST_PIXELS = 1 << 26
# Frame indices are Python ints below; images are uint8 [H, W, 3].
Images = dict[int, NDArray[np.uint8]]
Transform = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame.

    Args:
        image_HWC: RGB, uint8, [H, W, 3].
        time: seconds since the first frame of its video.
    """

    image_HWC: NDArray[np.uint8]
    time: float

    def __post_init__(self) -> None:
        _check_images("Frame.image_HWC", self.image_HWC, ndim=3)

    def __repr__(self) -> str:
        height, width = self.image_HWC.shape[:2]
        return f"Frame(image=[{height}, {width}, 3] uint8, {self.time:.2f} s)"


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of one video, in order, with their times.

    Args:
        frames_THWC: RGB, uint8, [T, H, W, 3], T >= 1.
        times: seconds since the first frame of the video, float64, [T], not decreasing.
        source: what it was read from, for messages.
        warnings: what went wrong without being fatal (a truncated file, say).
    """

    frames_THWC: NDArray[np.uint8]
    times: NDArray[np.float64]
    source: str = ""
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_images("Clip.frames_THWC", self.frames_THWC, ndim=4)
        if self.times.shape != (len(self.frames_THWC),):
            raise ValueError(
                f"Clip.times has shape {self.times.shape}; {len(self.frames_THWC)} frames need "
                f"({len(self.frames_THWC)},)."
            )
        if np.any(np.diff(self.times) < 0):
            raise ValueError("Clip.times must not decrease: frames come in presentation order.")

    def __len__(self) -> int:
        return len(self.frames_THWC)

    def __iter__(self) -> Iterator[Frame]:
        for image_HWC, seconds in zip(self.frames_THWC, self.times, strict=True):
            yield Frame(image_HWC, float(seconds))

    def __repr__(self) -> str:
        shape = list(self.frames_THWC.shape)
        return f"Clip(frames={shape} uint8, {self.times[0]:.2f}-{self.times[-1]:.2f} s)"


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How `num_frames` frames are chosen from a video.

    Args:
        num_frames: T, frames of a clip.
        fps: None samples uniformly over the whole video (TSN; the default: a clip's first second
            says little about the rest). A rate in frames a second samples a dense window instead.
    """

    num_frames: int = 16
    fps: float | None = None

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ConfigError(f"Sampling: num_frames ({self.num_frames}) must be at least 1.")
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise ConfigError(
                f"Sampling: fps ({self.fps}) must be above 0 and finite; None spreads."
            )

    def indices(
        self,
        times: NDArray[np.float64],
        *,
        view: int = 0,
        num_views: int = 1,
        rng: np.random.Generator | None = None,
    ) -> NDArray[np.int64]:
        """Indices of the chosen frames, int64 [num_frames], not decreasing.

        Uniform sampling takes one frame from each of `num_frames` equal segments, at the same place
        in each: the centre, or a random one if `rng` is given, or for view v of V (v + 1/2) / V.
        A dense window starts in the middle, at random, or for view v of V at v / (V - 1) of the
        free room. Where a video is shorter than the window, or has fewer frames than asked for,
        frames repeat.

        Args:
            times: presentation times in seconds, float64 [N], not decreasing, N >= 1.
            view: which temporal view, in [0, num_views).
            num_views: how many temporal views are taken.
            rng: draws a random place (training) instead of the view's fixed one.
        """
        if len(times) == 0:
            raise UsageError("Sampling: the video has no frame.")
        if not 0 <= view < num_views:
            raise UsageError(f"Sampling: view ({view}) must lie in [0, {num_views}).")
        # The last frame is shown for about as long as the ones before it.
        step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
        duration = times[-1] - times[0] + step
        ticks = np.arange(self.num_frames, dtype=np.float64)
        if self.fps is None:
            # One place for all segments: even steps in time, or motion would change its speed.
            place = rng.uniform() if rng is not None else (view + 0.5) / num_views
            wanted = times[0] + (ticks + place) * duration / self.num_frames
            # A wanted time lies inside the frame that is on screen then.
            found = np.searchsorted(times, wanted, side="right") - 1
        else:
            free = max(0.0, times[-1] - times[0] - (self.num_frames - 1) / self.fps)
            if rng is not None:
                place = rng.uniform()
            else:
                place = view / (num_views - 1) if num_views > 1 else 0.5
            wanted = times[0] + free * place + ticks / self.fps
            # Half a frame of slack: 12.5 fps must hit every other frame of a 25 fps video, not
            # slip by one where the two times differ in the last digit.
            found = np.searchsorted(times, wanted + step / 2, side="right") - 1
        return np.clip(found, 0, len(times) - 1).astype(np.int64)


class Video(ABC):
    """A source of frames, made by `open_video`; a context manager.

    Reading and iterating are independent of each other and start anew each time. Frames are RGB and
    upright (rotation flags are applied). Non-square pixels are not stretched: models are trained
    on pixels as stored, and the loaders of the usual data sets do the same.

    A file may hold fewer decodable frames than it announces. That is found out when a frame is
    missing; from then on the video consists of its decodable frames only, and clips carry a
    warning. No frame is ever put in another's place.

    Args:
        name: what messages call the source.

    Attributes:
        drops: how often a live source has been lost, to be opened again.
        is_away: whether it is lost now.
        tells_rate: whether nothing had to be guessed about how fast its frames follow each other.
        deadline: of `time.monotonic()`: reading a file or folder after it is a `DecodeError`.
    """

    is_live: bool = False
    tells_rate: bool = True
    drops: int = 0
    is_away: bool = False
    deadline: float = math.inf

    def __init__(self, name: str) -> None:
        self.name = name
        self._closed = False
        self._warnings: tuple[str, ...] = ()
        self._times: NDArray[np.float64] | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What has been found wrong so far without being fatal."""
        return self._warnings

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """All frames in presentation order; a live source goes on for ever.

        Raises:
            DecodeError: not a single frame can be decoded, or a live source breaks off.
        """

    @abstractmethod
    def _scan(self) -> NDArray[np.float64]:
        """Times of all frames in seconds, found cheaply; the first is 0."""

    @abstractmethod
    def _rescan(self) -> NDArray[np.float64]:
        """Times of the frames that can really be decoded, found by decoding them."""

    @abstractmethod
    def _fetch(self, indices: NDArray[np.int64], transform: Transform) -> Images | None:
        """Frames by index (sorted, distinct), or None if one of them can't be decoded.

        `transform` is applied to each upright frame; the frame's rows may lie apart in memory.
        """

    def times(self) -> NDArray[np.float64]:
        """Presentation times in seconds, float64 [N], increasing; the first frame is at 0.

        They come from the container's packets; nothing is decoded unless packets carry no times.

        Raises:
            DecodeError: there is no frame.
            UsageError: the source is live or closed.
        """
        self._check_open()
        if self._times is None:
            self._keep(self._scan())
        assert self._times is not None
        return self._times.copy()

    def read(
        self,
        indices: Sequence[int],
        *,
        short_side: int | None = None,
        transform: Transform | None = None,
    ) -> Clip:
        """The frames at `indices` of `times()`; decodes only the way to the last one needed.

        If frames turn out not to be decodable, the indices are scaled to the decodable part.

        Args:
            indices: at least one, each in [0, N), not decreasing (a clip is in presentation order);
                repeats are allowed.
            short_side: resizes frames so that their shorter side has this many pixels.
            transform: then applied to each frame, uint8 [H, W, 3] -> uint8 [H', W', 3], while the
                next one is still to be decoded: frames of full size never lie in memory together.

        Raises:
            DecodeError: no frame can be decoded.
            UsageError: wrong indices or size; the source is live or closed.
        """
        total = len(self.times())
        given = np.asarray(indices)
        if given.ndim != 1 or given.size == 0 or not np.issubdtype(given.dtype, np.integer):
            raise UsageError(
                f"{self.name}: read takes a list of at least one frame index; got {indices!r}."
            )
        # Of 8 bits, say, a product below would overflow, and a difference wrap around.
        given = given.astype(np.int64)
        if given.min() < 0 or given.max() >= total:
            raise UsageError(
                f"{self.name}: frame indices {given.min()}..{given.max()} are out of range; the "
                f"video has {total} frames, 0..{total - 1}."
            )
        if np.any(np.diff(given) < 0):
            raise UsageError(
                f"{self.name}: frame indices must not decrease, as a clip is in presentation "
                "order. Sort them, and reorder the clip's frames_THWC afterwards if need be."
            )
        return self._read(lambda times: given * len(times) // total, short_side, transform)

    def sample(
        self,
        num_frames: int = 16,
        *,
        fps: float | None = None,
        view: int = 0,
        num_views: int = 1,
        rng: np.random.Generator | None = None,
        short_side: int | None = None,
        transform: Transform | None = None,
    ) -> Clip:
        """A clip of `num_frames` frames, chosen as `Sampling` describes.

        Args:
            num_frames: T.
            fps: None: uniform sampling; a rate: dense sampling.
            view: which temporal view, in [0, num_views).
            num_views: how many temporal views are taken.
            rng: draws a random place instead (training).
            short_side, transform: as in `read`.

        Raises:
            DecodeError: no frame can be decoded.
            UsageError: a wrong argument; the source is live or closed.
        """
        sampling = Sampling(num_frames=num_frames, fps=fps)
        # A second choice, over what is decodable, has to draw what the first one drew.
        draws = iter((rng, copy.deepcopy(rng)))
        return self._read(
            lambda times: sampling.indices(times, view=view, num_views=num_views, rng=next(draws)),
            short_side,
            transform,
        )

    def read_all(self, *, short_side: int | None = None) -> Clip:
        """Every frame. Mind the memory: a minute of 1080p video is about 11 GB.

        Raises:
            DecodeError: no frame can be decoded.
            UsageError: a wrong size; the source is live or closed.
        """
        return self._read(lambda times: np.arange(len(times)), short_side, None)

    def close(self) -> None:
        """Ends the use of this video; closing twice is fine."""
        self._closed = True

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}{', closed' if self._closed else ''})"

    def _read(
        self,
        choose: Callable[[NDArray[np.float64]], NDArray[np.int64]],
        short_side: int | None,
        transform: Transform | None,
    ) -> Clip:
        if short_side is not None and short_side < 1:
            raise UsageError(f"{self.name}: short_side ({short_side}) must be at least 1.")
        whole = _composed(short_side, transform)
        times = self.times()
        indices = choose(times)
        images = self._fetch(np.unique(indices), whole)
        if images is None:
            self._keep(self._rescan())
            times = self.times()
            indices = choose(times)
            images = self._fetch(np.unique(indices), whole)
        if images is None:
            raise DecodeError(
                f"{self.name}: frames that were decoded once can't be decoded again; has the file "
                "changed meanwhile?"
            )
        frames_THWC = np.stack([images[index] for index in indices.tolist()])
        return Clip(frames_THWC, times[indices], source=self.name, warnings=self._warnings)

    def _keep(self, times: NDArray[np.float64]) -> None:
        if len(times) == 0:
            detail = f" ({'; '.join(self._warnings)})" if self._warnings else ""
            raise DecodeError(f"{self.name}: no frame can be decoded{detail}.")
        self._times = times

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"{self.name}: the video is closed; open it again with open_video.")


def require_time(name: str, deadline: float) -> None:
    """`DecodeError` once `time.monotonic()` has passed the deadline for reading a video."""
    if time.monotonic() > deadline:
        raise DecodeError(
            f"{name}: reading it takes longer than allowed. Give it more seconds with "
            "--clip-timeout (time_limit), or 0 for no limit."
        )


def _composed(short_side: int | None, transform: Transform | None) -> Transform:
    """Resizing, then `transform`."""
    if transform is None:
        return lambda image_HWC: resize_short_side(image_HWC, short_side)
    return lambda image_HWC: transform(resize_short_side(image_HWC, short_side))


def incomplete(decodable: int, total: int) -> str:
    """The warning of a video that has lost frames."""
    return f"incomplete: {decodable} of {total} frames can be decoded"


def resize_short_side(image_HWC: NDArray[np.uint8], short_side: int | None) -> NDArray[np.uint8]:
    """[H, W, 3] resized so that min(H, W) is `short_side`; None leaves it as it is."""
    height, width = image_HWC.shape[:2]
    short = min(height, width)
    if short_side is None or short == short_side:
        return image_HWC
    scale = short_side / short
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # INTER_AREA averages what falls into one pixel; the others would alias when shrinking.
    how = cv2.INTER_AREA if short_side < short else cv2.INTER_LINEAR
    return cv2.resize(image_HWC, size, interpolation=how)


def _check_images(name: str, images: NDArray[np.uint8], *, ndim: int) -> None:
    if images.ndim != ndim or images.shape[-1] != 3 or images.dtype != np.uint8:
        wanted = "[T, H, W, 3]" if ndim == 4 else "[H, W, 3]"
        raise ValueError(
            f"{name} must be {wanted} uint8 RGB; got {list(images.shape)} {images.dtype}."
        )
    if 0 in images.shape:
        raise ValueError(f"{name} is empty: {list(images.shape)}.")
