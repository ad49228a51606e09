"""Small clips on disk, in whatever layout a test draws."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from videorwkv.video.writer import write_video


@cache
def _mp4() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        write_video(path, np.full((4, 32, 32, 3), 90, np.uint8), 12)
        return path.read_bytes()


def video(*paths: Path) -> None:
    """A playable file of four frames at each path, whatever its suffix."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_mp4())


def frames(folder: Path, numbers: Iterable[int] = (1, 2, 4), name: str = "{:05d}.jpg") -> None:
    """JPEG frames with these numbers; frame n is grey of level 10 n."""
    folder.mkdir(parents=True)
    for number in numbers:
        image_HWC = np.full((32, 32, 3), 10 * number, np.uint8)
        cv2.imwrite(str(folder / name.format(number)), image_HWC)


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path
