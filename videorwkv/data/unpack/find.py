"""What lies in a folder of downloads: split archives, zips of parts, whole archives, lists.

Files are recognised by what is in them; the name tells the parts of a split archive apart. A file
that is not understood is left alone, and named.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from videorwkv.data.unpack.parts import Piece, digest, starts_tar
from videorwkv.errors import UsageError
from videorwkv.video.base import IMAGE_SUFFIXES, VIDEO_SUFFIXES

# Deep enough for kinetics/k400/train/part_0.tar.gz; the clips of an unpacked set lie no deeper.
DEPTH = 4
# 20bn-jester-v1-05, 20bn-jester-v1-05.zip, k400.tar.gz.003, 20bn-jester-v1-05 (1).zip
_PART = re.compile(r"(?P<stem>.+?)[-._](?P<number>\d{2,3})(?: ?\(\d+\))?(?:\.zip)?")
_MD5 = re.compile(r"(?P<sum>[0-9a-fA-F]{32})(?:[ \t]+\*?(?P<name>\S.*))?")
_MD5_BSD = re.compile(r"MD5 ?\((?P<name>.+)\) ?= ?(?P<sum>[0-9a-fA-F]{32})")
# Split archives that may lack their first part and are still known for what they are.
_KNOWN = re.compile(r"20bn-?(jester|something)", re.IGNORECASE)
_LISTS = (".csv", ".json", ".txt")
_TEXTS = (*_LISTS, ".pdf", ".md", ".html")
_DOWNLOADING = (".crdownload", ".part", ".partial", ".download", ".aria2", ".tmp")
AGAIN = "Download it, then run the same command again: what is complete stays."
_JUNK = ("__MACOSX", ".DS_Store", "Thumbs.db")


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What all archives have.

    Args:
        name: for messages.
        folder: below the target, where it is unpacked.
    """

    name: str
    folder: str

    @property
    def place(self) -> str:
        """Stays when further parts of it arrive."""
        return f"{self.folder}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class TarArchive(_Found):
    """A tar, in one piece or in several.

    Args:
        pieces: what is there, in order, up to the first gap.
        gap: why the pieces end before the last one known; empty if they don't.
    """

    pieces: tuple[Piece, ...]
    gap: str = ""

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)

    @property
    def identity(self) -> str:
        """Changes when one of its files does."""
        return digest(self.folder, *(piece.identity for piece in self.pieces))


@dataclass(frozen=True, kw_only=True)
class _OneFile(_Found):
    file: Path

    @property
    def size(self) -> int:
        return self.file.stat().st_size

    @property
    def identity(self) -> str:
        """Changes when the file does."""
        return digest(self.folder, self.name, str(self.size), str(self.file.stat().st_mtime_ns))


class ZipArchive(_OneFile):
    """A zip with clips or lists in it."""


class LooseList(_OneFile):
    """A list (CSV, JSON, text) that came by itself; it is copied."""


Archive: TypeAlias = TarArchive | ZipArchive | LooseList


@dataclass
class Findings:
    """What was found.

    Args:
        archives: to unpack, lists first.
        problems: what is missing or broken, in whole sentences.
        left: what is left alone, and why.
    """

    archives: list[Archive] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def find_archives(sources: Sequence[Path], target: Path) -> Findings:
    """Look through files and folders; `target` itself is not looked into where it lies inside.

    Raises:
        UsageError: no such file or folder.
    """
    return _Search(target).run(sources)


