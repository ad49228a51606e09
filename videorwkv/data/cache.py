"""Decoded clips on disk: a video is decoded once, later epochs only read its shrunk frames."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from videorwkv.data.cache_stores import STORES, SUFFIXES, damaged, open_frames, write_frames
from videorwkv.errors import ConfigError, DataError, DecodeError, UsageError, did_you_mean
from videorwkv.video.base import Frame, Video

# In the folder: how `auto` stores what is not there yet.
SETTINGS = "cache.json"
# At this quality a JPEG changes fewer edges than shrinking the frame did (benchmarks/cache.sh).
QUALITY = 90
# A file that nobody has written to for so many seconds belongs to a process that was killed.
STALE = 3600


@dataclass(frozen=True)
class FrameCache:
    """A folder of decoded clips; several processes may share it.

    An entry is named after the clip's path, size and time of change, so a clip that is replaced is
    decoded again. An entry says itself how it is stored, so entries of several kinds may lie side
    by side. Entries of clips that are gone stay: delete the folder to get the space back.

    Args:
        folder: made on first use.
        short_side: frames are stored with their shorter side at this many pixels at most; somewhat
            more than the model's size leaves room for crops.
        store: how new entries are stored, `raw` or `jpeg` (see `cache_stores`); `auto` goes on as
            the folder began, with `raw` in a new one.
        quality: of JPEG images, 1 to 100.

    Raises:
        ConfigError: a number is out of range, or the store is unknown.
        UsageError: `folder` is a file.
    """

    folder: str
    short_side: int
    store: str = "auto"
    quality: int = QUALITY

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
                f"--cache {self.folder} is a file; wanted a folder, which is made if need be. "
                "Name another place."
            )

    @classmethod
    def for_images(cls, folder: str | Path, image_size: int, **options: Any) -> FrameCache:
        """The cache of models that take `image_size` pixels: a quarter more, for crops."""
        return cls(str(folder), image_size * 5 // 4, **options)

    def open(self, path: str, open_source: Callable[[], Video]) -> Video:
        """The clip at `path`: from the folder, or decoded by `open_source()` and stored first.

        Raises:
            DecodeError: the clip can't be read.
            DataError: the folder can't be written to, the disk is full, or the entry is damaged;
                reading frames may raise it too.
        """
        entry = self.entry(path)
        self._fill(entry, open_source)
        try:
            about = json.loads(entry.read_text(encoding="utf-8"))
            return open_frames(path, entry, about)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise damaged(entry, error) from error

    def fill(self, path: str, open_source: Callable[[], Video]) -> None:
        """Make sure that the clip is there; errors as in `open`."""
        self._fill(self.entry(path), open_source)

    def entry(self, path: str) -> Path:
        """The file that stands once the clip at `path` is stored; `DecodeError` if that is gone."""
        place = Path(path)
        try:
            # A clip may be a folder of frames: any change in it counts.
            files = sorted(place.iterdir()) if place.is_dir() else [place]
            stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        except OSError as error:
            raise DecodeError(f"{path}: can't be read ({error.strerror}).") from error
        key = repr((str(place.absolute()), stats, self.short_side))
        return Path(self.folder) / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"

    def settings(self) -> tuple[str, int] | None:
        """Store and quality that the folder was begun with, if it says so; or `DataError`."""
        path = Path(self.folder) / SETTINGS
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            store, quality = known["store"], int(known["quality"])
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
        content = json.dumps({"store": store, "quality": quality}).encode()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob(".*.part"):
                # Another process may finish it in between.
                with suppress(FileNotFoundError):
                    if time.time() - left.stat().st_mtime > STALE:
                        left.unlink()
            _write(folder, SETTINGS, content)
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
            with _unfinished(entry.parent) as (path, file):
                summed = _Summed(file)
                about = write_frames(
                    summed, _frames(video), store=store, short_side=self.short_side, quality=quality
                )
                file.close()
                # Two processes may store a clip at once, and their bytes differ. Each index then
                # names the frames that belong to it.
                about["file"] = f"{entry.stem}.{summed.crc:08x}{SUFFIXES[store]}"
                os.replace(path, entry.with_name(about["file"]))
            about.update(source=video.name, warnings=list(video.warnings))
            # Last: an entry counts once this file stands.
            _write(entry.parent, entry.name, json.dumps(about).encode())
        except OSError as error:
            raise self._unwritable(f"the frames of {video.name}", error) from error

    def _unwritable(self, what: str, error: OSError) -> DataError:
        return DataError(
            f"Cache {self.folder}: {what} can't be written ({error.strerror or error}). Free some "
            "space, take another folder, or go on without a cache."
        )


class _Summed:
    """Writes to a file and keeps the CRC-32 of what was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.crc = 0

    def write(self, content: bytes | memoryview) -> None:
        self.crc = zlib.crc32(content, self.crc)
        self._file.write(content)


def _frames(video: Video) -> Iterator[Frame]:
    """The video's frames; an `OSError` of theirs is none of the cache's."""
    try:
        yield from video
    except OSError as error:
        raise DecodeError(f"{video.name}: can't be read ({error.strerror or error}).") from error


def _write(folder: Path, name: str, content: bytes) -> None:
    """All of the file or nothing."""
    with _unfinished(folder) as (path, file):
        file.write(content)
        file.close()
        os.replace(path, folder / name)


@contextmanager
def _unfinished(folder: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """A new file, open, to be closed and renamed when it is complete; else it is removed."""
    # Not `tempfile`: its files are their owner's alone, and a cache may serve several users.
    path = folder / f".{uuid.uuid4().hex}.part"
    try:
        with path.open("xb") as file:
            yield path, file
    finally:
        path.unlink(missing_ok=True)
