"""Downloads -> a folder of clips and lists, in any state of completion, as often as one likes.

Nothing in the downloads is changed. A file appears under its name when it is complete.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, NoReturn, cast

from videorwkv.data.unpack.find import AGAIN, Archive, Findings
from videorwkv.data.unpack.pieces import BROKEN, Chain, Opener, open_member, tar_members
from videorwkv.data.unpack.write import (
    MemberNameError,
    State,
    UnsafeMemberError,
    only_one,
    place,
    size_there,
    write_file,
)
from videorwkv.errors import UsageError
from videorwkv.utils.files import decimal, free_space, is_junk, require_room, room_taken
from videorwkv.utils.progress import Meter
from videorwkv.utils.words import counted
from videorwkv.video.base import IMAGE_SUFFIXES, VIDEO_SUFFIXES

# So many lines about files that are left alone.
SHOWN = 10
# Seconds between two notes of how far an archive is.
SAVE_EVERY = 10.0
# A tar tells what is in it only by being read; so many bytes of its beginning are.
HEAD = 4 << 20
# Clips hardly compress: what unpacks to more than so many times its size is no download of them.
# Small ones may hold a list.
MOST_GROWTH, GROWTH_ALLOWED, HEADER_BYTES = 100, 64 << 20, 512


@dataclass(frozen=True)
class Unpacked:
    """What `unpack` did."""

    n_written: int  # files, now
    n_stood: int  # files that stood already, in the archives that were read
    n_clips: int  # in all archives, those of earlier runs included
    archives: tuple[str, ...]  # names, with their folders
    problems: tuple[str, ...]  # what is missing or broken; empty if everything is unpacked

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
    found = Findings([Path(source) for source in sources], root)
    left = [f"left alone: {line}" for line in found.left[:SHOWN]]
    if len(found.left) > SHOWN:
        left.append(f"left alone: {len(found.left) - SHOWN} more files")
    if not found.archives and not found.problems:
        raise UsageError(
            f"{', '.join(map(str, sources))}: nothing to unpack. Known are split tars "
            "(20bn-jester-v1-00, ...), zips of their parts, .zip, .tar, .tar.gz, and lists (.csv, "
            f".json, .txt). {' '.join(left)}"
        )
    state = State(root)
    n_clips = 0
    todo: list[Archive] = []
    for archive in found.archives:
        done = state.done.get(archive.identity)
        is_done = done is not None and all((root / name).exists() for name in done["ends"])
        say(f"found {archive}{'; done before' if is_done else ''}")
        if done is not None and is_done:
            n_clips += done["clips"]
        else:
            todo.append(archive)
    for line in left:
        say(line)
    if todo:
        needed = sum(_needed(archive, root, state) for archive in todo)
        free = decimal(free_space(root))
        say(f"needed: {decimal(needed)}, an estimate; free on the disk of {root}: {free}")
        require_room(root, needed, "Unpacking")
    problems = list(found.problems)
    with only_one(root), Meter("unpacking", sum(a.size for a in todo), "bytes") as meter:
        job = _Job(root, state, meter)
        for archive in todo:
            if problem := job.unpack(archive):
                problems.append(f"{archive.name}: {problem}")
    names = tuple(archive.place for archive in found.archives)
    return Unpacked(job.n_written, job.n_stood, n_clips + job.n_clips, names, tuple(problems))


def _needed(archive: Archive, root: Path, state: State) -> int:
    """Bytes on disk that an archive still takes; of a tar, an estimate."""
    taken = size = 1
    chain = Chain(archive.pieces, check=False)
    with suppress(UnsafeMemberError, *BROKEN), closing(chain):  # unpacking will say what is wrong
        if archive.kind != "tar":
            members = _members(archive, root, chain)
            return sum(room_taken(size) for path, size, _ in members if _is_absent(path))
        for member, _ in tar_members(chain):
            taken, size = taken + room_taken(member.size), size + member.size
            if size > HEAD:
                break
    # Clips hardly compress, but files take whole blocks: frames may take twice their size.
    return max(0, archive.size * taken // size - state.begun.get(archive.place, 0))


def _is_absent(path: Path) -> bool:
    try:
        return size_there(path) is None
    except MemberNameError:
        return False


def _members(archive: Archive, root: Path, chain: Chain) -> Iterator[tuple[Path, int, Opener]]:
    """The place of each file, its size and what opens it; those of a tar in their turn. Raises one
    of `BROKEN`, or `UnsafeMemberError`: of a zip that holds such a member, none is given."""
    folder, piece = root / archive.folder, archive.pieces[0]
    if archive.kind == "list":
        yield folder / archive.name, archive.size, piece.open
    elif archive.kind == "zip":
        with zipfile.ZipFile(piece.file) as opened:
            infos = [m for m in opened.infolist() if not (m.is_dir() or is_junk(m.filename))]
            are_files = [not stat.S_ISLNK(info.external_attr >> 16) for info in infos]
            paths = [place(folder, m.filename, ok) for m, ok in zip(infos, are_files, strict=True)]
            for path, info in zip(paths, infos, strict=True):
                yield path, info.file_size, partial(open_member, opened, info)
    else:
        for member, opener in tar_members(chain):
            if not (member.isdir() or is_junk(member.name)):
                path = place(folder, member.name, opener is not None)
                if member.is_hollow:  # type: ignore[attr-defined]
                    yield path, 0, partial(_refuse_sparse, path)
                else:
                    yield path, member.size, cast(Opener, opener)


def _refuse_sparse(path: Path) -> NoReturn:
    raise MemberNameError(f"{path} (sparse, which no clip is)")


class _Job:
    def __init__(self, root: Path, state: State, meter: Meter) -> None:
        self._root, self._state, self._meter = root, state, meter
        self.n_written = self.n_stood = self.n_clips = self._n_bytes = 0

    def unpack(self, archive: Archive) -> str:
        """Unpack one archive; the problem, if there is one."""
        n_clips, taken = self.n_clips, 0
        begun = self._state.begun
        ends: list[Path] = []
        damaged: list[str] = []
        self._conflicts: list[str] = []
        self._frame_folders: set[Path] = set()
        misnamed: list[str] = []
        n_bytes, most = 0, MOST_GROWTH * archive.size + GROWTH_ALLOWED
        chain = Chain(archive.pieces)
        try:
            for path, size, opener in _members(archive, self._root, chain):
                n_bytes += HEADER_BYTES + size
                if n_bytes > most:
                    return (
                        f"it unpacks to more than {decimal(most)}, {MOST_GROWTH} times its size "
                        "and more: no clips do. The rest was not unpacked."
                    )
                try:
                    with opener() as content:
                        self._keep(path, size, content)
                except MemberNameError as error:
                    misnamed.append(str(error))
                    continue
                except BROKEN as error:
                    if archive.kind == "tar":
                        raise
                    damaged.append(f"{path.name!r} ({error!r})")
                ends[1:] = [path]  # the first and the last
                taken += room_taken(size)
                begun[archive.place] = max(taken, begun.get(archive.place, 0))
                self._state.save(every=SAVE_EVERY)
            if damaged:
                return f"{len(damaged)} members can't be read, such as {damaged[0]}. {AGAIN}"
            if misnamed:
                return (
                    f"{counted(len(misnamed), 'member')} not unpacked: a name that this disk can't "
                    "hold, something else where it should be, or a sparse file, such as "
                    f"{misnamed[0][:500]}. All others were unpacked."
                )
            if self._conflicts:
                return (
                    f"{len(self._conflicts)} files stand there with another size and were left as "
                    f"they are, such as {self._conflicts[0]}. Delete them if the archive's are "
                    "wanted, then run the same command again."
                )
            known = {"clips": self.n_clips - n_clips,
                     "ends": [end.relative_to(self._root).as_posix() for end in ends]}  # fmt: skip
            self._state.done[archive.identity] = known
            begun.pop(archive.place, None)
            return ""
        except UnsafeMemberError as error:
            return f"{error} Nothing that follows in this archive was unpacked."
        except BROKEN as error:
            return f"{_why(archive, chain, error)} {AGAIN}"
        finally:
            chain.close()
            self._state.save()

    def _keep(self, path: Path, size: int, content: IO[bytes]) -> None:
        """One member: written, unless it stands already."""
        there = size_there(path)
        if there is None:
            write_file(path, size, content)
            self.n_written += 1
        elif there == size:
            self.n_stood += 1
        else:
            self._conflicts.append(f"{path} has {there:,} bytes, the archive's {size:,}")
        if path.suffix.lower() in VIDEO_SUFFIXES:
            self.n_clips += 1
        elif path.suffix.lower() in IMAGE_SUFFIXES and path.parent not in self._frame_folders:
            # A folder of frames is a clip.
            self._frame_folders.add(path.parent)
            self.n_clips += 1
        self._n_bytes += size
        self._meter.update(self._n_bytes, f"{self.n_clips:,} clips")


def _why(archive: Archive, chain: Chain, error: BaseException) -> str:
    """Why an archive could not be read to its end."""
    *others, last = archive.pieces
    if chain.wrong:
        return f"part {chain.at.name} ({chain.at.where}): {chain.wrong}. Nothing of it was used."
    if not isinstance(error, EOFError):
        where = f"byte {chain.offset:,} of {chain.at.where}"
        return f"damaged, in or shortly before {where} ({error!r})."
    if archive.gap:
        return archive.gap
    cut = f"{last.where} is cut off, or still downloading: it ends after {last.size:,} bytes"
    if last.number < 0:
        return f"{cut}, before the end of its tar."
    missing = f"part {archive.name}-{last.number + 1:02d} is missing: the tar goes on."
    full = max((piece.size for piece in others), default=0)
    if last.md5 or last.member or last.size == full:
        return missing
    return f"{cut}, others have {full:,}." if others else f"{cut}; or {missing}"