class _Search:
    def __init__(self, target: Path) -> None:
        self.target = target.absolute()
        self.found = Findings()
        self.sums: dict[str, str] = {}
        # Candidates for the parts of split archives, by the stem of their names.
        self.parts: dict[str, list[tuple[Piece, str]]] = {}
        self.broken: dict[str, dict[int, Path]] = {}
        self.clips: Counter[str] = Counter()

    def run(self, sources: Sequence[Path]) -> Findings:
        for source in sources:
            if not source.exists():
                raise UsageError(f"{source}: no such file or folder.")
        files = list(dict.fromkeys(pair for source in sources for pair in self._walk(source)))
        downloading = {str(file)[: -len(".aria2")] for file, _ in files if file.suffix == ".aria2"}
        for file, folder in files:
            try:
                self._look(file, folder, is_downloading=str(file) in downloading)
            except (OSError, zipfile.BadZipFile) as error:
                self.found.problems.append(f"{file}: can't be read ({error}).")
        for stem in sorted({*self.parts, *self.broken}):
            self._join(stem)
        for folder, count in sorted(self.clips.items()):
            self.found.left.append(f"{folder}: {count} pictures or videos that lie open already")
        self.found.archives = [self._settled(archive) for archive in self.found.archives]
        order = {LooseList: 0, ZipArchive: 1, TarArchive: 2}
        self.found.archives.sort(key=lambda a: (order[type(a)], a.folder, _natural(a.name)))
        return self.found

    def _walk(self, source: Path) -> Iterator[tuple[Path, str]]:
        """Files, and the folder below the source that they lie in."""
        if not source.is_dir():
            yield source, ""
            return
        for place, folders, names in os.walk(source):
            below = Path(place).relative_to(source)
            folders[:] = sorted(
                name
                for name in folders
                if not name.startswith(".")
                and name not in _JUNK
                and len(below.parts) < DEPTH
                and Path(place, name).absolute() != self.target
            )
            for name in sorted(names):
                if not name.startswith(".") and name not in _JUNK:
                    yield Path(place, name), "" if below == Path() else below.as_posix()

    def _look(self, file: Path, folder: str, *, is_downloading: bool) -> None:
        suffix = file.suffix.lower()
        if suffix in VIDEO_SUFFIXES or suffix in IMAGE_SUFFIXES:
            self.clips[str(file.parent)] += 1
        elif suffix in _DOWNLOADING or is_downloading:
            self.found.left.append(f"{file}: still downloading")
        elif sums := _sums_in(file):
            self.sums.update(sums)
        elif suffix in _LISTS:
            self.found.archives.append(LooseList(name=file.name, folder=folder, file=file))
        elif zipfile.is_zipfile(file):
            self._look_into_zip(file, folder)
        else:
            self._look_into_other(file, folder)

    def _look_into_zip(self, file: Path, folder: str) -> None:
        with zipfile.ZipFile(file) as archive:
            members = [m for m in archive.infolist() if not m.is_dir() and not is_junk(m.filename)]
            if any(member.flag_bits & 1 for member in members):
                self.found.problems.append(f"{file}: it is encrypted; unzip it with its password.")
                return
            inner = [m for m in members if _is_part(m.filename) or _is_tar_name(m.filename)]
            among = {member.filename for member in inner}
            rest = [member for member in members if member.filename not in among]
            if not inner or not all(_may_lie_beside(member.filename) for member in rest):
                self.found.archives.append(ZipArchive(name=file.name, folder=folder, file=file))
                return
            names = [PurePosixPath(member.filename).name for member in inner]
            for member in rest:
                if "md5" in member.filename.lower():
                    text = archive.read(member).decode("utf-8", "replace")
                    default = names[0] if len(names) == 1 else PurePosixPath(member.filename).name
                    self.sums.update(_read_sums(text, default))
        for name, member in zip(names, inner, strict=True):
            piece = Piece(name=name, file=file, member=member.filename, size=member.file_size)
            self._add(piece, folder)

    def _look_into_other(self, file: Path, folder: str) -> None:
        with file.open("rb") as opened:
            is_zip = opened.read(4) == b"PK\x03\x04"
        match = _PART.fullmatch(file.name)
        if is_zip:
            # The list of what is in a zip stands at its end.
            if match is not None:
                self.broken.setdefault(match["stem"], {})[int(match["number"])] = file
            else:
                self.found.problems.append(f"{file}: {_cut_zip(file)} {AGAIN}")
            return
        piece = Piece(name=file.name, file=file, size=file.stat().st_size)
        if match is not None or _is_tar_name(file.name) or starts_tar(piece):
            self._add(piece, folder)
        else:
            self.found.left.append(f"{file}: not an archive that is known here")

    def _add(self, piece: Piece, folder: str) -> None:
        match = _PART.fullmatch(piece.name)
        if match is None:
            self._whole(piece, folder)
        else:
            piece = replace(piece, number=int(match["number"]))
            self.parts.setdefault(match["stem"], []).append((piece, folder))

    def _settled(self, archive: Archive) -> Archive:
        """With its sums, as all lists have been read now, and up to a part that is cut off."""
        if not isinstance(archive, TarArchive):
            return archive
        pieces = tuple(replace(p, md5=self.sums.get(p.name, "")) for p in archive.pieces)
        full = max(piece.size for piece in pieces)
        for count, piece in enumerate(pieces[:-1], start=1):
            # All parts but the last are equally long. What follows a cut must not be read as if it
            # were the next part; pictures hardly compress, so gzip might not notice.
            if piece.size < full and not piece.can_be_checked:
                waiting = _waiting(len(pieces) - count)
                gap = (
                    f"part {piece.name} ({piece.where}) has {piece.size:,} bytes, others have "
                    f"{full:,}: it is cut off, or still downloading. {waiting} If its size is "
                    f"right, put its md5 beside it, into {piece.name}.md5."
                )
                return replace(archive, pieces=pieces[:count], gap=gap)
        return replace(archive, pieces=pieces)

    def _whole(self, piece: Piece, folder: str) -> None:
        piece = replace(piece, number=-1)
        self.found.archives.append(TarArchive(name=piece.name, folder=folder, pieces=(piece,)))

    def _join(self, stem: str) -> None:
        """One split archive of the parts whose names begin alike."""
        by_number, folders = self._one_each(self.parts.get(stem, []))
        broken = {n: f for n, f in self.broken.get(stem, {}).items() if n not in by_number}
        starts = [n for n, piece in by_number.items() if starts_tar(piece)]
        known = bool(_KNOWN.match(stem)) or any(p.name in self.sums for p in by_number.values())
        if len(starts) > 1 or (not starts and not known):
            self._apart(by_number, starts, folders, broken)
            return
        first = min((*by_number, *broken))
        if first not in starts:
            first, starts = 0, []
        last = max((*by_number, *broken, *self._listed(stem)))
        pieces: list[Piece] = []
        gap = ""
        for number in range(first, last + 1):
            name = f"{stem}-{number:02d}"
            if number in by_number and (number != first or starts):
                pieces.append(by_number[number])
                continue
            if number in by_number:
                gap = f"part {name} ({by_number[number].where}) does not begin like a tar."
            elif number in broken:
                gap = f"part {name} ({broken[number]}): {_cut_zip(broken[number])}"
            else:
                expected = self.sums.get(name)
                gap = f"part {name} is missing{f' (md5 {expected})' if expected else ''}."
            if after := [n for n in by_number if n > number]:
                gap += f" {_waiting(len(after))}"
            break
        if gap and not pieces:
            self.found.problems.append(f"{stem}: {gap} {AGAIN}")
        if pieces:
            archive = TarArchive(
                name=stem, folder=_common(folders.values()), pieces=tuple(pieces), gap=gap
            )
            self.found.archives.append(archive)

    def _one_each(
        self, candidates: list[tuple[Piece, str]]
    ) -> tuple[dict[int, Piece], dict[int, str]]:
        """The largest of several copies of a part: a smaller one is cut off."""
        pieces: dict[int, Piece] = {}
        folders: dict[int, str] = {}
        ranked = sorted(candidates, key=lambda c: (-c[0].size, bool(c[0].member), c[0].where))
        for piece, folder in ranked:
            if piece.number in pieces:
                other = pieces[piece.number].where
                self.found.left.append(f"{piece.where}: another copy of {other}")
            else:
                pieces[piece.number], folders[piece.number] = piece, folder
        return dict(sorted(pieces.items())), folders

    def _apart(
        self,
        by_number: dict[int, Piece],
        starts: list[int],
        folders: dict[int, str],
        broken: dict[int, Path],
    ) -> None:
        """Files that are numbered but are no parts."""
        for number, piece in by_number.items():
            if number in starts:
                self._whole(piece, folders[number])
            elif piece.member:
                # Several of its members may be numbered.
                whole = ZipArchive(name=piece.file.name, folder=folders[number], file=piece.file)
                if whole not in self.found.archives:
                    self.found.archives.append(whole)
            else:
                self.found.left.append(f"{piece.file}: not an archive that is known here")
        for file in broken.values():
            self.found.problems.append(f"{file}: {_cut_zip(file)} {AGAIN}")

    def _listed(self, stem: str) -> list[int]:
        """Numbers of the parts that a list of sums names."""
        matches = (_PART.fullmatch(name) for name in self.sums)
        return [int(m["number"]) for m in matches if m is not None and m["stem"] == stem]


