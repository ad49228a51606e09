"""Decoded frames as values: `Frame` and `Clip`. T frames, H height, W width, C = 3 (RGB)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import UsageError


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
        for image_HWC, time in zip(self.frames_THWC, self.times, strict=True):
            yield Frame(image_HWC, float(time))

    def __repr__(self) -> str:
        shape = list(self.frames_THWC.shape)
        return f"Clip(frames={shape} uint8, {self.times[0]:.2f}-{self.times[-1]:.2f} s)"


def frames_of(clip: Clip | Frame | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frames of what `preprocess` takes, [T, H, W, 3].

    Raises:
        UsageError: not RGB, not uint8, or no pixel.
    """
    frames = clip.frames_THWC if isinstance(clip, Clip) else clip
    frames = frames.image_HWC if isinstance(frames, Frame) else frames
    is_uint8 = isinstance(frames, np.ndarray) and frames.dtype == np.uint8
    if not is_uint8 or frames.ndim not in (3, 4) or frames.shape[-1] != 3 or not frames.size:
        got = type(frames).__name__
        if isinstance(frames, np.ndarray):
            got = f"{frames.dtype} {list(frames.shape)}"
        raise UsageError(
            f"preprocess: got {got}; a Clip, a Frame, or an RGB array of uint8 [T, H, W, 3] or "
            "[H, W, 3] with a frame at least is wanted."
        )
    return frames if frames.ndim == 4 else frames[None]


def _check_images(name: str, images: NDArray[np.uint8], *, ndim: int) -> None:
    if images.ndim != ndim or images.shape[-1] != 3 or images.dtype != np.uint8:
        wanted = "[T, H, W, 3]" if ndim == 4 else "[H, W, 3]"
        raise ValueError(
            f"{name} must be {wanted} uint8 RGB; got {list(images.shape)} {images.dtype}."
        )
    if 0 in images.shape:
        raise ValueError(f"{name} is empty: {list(images.shape)}.")
