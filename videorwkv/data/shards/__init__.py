"""Clips that lie in shards: tars of WebDataset, each of some hundred clips with their labels."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from videorwkv.data.shards.members import group_members
from videorwkv.data.shards.store import ShardStore
from videorwkv.errors import DecodeError
from videorwkv.utils.remote import is_address
from videorwkv.video.base import Video
from videorwkv.video.frames_folder import FrameFiles
from videorwkv.video.source import open_video


class ShardClip(NamedTuple):
    """Where a clip lies in its shard.

    Args:
        name: of its video in the tar; of a clip of frames, what their names begin with.
        label: name of its class; None if unknown.
        group: who or what was recorded, if known.
        start, stop: bytes of the shard with the headers and the content of all its members.
        place: of the clip in the data set that the shards were made from; -1 where nobody says.
    """

    name: str
    label: str | None
    group: str
    start: int
    stop: int
    place: int = -1


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A tar and what is in it.

    Args:
        place: path or address.
        size: bytes that it should have.
        split: which split its clips belong to; empty if not said.
        clips: all that it should hold, in order.
        problem: what is wrong with it; empty if nothing is.
        present: bytes that it has.
    """

    place: str
    size: int
    split: str
    clips: tuple[ShardClip, ...]
    problem: str = ""
    present: int = 0


@dataclass(frozen=True, kw_only=True)
class Shards:
    """How the clips of a manifest are read from shards; picklable, for the workers.

    Args:
        places: of the shards.
        found: path of a row -> the number of its shard, and the bytes from which to which it lies.
        store: keeps copies of some of those that have an address; None where all are on this disk.
    """

    places: tuple[str, ...]
    found: Mapping[str, tuple[int, int, int]]
    store: ShardStore | None = None

    def number(self, path: str) -> int:
        """Of the shard in which the clip at `path` lies."""
        return self.found[path][0]

    def open(self, path: str, *, decoder: str, frame_rate: float | None) -> Video:
        """The clip at `path`; options as in `open_video`.

        Raises:
            DecodeError: it can't be read, or its shard is gone or cut short.
            DataError: its shard can't be fetched.
        """
        number, start, stop = self.found[path]
        place = self.places[number]
        content = self._read(place, start, stop)
        members: dict[str, bytes] = {}
        try:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
                for member in tar:
                    if member.isreg():
                        members[member.name] = tar.extractfile(member).read()  # type: ignore[union-attr]
        except tarfile.TarError as error:
            raise DecodeError(f"{path}: {place} is damaged here ({error}).") from error
        group = next(group_members(members), None)
        if group is None or not path.endswith(f"/{group.name}"):
            raise DecodeError(f"{path}: {place} has changed since it was looked through.")
        if group.video is not None:
            return open_video(members[group.video], name=path, decoder=decoder)
        frames = {Path(name): members[name] for name in group.frames}
        return FrameFiles(list(frames), path, frame_rate, read=frames.get)

    def _read(self, place: str, start: int, stop: int) -> bytes:
        try:
            file = self.store.path(place) if is_address(place) and self.store else place
            with open(file, "rb") as shard:
                shard.seek(start)
                content = shard.read(stop - start)
        except OSError as error:
            raise DecodeError(f"{place}: can't be read ({error.strerror or error}).") from error
        if len(content) < stop - start:
            raise DecodeError(
                f"{place}: the shard is cut short: it has {start + len(content):,} bytes and this "
                f"clip ends at {stop:,}."
            )
        return content
