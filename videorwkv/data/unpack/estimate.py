"""How much room archives will take, before they are unpacked."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from videorwkv.data.unpack.find import Archive, LooseList, TarArchive, ZipArchive
from videorwkv.data.unpack.parts import BROKEN, Chain, tar_members
from videorwkv.data.unpack.write import Conflict, State, Target, UnsafeMemberError
from videorwkv.utils.disk import free_space, room_taken
from videorwkv.utils.files import decimal

# A tar tells what is in it only by being read; so much of its beginning is, of so many.
HEAD = 32 << 20
SAMPLED = 8


@dataclass(frozen=True)
class Needed:
    """Room that is still needed.

    Args:
        size: bytes on disk.
        files: how many files.
        tars: how many archives' sizes are estimates.
    """

    size: float
    files: float
    tars: int

    def describe(self, root: Path) -> str:
        """One sentence."""
        how = " (an estimate: a tar does not say beforehand what is in it)" if self.tars else ""
        free = decimal(free_space(root))
        return f"needed: {decimal(round(self.size))}{how}; free on the disk of {root}: {free}"


def estimate(archives: Sequence[Archive], root: Path, state: State) -> Needed:
    """What the archives will take, less what stands already."""
    target = Target(root)
    new = [
        room_taken(member_size)
        for archive in archives
        for name, member_size in _known_members(archive)
        if not _stands(target, archive.folder, name, member_size)
    ]
    size, files = float(sum(new)), float(len(new))
    tars = [archive for archive in archives if isinstance(archive, TarArchive)]
    step = max(1, len(tars) // SAMPLED)
    heads = [_head(archive) for archive in tars[::step]]
    read = sum(head.read for head in heads) or 1
    growth = sum(head.size for head in heads) / read or 1.0
    density = sum(head.files for head in heads) / read
    for archive in tars:
        left = max(0.0, growth * archive.size - state.begun(archive.place))
        size += left
        files += left / growth * density
    return Needed(size, files, len(tars))


@dataclass
class _Head:
    read: int = 0
    size: int = 0
    files: int = 0


def _head(archive: TarArchive) -> _Head:
    """The beginning of a tar: bytes read, bytes that its members take on disk, their number."""
    head = _Head()
    read = 0

    def count(size: int) -> None:
        nonlocal read
        read += size

    chain = Chain(archive.pieces, lambda piece: "", count)
    with suppress(*BROKEN):  # unpacking will say what is wrong
        for member, _ in tar_members(chain):
            if head.files and read > HEAD:
                break
            head.size += room_taken(member.size)
            head.files += member.isfile()
            head.read = read
        else:
            head.read = read
    chain.close()
    return head


def _known_members(archive: Archive) -> Iterator[tuple[str, int]]:
    """Name and size of each member, where they can be known without unpacking."""
    if isinstance(archive, LooseList):
        yield archive.name, archive.size
    elif isinstance(archive, ZipArchive):
        with zipfile.ZipFile(archive.file) as opened:
            for member in opened.infolist():
                if not member.is_dir():
                    yield member.filename, member.file_size


def _stands(target: Target, folder: str, name: str, size: int) -> bool:
    try:
        return target.stands(target.place(folder, name), size)
    except (Conflict, UnsafeMemberError):
        return True
