"""Decoded clips on disk: a video is decoded once, later epochs only map its frames.

T frames, H height, W width, C = 3 (RGB).
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from videorwkv.data.array_video import ArrayVideo
from videorwkv.errors import ConfigError, DataError, DecodeError
from videorwkv.video.base import Video, resize_short_side


@dataclass(frozen=True)
class FrameCache:
    """A folder of decoded clips; several processes may share it.

    An entry is named after the clip's path, size and time of change, so a clip that is replaced is
    decoded again. Entries of clips that are gone stay: delete the folder to get the space back.

    Args:
        folder: made on first use.
        short_side: frames are stored with their shorter side at this many pixels; somewhat more
            than the model's size leaves room for crops.
    """

    folder: str
    short_side: int

    def __post_init__(self) -> None:
        if self.short_side < 1:
            raise ConfigError(f"FrameCache: short_side ({self.short_side}) must be at least 1.")

    def open(self, path: str, open_source: Callable[[], Video]) -> Video:
        """The clip at `path`: from the folder, or decoded by `open_source()` and stored first.

        Raises:
            DecodeError: the clip can't be read.
            DataError: the folder can't be written to, or the disk is full.
        """
        entry = Path(self.folder) / self._name(path)
        about = entry.with_suffix(".json")
        if not about.exists():
            with open_source() as video:
                self._store(video, entry.with_suffix(".rgb"), about)
        try:
            known = json.loads(about.read_text(encoding="utf-8"))
            frames_THWC = np.memmap(
                entry.with_suffix(".rgb"), np.uint8, mode="r", shape=tuple(known["shape"])
            )
        except (OSError, ValueError) as error:
            raise DataError(
                f"Cache entry {about} can't be read ({error}). Delete {entry.name}.* in that "
                "folder; the clip is then decoded again."
            ) from error
        times = np.array(known["times"], np.float64)
        return ArrayVideo(path, frames_THWC, times, tuple(known["warnings"]))

    def _name(self, path: str) -> str:
        place = Path(path)
        try:
            # A clip may be a folder of frames: any change in it counts.
            files = sorted(place.iterdir()) if place.is_dir() else [place]
            stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        except OSError as error:
            raise DecodeError(f"{path}: can't be read ({error.strerror}).") from error
        key = repr((str(place.absolute()), stats, self.short_side))
        return hashlib.sha256(key.encode()).hexdigest()[:24]

    def _store(self, video: Video, frames: Path, about: Path) -> None:
        times: list[float] = []
        shape: tuple[int, ...] = ()

        def write_frames(file: IO[bytes]) -> None:
            nonlocal shape
            # One frame at a time: an hour of video must not lie in memory.
            for frame in video:
                image_HWC = resize_short_side(frame.image_HWC, self.short_side)
                file.write(np.ascontiguousarray(image_HWC).data)
                shape = image_HWC.shape
                times.append(frame.time)

        def write_about(file: IO[bytes]) -> None:
            known = {
                "source": video.name,
                "shape": [len(times), *shape],
                "times": times,
                "warnings": list(video.warnings),
            }
            file.write(json.dumps(known).encode())

        try:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
            _write(frames, write_frames)
            # Last: an entry counts once this file stands.
            _write(about, write_about)
        except OSError as error:
            raise DataError(
                f"Cache {self.folder}: the frames of {video.name} can't be written "
                f"({error.strerror or error}). Free some space, take another folder, or go on "
                "without a cache."
            ) from error


def _write(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """All of the file or nothing: written beside its place, then renamed."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