def is_junk(name: str) -> bool:
    """Whether a member is what macOS and Windows leave in archives."""
    return any(part in _JUNK or part.startswith("._") for part in name.split("/"))


def _is_part(name: str) -> bool:
    return _PART.fullmatch(name.rpartition("/")[2]) is not None


def _is_tar_name(name: str) -> bool:
    return name.lower().endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))


def _may_lie_beside(name: str) -> bool:
    """Whether a file may lie in a zip beside the parts that it was made for."""
    return name.lower().endswith(_TEXTS) or "md5" in name.lower()


def _sums_in(file: Path) -> dict[str, str]:
    if "md5" not in file.name.lower():
        return {}
    return _read_sums(file.read_text(encoding="utf-8", errors="replace"), file.name)


def _waiting(count: int) -> str:
    return f"The {count} parts after it must wait." if count > 1 else "The part after it must wait."


def _cut_zip(file: Path) -> str:
    size = file.stat().st_size
    return f"a zip of {size:,} bytes without its end: it is cut off, or still downloading."


def _read_sums(text: str, default: str) -> dict[str, str]:
    """File name -> MD5, as md5sum writes it; a sum without a name belongs to `default`, of which
    an ending that says md5 is taken off."""
    plain = re.sub(r"[-._]?md5(sums?)?(\.txt)?$", "", default, flags=re.IGNORECASE)
    sums = {}
    for line in text.splitlines():
        match = _MD5.fullmatch(line.strip()) or _MD5_BSD.fullmatch(line.strip())
        if match is not None:
            name = PurePosixPath(match["name"] or plain).name
            sums[name] = match["sum"].lower()
    return sums


def _common(folders: Iterable[str]) -> str:
    common = os.path.commonpath([f"/{folder}" for folder in folders])
    return common.strip("/")


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
