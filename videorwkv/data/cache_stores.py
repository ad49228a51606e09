"""How the frames of one cached clip lie on disk, and how they are read back.

`raw` is RGB, memory-mapped: exact, and nothing is left to decode. `jpeg` is one JPEG image a frame,
end to end: about a twelfth of the size, and a frame is decoded only when it is wanted.

T frames, H height, W width, C = 3 (RGB).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import DataError
from videorwkv.video.array import ArrayVideo
from videorwkv.video.base import Frame, Images, Transform, Video, resize_short_side

STORES = ("raw", "jpeg")
SUFFIXES = {"raw": ".rgb", "jpeg": ".jpegs"}


class Writes(Protocol):
    """What frames are written to."""

    def write(self, content: Any, /) -> object:
        """Take bytes."""


def write_frames(
    file: Writes, frames: Iterable[Frame], *, store: str, short_side: int, quality: int
) -> dict[str, Any]:
    """Write the frames one by one (an hour of video must not lie in memory).

    Frames whose shorter side exceeds `short_side` are shrunk to it; others stay as they are, since
    magnified ones would take more room and show no more.

    Returns:
        What `open_frames` has to know, as JSON-ready values.
    """
    times: list[float] = []
    lengths: list[int] = []
    sums: list[int] = []
    shape: tuple[int, ...] = ()
    for frame in frames:
        image_HWC = shrink(frame.image_HWC, short_side)
        if store == "jpeg":
            image = encode_jpeg(image_HWC, quality)
            file.write(image)
            lengths.append(len(image))
            sums.append(zlib.crc32(image))
        else:
            file.write(np.ascontiguousarray(image_HWC).data)
        shape = image_HWC.shape
        times.append(frame.time)
    about: dict[str, Any] = {"store": store, "shape": [len(times), *shape], "times": times}
    if store == "jpeg":
        about |= {"lengths": lengths, "crc32": sums, "quality": quality}
    return about


def open_frames(name: str, entry: Path, about: dict[str, Any]) -> Video:
    """The frames that `write_frames` has written beside `entry`, which ends in `.json`.

    Args:
        name: what messages call the video.
        entry: the file that `about` was read from.
        about: what `write_frames` returned, and `warnings`.

    Raises:
        OSError, ValueError, KeyError, TypeError: the entry is damaged.
    """
    # Entries of the first version say nothing; all of them are raw.
    store = about.get("store", "raw")
    # Older ones don't name their file.
    path = entry.with_name(about.get("file", f"{entry.stem}{SUFFIXES[store]}"))
    shape = tuple(about["shape"])
    times = np.array(about["times"], np.float64)
    warnings = tuple(about["warnings"])
    size = sum(about["lengths"]) if store == "jpeg" else int(np.prod(shape))
    if path.stat().st_size != size:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes instead of {size}")
    if store == "raw":
        frames_THWC = np.memmap(path, np.uint8, mode="r", shape=shape)
        return ArrayVideo(name, frames_THWC, times, warnings)
    return JpegVideo(name, path, shape, times, about["lengths"], about["crc32"], warnings)


def damaged(entry: Path, reason: object) -> DataError:
    """What is said of an entry that can't be read, and what to do."""
    return DataError(
        f"Cache entry {entry} can't be read ({reason}). Delete {entry.name.partition('.')[0]}.* in "
        "that folder; the clip is then decoded again."
    )


def shrink(image_HWC: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    """[H, W, 3] with min(H, W) at most `short_side`."""
    return resize_short_side(image_HWC, min(short_side, *image_HWC.shape[:2]))


def encode_jpeg(image_HWC: NDArray[np.uint8], quality: int) -> bytes:
    """RGB [H, W, 3] as JPEG; colours at half the size, as in nearly every video."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    _, content = cv2.imencode(".jpg", cv2.cvtColor(image_HWC, cv2.COLOR_RGB2BGR), options)
    return bytes(content)


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
            raise ValueError("its index contradicts itself")
        self._path = path
        self._shape = shape
        self._known = times
        self._ends = np.cumsum([0, *lengths]).tolist()
        self._sums = sums
        self._warnings = warnings

    def __iter__(self) -> Iterator[Frame]:
        self._check_open()
        for index, time in enumerate(self._known.tolist()):
            yield Frame(self._read_images([index])[index], time)

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
            raise damaged(self._path, f"frame {index} is not as it was written")
        image_HWC = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if image_HWC is None or image_HWC.shape != self._shape[1:]:
            raise damaged(self._path, f"frame {index} can't be decoded")
        return cv2.cvtColor(image_HWC, cv2.COLOR_BGR2RGB)
