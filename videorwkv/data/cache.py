"""Decoded clips on disk: a video is decoded once, later epochs only read its resized frames.

An entry is two files: `KEY.json`, the index, and the frames, in one of two stores. `raw` is RGB,
memory-mapped: exact, and nothing is left to decode. `jpeg` is one JPEG image a frame, end to end:
about a twelfth of the size, and a frame is decoded only when it is wanted.

T frames, H height, W width, C = 3 (RGB).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from videorwkv.data.cache_videos import JpegVideo, RawVideo, damaged
from videorwkv.errors import ConfigError, DataError, DecodeError, UsageError, did_you_mean
from videorwkv.utils.files import atomic, unfinished
from videorwkv.utils.remote import is_address
from videorwkv.utils.values import brief, read_json, sealed
from videorwkv.video.base import Frame, Video, resize_short_side
from videorwkv.video.segment import Segment, part_name

if TYPE_CHECKING:
    from videorwkv.data.manifest import Manifest, Row

# Name of a store -> suffix of its files.
STORES = {"raw": ".rgb", "jpeg": ".jpegs"}
# In the folder: how `auto` stores what is not there yet.
SETTINGS = "cache.json"
# At this quality a JPEG changes fewer edges than resizing the frame did (benchmarks/cache.sh).
QUALITY = 90
# A file that nobody has written to for so many seconds belongs to a process that was killed.
STALE = 3600


@dataclass(frozen=True)
class FrameCache:
    """A folder of decoded clips; several processes may share it.

    An entry is named after the clip's path, size and time of change, so a clip that is replaced is
    decoded again; and after its segment, whose frames alone it holds. An entry says itself how it
    is stored, so entries of both stores may lie side by side. Entries of clips that are gone stay:
    delete the folder to get the space back.

    Args:
        folder: made on first use.
        short_side: frames are stored with their shorter side at this many pixels at most; somewhat
            more than the model's size leaves room for crops.
        store: how new entries are stored, `raw` or `jpeg`; `auto` goes on as the folder began,
            with `raw` in a new one.
        quality: of JPEG images, 1 to 100.
        frame_rate: frames a second of folders of frames, as in `open_video`.

    Raises:
        ConfigError: a number is out of range, or the store is unknown.
        UsageError: `folder` is a file.
    """

    folder: str
    short_side: int
    store: str = "auto"
    quality: int = QUALITY
    frame_rate: float | None = None

    def __post_init__(self) -> None:
        if self.short_side < 1:
            raise ConfigError(f"FrameCache: short_side ({self.short_side}) must be at least 1.")
        if self.store not in ("auto", *STORES):
            raise ConfigError(
                f"FrameCache: unknown store {self.store!r}. "
                f"{did_you_mean(self.store, ('auto', *STORES))}"
            )
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"FrameCache: quality ({self.quality}) must lie in [1, 100].")
        if os.path.isfile(self.folder):
            raise UsageError(
                f"--cache {self.folder} is a file; wanted a folder, new or existing. "
                "Choose another place."
            )

    @classmethod
    def for_images(cls, folder: str | Path, image_size: int, **options: Any) -> FrameCache:
        """The cache of models that take `image_size` pixels: a quarter more, for crops."""
        return cls(str(folder), image_size * 5 // 4, **options)

    def open(
        self, path: str, open_source: Callable[[], Video], *, segment: Segment | None = None
    ) -> Video:
        """The clip at `path`: from the folder, or decoded by `open_source()` and stored first.

        Args:
            path: of the video.
            open_source: opens the clip, so only the segment where there is one.
            segment: which part of the video the clip is.

        Raises:
            DecodeError: the clip can't be read.
            DataError: the folder can't be written to, the disk is full, or the entry is damaged;
                reading frames may raise it too.
        """
        entry = self.entry(path, segment)
        self._fill(entry, open_source)
        try:
            return _open_frames(part_name(path, segment), entry, read_json(entry))
        except (
            *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
        ) as error:
            raise damaged(entry, error) from error

    def open_row(self, manifest: Manifest, row: Row) -> Video:
        """A clip of a data set, as `open`; a generated one has no file to keep."""
        if manifest.opener is not None:
            return manifest.open(row)
        return self.open(row.path, lambda: manifest.open(row), segment=row.segment)

    def fill(
        self, path: str, open_source: Callable[[], Video], *, segment: Segment | None = None
    ) -> None:
        """Make sure that the clip is there; arguments and errors as in `open`."""
        self._fill(self.entry(path, segment), open_source)

    def entry(self, path: str, segment: Segment | None = None) -> Path:
        """Index of the clip at `path`, there once that is stored; `DecodeError` if it is gone.

        What has an address is known by that alone: a clip that is replaced there is not seen to be.
        """
        part = "" if segment is None else f" {segment}"
        if is_address(path):
            return self._named(repr((path, self.short_side, self.frame_rate)) + part)
        place = Path(path)
        shard = place.parent
        while not shard.exists() and shard != shard.parent:
            shard = shard.parent
        try:
            if shard.is_file():  # a clip in a shard
                status = shard.stat()
                stamp = [(shard.name, status.st_size, status.st_mtime_ns)]
                name = str(place.absolute())
                return self._named(repr((name, stamp, self.short_side, self.frame_rate)) + part)
            # A clip may be a folder of frames: any change in it counts.
            files = sorted(place.iterdir()) if place.is_dir() else [place]
            stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        except OSError as error:
            raise DecodeError(f"{path}: can't be read ({error.strerror}).") from error
        key = repr((str(place.absolute()), stats, self.short_side))
        if self.frame_rate is not None and place.is_dir():
            key += f" {self.frame_rate}"  # the times are stored as well
        return self._named(key + part)

    def _named(self, key: str) -> Path:
        return Path(self.folder) / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"

    def settings(self) -> tuple[str, int] | None:
        """Store and quality that the folder was begun with, if it says so; or `DataError`."""
        path = Path(self.folder) / SETTINGS
        try:
            known = read_json(path)
            store, quality = str(known["store"]), int(known["quality"])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} can't be read ({error}). Delete it; the entries beside it stay valid."
            ) from error
        if store not in STORES:
            raise DataError(f"{path}: unknown store {store!r}. {did_you_mean(store, STORES)}")
        return store, quality

    def settled(self) -> tuple[str, int]:
        """Store and quality of new entries."""
        if self.store != "auto":
            return self.store, self.quality
        return self.settings() or ("raw", self.quality)

    def settle(self) -> None:
        """Let `auto` store as this cache does from now on; removes what killed processes left."""
        store, quality = self.settled()
        folder = Path(self.folder)
        content = json.dumps(sealed({"store": store, "quality": quality})).encode()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob(".*.part"):
                # Another process may finish it in between.
                with suppress(FileNotFoundError):
                    if time.time() - left.stat().st_mtime > STALE:
                        left.unlink()
            with atomic(folder / SETTINGS) as file:
                file.write(content)
        except OSError as error:
            raise self._unwritable(SETTINGS, error) from error

    def _fill(self, entry: Path, open_source: Callable[[], Video]) -> None:
        if entry.exists():
            return
        with open_source() as video:
            self._store(video, entry)

    def _store(self, video: Video, entry: Path) -> None:
        store, quality = self.settled()
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            with unfinished(entry.parent) as file:
                about, crc = _write_frames(
                    file, _frames(video), store=store, short_side=self.short_side, quality=quality
                )
                file.close()
                # Two processes may store a clip at once, and their bytes differ. Each index then
                # names the frames that belong to it.
                about["file"] = f"{entry.stem}.{crc:08x}{STORES[store]}"
                os.replace(file.name, entry.with_name(about["file"]))
            about.update(source=video.name, warnings=list(video.warnings))
            # Last: an entry counts once this file is there.
            with atomic(entry) as file:
                file.write(json.dumps(sealed(about)).encode())
        except OSError as error:
            raise self._unwritable(f"the frames of {video.name}", error) from error

    def _unwritable(self, what: str, error: OSError) -> DataError:
        return DataError(
            f"Cache {self.folder}: {what} can't be written ({error.strerror or error}). Free some "
            "space, choose another folder, or run without a cache."
        )


def _frames(video: Video) -> Iterator[Frame]:
    """The video's frames; an `OSError` of theirs is none of the cache's."""
    try:
        yield from video
    except OSError as error:
        raise DecodeError(f"{video.name}: can't be read ({error.strerror or error}).") from error


def _write_frames(
    file: IO[bytes], frames: Iterator[Frame], *, store: str, short_side: int, quality: int
) -> tuple[dict[str, Any], int]:
    """Write the frames one by one (an hour of video must not lie in memory).

    Frames whose shorter side exceeds `short_side` are resized to it; others stay as they are, since
    magnified ones would take more room and show no more.

    Returns:
        What `_open_frames` has to know, as JSON-ready values, and the CRC-32 of what was written.
    """
    times: list[float] = []
    lengths: list[int] = []
    sums: list[int] = []
    shape: tuple[int, ...] = ()
    crc = 0
    for frame in frames:
        image_HWC = limit_size(frame.image_HWC, short_side)
        content: bytes | memoryview
        if store == "jpeg":
            content = encode_jpeg(image_HWC, quality)
            lengths.append(len(content))
        else:
            content = np.ascontiguousarray(image_HWC).data
        sums.append(zlib.crc32(content))
        file.write(content)
        crc = zlib.crc32(content, crc)
        shape = image_HWC.shape
        times.append(frame.time)
    about: dict[str, Any] = {"store": store, "shape": [len(times), *shape], "times": times}
    about["sums"] = sums
    if store == "jpeg":
        about |= {"lengths": lengths, "quality": quality}
    return about, crc


def _open_frames(name: str, entry: Path, about: dict[str, Any]) -> Video:
    """The frames that `_write_frames` has written beside `entry`, which ends in `.json`.

    Args:
        name: what messages call the video.
        entry: the file that `about` was read from.
        about: what `_write_frames` returned, and `warnings`.

    Raises:
        OSError, ValueError, KeyError, TypeError: the entry is damaged.
    """
    # Entries of the first version say nothing; all of them are raw.
    store = about.get("store", "raw")
    # Older ones don't name their file.
    path = entry.with_name(about.get("file", f"{entry.stem}{STORES[store]}"))
    shape = tuple(about["shape"])
    times = np.array(about["times"], np.float64)
    warnings = tuple(about["warnings"])
    are_counts = len(shape) == 4 and all(type(n) is int and n > 0 for n in shape)
    if not are_counts or shape[3] != 3 or times.shape != shape[:1]:
        raise ValueError(f"frames of {brief(shape)} with {len(times)} times")
    if not np.isfinite(times).all() or np.any(np.diff(times) < 0):
        raise ValueError("its times do not increase")
    if not all(isinstance(text, str) for text in warnings):
        raise ValueError(f"warnings {brief(warnings)}")
    size = sum(about["lengths"]) if store == "jpeg" else int(np.prod(shape))
    if path.stat().st_size != size:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes instead of {size}")
    # Version 0.1.0 kept those of JPEG images alone, under the name that is now that of a seal.
    sums: Any = about.get("sums", about.get("crc32"))
    if store == "raw":
        return RawVideo(name, path, shape, times, sums, warnings)
    return JpegVideo(name, path, shape, times, about["lengths"], sums, warnings)


def limit_size(image_HWC: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
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
