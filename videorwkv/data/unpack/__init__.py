"""Downloads -> a folder of clips and lists, in any state of completion, as often as one likes.

Nothing in the downloads is changed. A file appears under its name when it is complete.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from videorwkv.data.unpack.estimate import estimate
from videorwkv.data.unpack.find import (
    AGAIN,
    Archive,
    Findings,
    LooseList,
    TarArchive,
    ZipArchive,
    find_archives,
    is_junk,
)
from videorwkv.data.unpack.parts import BROKEN, Chain, Piece, digest, reason_of, tar_members
from videorwkv.data.unpack.write import Conflict, State, Target, UnsafeMemberError, only_one
from videorwkv.errors import UsageError
from videorwkv.utils.disk import require_files, require_room, room_taken
from videorwkv.utils.files import decimal
from videorwkv.utils.progress import Meter
from videorwkv.video.base import IMAGE_SUFFIXES, VIDEO_SUFFIXES

# So many lines about files that are left alone.
SHOWN = 10


@dataclass(frozen=True)
class Unpacked:
    """What `unpack` did.

    Args:
        n_written: files written now.
        n_stood: files that stood already, in the archives that were read.
        n_clips: clips in all archives, those of earlier runs included.
        archives: names of the archives, with their folders.
        problems: what is missing or broken; empty if everything is unpacked.
    """

    n_written: int
    n_stood: int
    n_clips: int
    archives: tuple[str, ...]
    problems: tuple[str, ...]

    def summary(self) -> str:
        """One line."""
        text = f"unpacked: {self.n_clips:,} clips; {self.n_written:,} files written"
        return f"{text}, {self.n_stood:,} stood already" if self.n_stood else text


def unpack(
    sources: Sequence[str | Path], root: str | Path, *, say: Callable[[str], None] = print
) -> Unpacked:
    """Unpack every archive in `sources` into `root`; what stands there is kept.

    Split tars, zips of their parts, tars, zips and lists are recognised; what lies in a folder
    below a source is unpacked into the same folder below `root`.

    Args:
        sources: folders and files.
        root: made if need be.
        say: told what was recognised, what it needs and what is left alone.

    Raises:
        UsageError: no such source, or nothing in it that is known.
        DataError: the disk can't hold it or can't be written to, or another process unpacks here.
    """
    root = Path(root)
    places = [Path(source) for source in sources]
    found = find_archives(places, root)
    if not found.archives and not found.problems:
        raise UsageError(
            f"{', '.join(map(str, places))}: nothing to unpack. Known are split tars "
            "(20bn-jester-v1-00, ...), zips of their parts, .zip, .tar, .tar.gz, and lists (.csv, "
            f".json, .txt). {' '.join(_left(found))}"
        )
    state = State(root)
    done = [archive for archive in found.archives if state.is_done(archive.identity)]
    todo = [archive for archive in found.archives if archive not in done]
    _announce(found, done, say)
    if todo:
        needed = estimate(todo, root, state)
        say(needed.describe(root))
        require_room(root, needed.size, "Unpacking")
        require_files(root, needed.files, "Unpacking")
    with only_one(root):
        job = _Job(root, state, todo)
        problems = [*found.problems, *job.run()]
    n_clips = job.n_clips + sum(state.clips(archive.identity) for archive in done)
    archives = tuple(archive.place.lstrip("/") for archive in found.archives)
    return Unpacked(job.n_written, job.n_stood, n_clips, archives, tuple(problems))


class _Job:
    def __init__(self, root: Path, state: State, todo: Sequence[Archive]) -> None:
        self.target = Target(root)
        self.state = state
        self.todo = todo
        self.n_written = self.n_stood = self.n_clips = 0
        self._read = 0
        unchecked = [
            piece.size
            for archive in todo
            if isinstance(archive, TarArchive)
            for piece in archive.pieces
            if piece.can_be_checked and not state.is_checked(_sum_key(piece))
        ]
        total = sum(archive.size for archive in todo) + sum(unchecked)
        self._meter = Meter("unpacking", total, "bytes")

    def run(self) -> list[str]:
        """Unpack all; the problems, in sentences. `DataError` where going on makes no sense."""
        problems: list[str] = []
        with self._meter:
            for archive in self.todo:
                task = _Task(archive)
                try:
                    problem = self._unpack(task) or task.conflict()
                except UnsafeMemberError as error:
                    problem = f"{error} Nothing that follows in this archive was unpacked."
                finally:
                    self.state.save()
                if problem:
                    problems.append(f"{archive.name}: {problem}")
                else:
                    self.state.done(
                        task.identity, archive.place, clips=task.n_clips, ends=task.ends
                    )
        return problems

    def _unpack(self, task: _Task) -> str:
        """Unpack one archive; the problem, if there is one."""
        if isinstance(task.archive, TarArchive):
            return self._unpack_tar(task.archive, task)
        if isinstance(task.archive, ZipArchive):
            return self._unpack_zip(task.archive, task)
        return self._copy(task.archive, task)

    def _copy(self, archive: LooseList, task: _Task) -> str:
        place = self.target.place(archive.folder, archive.name)
        try:
            with archive.file.open("rb") as content:
                self._keep(place, archive.size, content, task)
        except OSError as error:
            return f"{archive.file} can't be read ({error.strerror})."
        self._advance(archive.size)
        return ""

    def _unpack_zip(self, archive: ZipArchive, task: _Task) -> str:
        damaged: list[str] = []
        with zipfile.ZipFile(archive.file) as opened:
            members = [m for m in opened.infolist() if not m.is_dir() and not is_junk(m.filename)]
            for member in members:
                self.target.place(archive.folder, member.filename)
                if stat.S_ISLNK(member.external_attr >> 16):
                    raise UnsafeMemberError(f"member {member.filename!r} is a link; refused.")
            for member in members:
                place = self.target.place(archive.folder, member.filename)
                try:
                    with opened.open(member) as content:
                        self._keep(place, member.file_size, content, task)
                except (*BROKEN, NotImplementedError) as error:
                    damaged.append(f"{member.filename!r} ({reason_of(error)})")
                self._advance(member.compress_size)
        if damaged:
            return f"{len(damaged)} members can't be read, such as {damaged[0]}. {AGAIN}"
        return ""

    def _unpack_tar(self, archive: TarArchive, task: _Task) -> str:
        chain = Chain(archive.pieces, self._checker(archive), self._advance)
        try:
            for member, content in tar_members(chain):
                if member.isdir() or is_junk(member.name):
                    continue
                place = self.target.place(archive.folder, member.name)
                if content is None:
                    raise UnsafeMemberError(
                        f"member {member.name!r} is a link or a device; refused."
                    )
                self._keep(place, member.size, content, task)
        except BROKEN as error:
            if chain.failed is not None:
                return f"{chain.at.where} can't be read ({chain.failed.strerror})."
            return f"{_why(archive, chain, error)} {AGAIN}"
        finally:
            chain.close()
        return ""

    def _checker(self, archive: TarArchive) -> Callable[[Piece], str]:
        full = max(piece.size for piece in archive.pieces)

        def check(piece: Piece) -> str:
            key = _sum_key(piece)
            if not piece.can_be_checked or self.state.is_checked(key):
                return ""
            wrong = piece.check(self._advance)
            if not wrong:
                self.state.checked(key)
                return ""
            what = f"part {piece.name} ({piece.where})" if piece.number >= 0 else piece.where
            is_cut = piece.size < full and piece != archive.pieces[-1]
            hint = f" Others have {full:,}: it is cut off, or still downloading." if is_cut else ""
            return f"{what}: {wrong}.{hint} Nothing of it was used."

        return check

    def _keep(self, place: Path, size: int, content: IO[bytes], task: _Task) -> None:
        """One member: written, unless it stands already."""
        try:
            if self.target.stands(place, size):
                self.n_stood += 1
            else:
                self.target.write(place, size, content)
                self.n_written += 1
        except Conflict as conflict:
            task.conflicts.append(str(conflict))
        self.n_clips += task.count(place, size)
        self.state.reached(task.archive.place, task.size, place)

    def _advance(self, size: int) -> None:
        self._read += size
        self._meter.update(self._read, f"{self.n_clips:,} clips")


class _Task:
    """One archive while it is unpacked."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.identity = archive.identity
        self.conflicts: list[str] = []
        self.ends: list[Path] = []
        self.size = self.n_clips = 0
        self._frame_folders: set[Path] = set()

    def count(self, place: Path, size: int) -> int:
        """Take note of a file; 1 if it is a new clip, else 0."""
        self.ends = [*self.ends[:1], place]
        self.size += room_taken(size)
        suffix = place.suffix.lower()
        is_new = suffix in VIDEO_SUFFIXES
        if suffix in IMAGE_SUFFIXES and place.parent not in self._frame_folders:
            # A folder of frames is a clip.
            self._frame_folders.add(place.parent)
            is_new = True
        self.n_clips += is_new
        return int(is_new)

    def conflict(self) -> str:
        """What is said of files that stood with another size."""
        if not self.conflicts:
            return ""
        return (
            f"{len(self.conflicts)} files stand there with another size and were left as they are, "
            f"such as {self.conflicts[0]}. Delete them if the archive's are wanted, then run the "
            "same command again."
        )


