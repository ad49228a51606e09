"""Frames of a cache, as they lie on disk: each is compared with its sum before it is given.

T frames, H height, W width, C = 3 (RGB).
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import DataError
from videorwkv.video.array import ArrayVideo
from videorwkv.video.base import Frame, Images, Transform, Video
from videorwkv.video.frames_folder import decode_image


def damaged(entry: Path, reason: object) -> DataError:
    """What is said of an entry that can't be read, and what to do."""
    return DataError(
        f"Cache entry {entry} can't be read ({reason}). Delete {entry.name.partition('.')[0]}.* in "
        "that folder; the clip is then decoded again."
    )


class RawVideo(ArrayVideo):
    """Frames that lie as they are, one behind the other, in one file that is mapped into memory.

    Args:
        name: what messages call it.
        path: the file; where an entry names it after the sum of all frames, that is compared if
            there are no sums of single frames.
        shape: [T, H, W, 3].
        times: seconds since the first frame, float64, [T].
        sums: CRC-32 of each frame; None in entries of version 0.1.0.
        warnings: what was found wrong when the frames were made.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        shape: tuple[int, ...],
        times: NDArray[np.float64],
        sums: list[int] | None,
        warnings: tuple[str, ...],
    ) -> None:
        frames_THWC = np.memmap(path, np.uint8, mode="r", shape=shape)
        if (
            len(shape) != 4
            or shape[0] != len(times)
            or (sums is not None and len(sums) != len(times))
        ):
            raise ValueError("its index is inconsistent")
        super().__init__(name, frames_THWC, times, warnings)
        self._path, self._sums = path, sums
        if sums is None:
            _require_sum(path)

    def __iter__(self) -> Iterator[Frame]:
        for index, frame in enumerate(super().__iter__()):
            self._compare(index)
            yield frame

    def _fetch(self, indices: NDArray[np.int64], transform: Transform) -> Images:
        for index in indices.tolist():
            self._compare(index)
        return super()._fetch(indices, transform)

    def _compare(self, index: int) -> None:
        if (
            self._sums is not None
            and zlib.crc32(self._frames_THWC[index].data) != self._sums[index]
        ):
            raise damaged(self._path, f"frame {index} has changed since it was written")


@functools.lru_cache(maxsize=1 << 16)
def _require_sum(path: Path) -> None:
    """`ValueError` unless a file is what the sum in its name says, if there is one; once a
    process."""
    written = path.name.split(".")[1]
    if not re.fullmatch(r"[0-9a-f]{8}", written):
        return
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
    if f"{crc:08x}" != written:
        raise ValueError(f"{path.name} has changed since it was written")


class JpegVideo(Video):
    """Frames that lie as JPEG images, end to end, in one file.

    Args:
        name: what messages call it.
        path: the file.
        shape: [T, H, W, 3].
        times: seconds since the first frame, float64, [T].
        lengths: bytes of each image.
        sums: CRC-32 of each image; a JPEG decoder would paint over damage and report success.
        warnings: what was found wrong when the frames were made.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        shape: tuple[int, ...],
        times: NDArray[np.float64],
        lengths: list[int],
        sums: list[int],
        warnings: tuple[str, ...],
    ) -> None:
        super().__init__(name)
        if not shape[0] == len(times) == len(lengths) == len(sums):
            raise ValueError("its index is inconsistent")
        self._path = path
        self._shape = shape
        self._known = times
        self._ends = np.cumsum([0, *lengths]).tolist()
        self._sums = sums
        self._warnings = warnings

    def __iter__(self) -> Iterator[Frame]:
        self._check_open()
        for index, seconds in enumerate(self._known.tolist()):
            yield Frame(self._read_images([index])[index], seconds)

    def _scan(self) -> NDArray[np.float64]:
        return self._known

    def _rescan(self) -> NDArray[np.float64]:
        return self._known

    def _fetch(self, indices: NDArray[np.int64], transform: Transform) -> Images:
        return self._read_images(indices.tolist(), transform)

    def _read_images(self, indices: list[int], transform: Transform | None = None) -> Images:
        """Raises `DataError` where the file is not what was written."""
        images: Images = {}
        try:
            with self._path.open("rb") as file:
                for index in indices:
                    file.seek(self._ends[index])
                    content = file.read(self._ends[index + 1] - self._ends[index])
                    image_HWC = self._decode(index, content)
                    images[index] = image_HWC if transform is None else transform(image_HWC)
        except OSError as error:
            raise damaged(self._path, error.strerror or error) from error
        return images

    def _decode(self, index: int, content: bytes) -> NDArray[np.uint8]:
        if zlib.crc32(content) != self._sums[index]:
            raise damaged(self._path, f"frame {index} has changed since it was written")
        image_HWC = decode_image(content)
        if image_HWC is None or image_HWC.shape != self._shape[1:]:
            raise damaged(self._path, f"frame {index} can't be decoded")
        return image_HWC
