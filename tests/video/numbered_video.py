"""Videos whose frames say which one they are."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

BITS = 8
CELL = 12


def numbered_frame(number: int, width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """Grey ground, a moving square, and `number` in binary along the top: white is 1, black is 0.

    The left edge is red and the top right corner is blue, so that turns and mirrors show.
    """
    image_HWC = np.full((height, width, 3), 110, np.uint8)
    left = 8 + (3 * number) % (width - 24)
    image_HWC[36:48, left : left + 12] = (40, 200, 40)
    image_HWC[CELL:, :6] = (230, 20, 20)
    for bit in range(BITS):
        image_HWC[:CELL, bit * CELL : (bit + 1) * CELL] = 255 if number >> bit & 1 else 0
    return image_HWC


def number_of(image_HWC: NDArray[np.uint8]) -> int:
    """Reads what `numbered_frame` wrote, at any size of the same shape."""
    scale = image_HWC.shape[1] / 96
    centre = int(CELL * scale / 2)
    return sum(
        int(image_HWC[centre, int((bit + 0.5) * CELL * scale)].mean() > 128) << bit
        for bit in range(BITS)
    )


def numbers_of(frames_THWC: NDArray[np.uint8]) -> list[int]:
    return [number_of(image_HWC) for image_HWC in frames_THWC]


def encode(
    path: Path,
    num_frames: int = 30,
    *,
    codec: str = "libx264",
    fps: int = 10,
    pts: Sequence[int] | None = None,
    pix_fmt: str = "yuv420p",
    container_format: str | None = None,
    container_options: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """A video of numbered frames; `pts` are milliseconds, otherwise `fps` is constant."""
    if codec not in av.codecs_available:
        pytest.skip(f"this build of PyAV can't encode {codec}")
    with av.open(
        str(path), "w", format=container_format, options=container_options or {}
    ) as container:
        container.metadata.update(metadata or {})
        stream: Any = container.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height, stream.pix_fmt = 96, 64, pix_fmt
        if pts is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(num_frames if pts is None else len(pts)):
            picture = av.VideoFrame.from_ndarray(numbered_frame(index), format="rgb24")
            picture.pts = index if pts is None else pts[index]
            picture.time_base = Fraction(1, fps) if pts is None else Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path