def _why(archive: TarArchive, chain: Chain, error: BaseException) -> str:
    """Why an archive could not be read to its end."""
    if chain.wrong:
        return chain.wrong
    if not isinstance(error, EOFError):
        where = f"byte {chain.offset:,} of {chain.at.where}"
        return f"damaged, in or shortly before {where} ({reason_of(error)})."
    if archive.gap:
        return archive.gap
    *others, last = archive.pieces
    cut = f"{last.where} is cut off, or still downloading: it ends after {last.size:,} bytes"
    if last.number < 0:
        return f"{cut}, before the end of its tar."
    missing = f"part {archive.name}-{last.number + 1:02d} is missing: the tar goes on."
    full = max((piece.size for piece in others), default=0)
    if last.can_be_checked or (others and last.size >= full):
        return missing
    if others:
        return f"{cut}, others have {full:,}."
    return f"{cut}; or {missing}"


def _announce(found: Findings, done: Sequence[Archive], say: Callable[[str], None]) -> None:
    for archive in found.archives:
        say(f"{_describe(archive)}{'; done before' if archive in done else ''}")
    for line in _left(found):
        say(line)


def _describe(archive: Archive) -> str:
    if not isinstance(archive, TarArchive):
        kind = "zip" if isinstance(archive, ZipArchive) else "list"
        return f"found {archive.name}: {kind}, {decimal(archive.size)}"
    kind = "tar"
    if archive.pieces[0].number >= 0:
        kind = f"split tar, parts {archive.pieces[0].number:02d} to {archive.pieces[-1].number:02d}"
    with_sum = sum(bool(piece.md5) for piece in archive.pieces)
    sums = f", md5 of {with_sum} known" if with_sum else ""
    return f"found {archive.name}: {kind}, {decimal(archive.size)}{sums}"


def _left(found: Findings) -> list[str]:
    lines = [f"left alone: {line}" for line in found.left]
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], f"left alone: {more} more files"] if more > 0 else lines


def _sum_key(piece: Piece) -> str:
    return digest(piece.identity, piece.md5)
