"""A data set of files -> shards: tars of WebDataset with an index beside them."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from videorwkv.data.manifest import Manifest, Row
from videorwkv.data.shards import Shard, ShardClip
from videorwkv.data.shards.index import INDEX, Index, index_values, split_of
from videorwkv.data.shards.members import group_members
from videorwkv.errors import DataError, DecodeError, UsageError, VideoRWKVError
from videorwkv.utils.files import atomic, make_folder, require_room
from videorwkv.utils.remote import is_address, read_address
from videorwkv.utils.values import sealed
from videorwkv.video.base import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from videorwkv.video.frames_folder import FolderVideo

# Bytes from which on a shard is full.
SHARD_SIZE = 1 << 30


@dataclass(frozen=True)
class Written:
    """What `write_shards` did: shards, clips in them, and path -> reason of clips in none."""

    shards: int
    clips: int
    unreadable: dict[str, str]


def write_shards(
    manifest: Manifest,
    folder: str | Path,
    *,
    shard_size: int = SHARD_SIZE,
    on_clip: Callable[[int], None] = lambda done: None,
) -> Written:
    """Pack the clips of a manifest, split by split, and write the index.

    The bytes of each clip are packed as they are. Clips are shuffled, so that every shard has some
    of all classes; the index keeps their order in the manifest. Training from these shards on this
    disk takes the same clips in the same order as from the manifest, so it ends with the same
    weights.

    Args:
        manifest: its clips are files, folders of frames or addresses.
        folder: for the shards; must hold none.
        shard_size: bytes from which on a shard is full, at least 1.
        on_clip: called with the number of clips that are done.

    Raises:
        UsageError: the clips are generated, segments or lie in shards, or `folder` holds shards.
        DataError: the disk is full or can't be written to.
    """
    if manifest.opener is not None:
        raise UsageError(f"{manifest.name}: its clips are generated, so they need no shards.")
    if manifest.shards is not None:
        raise UsageError(f"{manifest.name}: its clips lie in shards already.")
    if any(row.segment is not None for row in manifest.rows):
        raise UsageError(
            f"{manifest.name}: its clips are segments of files, and shards hold whole clips. Cut "
            "them into files of their own, or train from the files; --cache keeps the segments."
        )
    if manifest.multilabel:
        raise UsageError(
            f"{manifest.name}: its clips have several labels, and shards keep one each. Train from "
            "the files."
        )
    folder = Path(folder)
    make_folder(folder)
    if (folder / INDEX).exists() or any(folder.glob("*.tar")):
        raise UsageError(
            f"{folder} holds shards; nothing is overwritten. Choose another folder, or delete them."
        )
    require_room(folder, float(sum(map(_size, manifest.rows))), "The set of shards")
    shards: list[Shard] = []
    unreadable: dict[str, str] = {}
    done = 0
    for split in manifest.splits:
        chosen = [(at, row) for at, row in enumerate(manifest.rows) if row.split == split]
        rows = iter([chosen[n] for n in np.random.default_rng(0).permutation(len(chosen))])
        number = 0
        waiting = next(rows, None)
        while waiting is not None:
            name = f"{split or 'clips'}-{number:06d}.tar"
            if split_of(name) != split:
                raise UsageError(f"Split {split!r} can't be told by a shard's name; rename it.")
            clips: list[ShardClip] = []
            try:
                with (
                    atomic(folder / name) as file,
                    tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
                ):
                    while waiting is not None and tar.offset < shard_size:
                        at, row = waiting
                        try:
                            members = list(_members(row, f"{len(clips):06d}", manifest))
                        except VideoRWKVError as error:
                            unreadable[row.path] = str(error)
                        else:
                            clips.append(_add(tar, row, members)._replace(place=at))
                        done += 1
                        on_clip(done)
                        waiting = next(rows, None)
                size = os.path.getsize(folder / name)
            except OSError as error:
                raise DataError(
                    f"{folder / name}: can't be written ({error.strerror or error}). Free some "
                    "space or choose another folder; delete the shards that were written."
                ) from error
            place = str(folder / name)
            shards.append(Shard(place=place, size=size, split=split, clips=tuple(clips)))
            number += 1
    flips = None if manifest.flips is None else dict(manifest.flips)
    index = Index(tuple(shards), manifest.name, manifest.labels, flips)
    content = json.dumps(sealed(index_values(index)), separators=(",", ":")).encode()
    try:
        with atomic(folder / INDEX) as file:
            file.write(content)
    except OSError as error:
        raise DataError(
            f"{folder / INDEX}: can't be written ({error.strerror or error})."
        ) from error
    return Written(len(shards), sum(len(shard.clips) for shard in shards), unreadable)


def _size(row: Row) -> int:
    """Bytes that a clip takes; 0 of what can't be told."""
    if is_address(row.path):
        return 0
    try:
        if os.path.isdir(row.path):
            return sum(entry.stat().st_size for entry in os.scandir(row.path))
        return os.path.getsize(row.path)
    except OSError:
        return 0


def _members(row: Row, key: str, manifest: Manifest) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a clip's members; the picture last.

    Raises:
        DecodeError: it can't be read.
    """
    about = {"path": manifest.relative_path(row), "label": row.label, "group": row.group}
    known = {name: value for name, value in about.items() if value}
    yield f"{key}.json", json.dumps(known).encode()
    if row.label is not None:
        yield f"{key}.cls", str(manifest.label_index(row.label)).encode()
    try:
        if not is_address(row.path) and os.path.isdir(row.path):
            for file in FolderVideo(Path(row.path), row.path).files:
                # A dot of its own would end the key.
                yield f"{key}.{_plain(file.name)}", Path(file).read_bytes()
            return
        suffix = os.path.splitext(row.path)[1].lower()
        content = read_address(row.path) if is_address(row.path) else Path(row.path).read_bytes()
    except OSError as error:
        raise DecodeError(f"{row.path}: can't be read ({error.strerror or error}).") from error
    # FFmpeg knows what it is by its content; the name only has to be that of a clip.
    yield f"{key}{suffix if suffix in VIDEO_SUFFIXES | IMAGE_SUFFIXES else '.mp4'}", content


def _plain(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem.replace(".", "_").replace("/", "_") + suffix.lower()


def _add(tar: tarfile.TarFile, row: Row, members: Sequence[tuple[str, bytes]]) -> ShardClip:
    start = tar.offset
    for name, content in members:
        # Neither time nor owner: the same clips give the same bytes.
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    group = next(group_members(name for name, _ in members))
    return ShardClip(group.name, row.label, row.group, start, tar.offset)
