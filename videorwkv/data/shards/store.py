"""Copies of shards that lie elsewhere: each is fetched whole, when its first clip is wanted."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from videorwkv.errors import DataError
from videorwkv.utils.files import cache_folder, unfinished
from videorwkv.utils.remote import fetch_address

# Shards whose clips are mixed in training (`POOL` of them), and those that follow.
POOL = 4
KEPT = 2 * POOL


@dataclass(frozen=True, kw_only=True)
class ShardStore:
    """Keeps the shards of one data set that were used last; several processes share it.

    Args:
        folder: where they lie, made on first use.
        kept: how many at a time.
    """

    folder: str
    kept: int = KEPT

    @classmethod
    def of(cls, sign: str) -> ShardStore:
        """That of a data set, by what changes when it does.

        Raises:
            DataError: there is no place for it.
        """
        try:
            folder = cache_folder() / "shards" / hashlib.sha256(sign.encode()).hexdigest()[:24]
        except OSError as error:
            raise DataError(
                "Shards that are elsewhere need a place for copies. Name a folder with the "
                "environment variable XDG_CACHE_HOME."
            ) from error
        return cls(folder=str(folder))

    def path(self, place: str) -> Path:
        """A copy of the shard at `place`, fetched unless it is there.

        Raises:
            DecodeError: there is no such shard.
            DataError: it can't be fetched, or not be kept.
        """
        file = Path(self.folder) / f"{hashlib.sha256(place.encode()).hexdigest()[:24]}.tar"
        with suppress(OSError):
            os.utime(file)  # it has been used now
            return file
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{file}.lock"):
                if not file.exists():  # another process may have fetched it meanwhile
                    self._make_room()
                    with unfinished(file.parent) as part:
                        fetch_address(place, Path(part.name))
                        part.close()
                        os.replace(part.name, file)
        except OSError as error:
            raise DataError(
                f"{place}: its copy in {self.folder} can't be written "
                f"({error.strerror or error}). Free some space, or name another place with the "
                "environment variable XDG_CACHE_HOME."
            ) from error
        return file

    def remove(self, place: str) -> None:
        """Take away the copy of the shard at `place`."""
        name = hashlib.sha256(place.encode()).hexdigest()[:24]
        for suffix in (".tar", ".tar.lock"):
            with suppress(OSError):
                (Path(self.folder) / f"{name}{suffix}").unlink()
        with suppress(OSError):
            Path(self.folder).rmdir()

    def _make_room(self) -> None:
        used = []
        for file in Path(self.folder).glob("*.tar"):
            with suppress(OSError):  # another process may have removed it
                used.append((file.stat().st_mtime, file))
        for left in Path(self.folder).glob(".*.part"):
            with suppress(OSError):  # of a process that was killed
                if time.time() - left.stat().st_mtime > 3600:
                    left.unlink()
        for _, file in sorted(used)[: max(0, len(used) + 1 - self.kept)]:
            # Windows removes no file that is read just now.
            with suppress(OSError):
                file.unlink()
