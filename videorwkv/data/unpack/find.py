"""What lies in a folder of downloads: lists, zips, tars, split tars, zips of their parts.

Files are recognised by what is in them; the name tells the parts of a split tar apart. A file that
is not understood is left alone, and named.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from videorwkv.data.unpack.pieces import BROKEN, LONGEST_TEXT, Piece, starts_tar
from videorwkv.errors import UsageError
from videorwkv.utils.files import decimal, is_junk
from videorwkv.utils.values import open_regular
from videorwkv.video.base import IMAGE_SUFFIXES, VIDEO_SUFFIXES

# Deep enough for kinetics/k400/train/part_0.tar.gz; the clips of an unpacked set lie no deeper.
DEPTH = 4
KINDS = ("list", "zip", "tar")
AGAIN = "Download it, then run the same command again: what is complete stays."
# 20bn-jester-v1-05, 20bn-jester-v1-05.zip, k400.tar.gz.003, 20bn-jester-v1-05 (1).zip
_PART = re.compile(r"(?P<stem>.+?)[-._](?P<number>\d{2,3})(?: ?\(\d+\))?(?:\.zip)?")
# As md5sum writes them, on Linux and on BSD.
_MD5 = re.compile(r"(?P<sum>[0-9a-fA-F]{32})(?:[ \t]+\*?(?P<name>\S.*))?")
_MD5_BSD = re.compile(r"MD5 ?\((?P<name>.+)\) ?= ?(?P<sum>[0-9a-fA-F]{32})")
# Split archives that may lack their first part and are still known for what they are.
_KNOWN = re.compile(r"20bn-?(jester|something)", re.IGNORECASE)
_CLIPS = VIDEO_SUFFIXES | IMAGE_SUFFIXES
_LISTS = (".csv", ".json", ".txt")
_BESIDE = (*_LISTS, ".pdf", ".md", ".html")
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_DOWNLOADING = (".crdownload", ".part", ".partial", ".download", ".aria2", ".tmp")


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Something to unpack; a list that came by itself is copied."""

    kind: str  # one of KINDS
    name: str
    folder: str  # below the target
    pieces: tuple[Piece, ...]  # in order, up to the first gap; one, unless it is a split tar
    gap: str = ""  # why they end before the last one known

    @property
    def place(self) -> str:
        """Stays when further parts of it arrive."""
        return f"{self.folder}/{self.name}".lstrip("/")

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)

    @property
    def identity(self) -> str:
        """Changes when one of its files does."""
        times = [piece.file.stat().st_mtime_ns for piece in self.pieces]
        known = repr((self.place, [(p.file.name, p.member, p.size) for p in self.pieces], times))
        return hashlib.sha256(known.encode("utf-8", "surrogateescape")).hexdigest()[:24]

    def __str__(self) -> str:
        first, last = self.pieces[0].number, self.pieces[-1].number
        kind = self.kind if first < 0 else f"split tar, parts {first:02d} to {last:02d}"
        n_sums = sum(bool(piece.md5) for piece in self.pieces)
        sums = f", md5 of {n_sums} known" if n_sums else ""
        return f"{self.name}: {kind}, {decimal(self.size)}{sums}"


class Findings:
    """`archives` to unpack; `problems`, what is missing or broken; what is `left` alone, and why.

    `UsageError` if there is no such source; `target` is not looked into where it lies in one.
    """

    def __init__(self, sources: Sequence[Path], target: Path) -> None:
        self.archives: list[Archive] = []
        self.problems: list[str] = []
        self.left: list[str] = []
        self._sums: dict[str, str] = {}
        self._pieces: list[Piece] = []
        clips: Counter[Path] = Counter()
        for source in sources:
            if not source.exists():
                raise UsageError(f"{source}: no such file or folder.")
        for file, folder in dict.fromkeys(p for s in sources for p in _walk(s, target.absolute())):
            if file.suffix.lower() in _CLIPS:
                clips[file.parent] += 1
                continue
            try:
                size = file.stat().st_size
                self._look(Piece(name=file.name, file=file, folder=folder, size=size))
            except BROKEN as error:
                self.problems.append(f"{file}: can't be read ({error}).")
        self._sort_pieces()
        for place, count in clips.items():
            self.left.append(f"{place}: {count} pictures or videos that lie open already")
        # A zip of several numbered files was found several times.
        found = dict.fromkeys(self.archives)
        self.archives = sorted(found, key=lambda a: (KINDS.index(a.kind), a.folder, a.name))

    def _look(self, piece: Piece) -> None:
        file = piece.file
        with open_regular(file) as opened:
            start = opened.read(4)
        if file.name.lower().endswith(_DOWNLOADING) or Path(f"{file}.aria2").exists():
            self.left.append(f"{file}: still downloading")
        elif sums := _sums_in(piece, piece.name):
            self._sums |= sums
        elif file.name.lower().endswith(_LISTS):
            self._add("list", piece)
        elif zipfile.is_zipfile(file):
            self._look_into_zip(piece)
        elif start == b"PK\x03\x04":
            # The list of what is in a zip stands at its end.
            cut = f"a zip of {piece.size:,} bytes without its end: it is cut off, or still"
            self.problems.append(f"{file}: {cut} downloading. {AGAIN}")
        else:
            self._pieces.append(piece)

    def _look_into_zip(self, piece: Piece) -> None:
        with zipfile.ZipFile(piece.file) as archive:
            members = [m for m in archive.infolist() if not m.is_dir() and not is_junk(m.filename)]
        parts: list[Piece] = []
        others: list[Piece] = []
        for member in members:
            name = PurePosixPath(member.filename).name
            inner = replace(piece, name=name, member=member.filename, size=member.file_size)
            is_tar = _PART.fullmatch(name) or name.lower().endswith(_TARS)
            (parts if is_tar else others).append(inner)
        stray = [p for p in others if "md5" not in p.member.lower()]
        if not parts or not all(p.name.lower().endswith(_BESIDE) for p in stray):
            self._add("zip", piece)
            return
        for other in others:
            self._sums |= _sums_in(other, parts[0].name if len(parts) == 1 else other.name)
        self._pieces += parts

    def _add(self, kind: str, piece: Piece) -> None:
        archive = Archive(kind=kind, name=piece.name, folder=piece.folder, pieces=(piece,))
        self.archives.append(archive)

    def _sort_pieces(self) -> None:
        """Whole tars apart, and parts together, now that all sums are known."""
        split: dict[str, dict[int, Piece]] = {}
        # The largest of several copies of a part counts: a smaller one is cut off.
        for piece in sorted(self._pieces, key=lambda p: (-p.size, p.member, p.where)):
            piece = replace(piece, md5=self._sums.get(piece.name, ""))
            match = _PART.fullmatch(piece.name)
            if match is None:
                self._add_alone(piece)
                continue
            piece = replace(piece, number=int(match["number"]))
            other = split.setdefault(match["stem"], {}).setdefault(piece.number, piece)
            if other is not piece:
                self.left.append(f"{piece.where}: another copy of {other.where}")
        for stem, parts in split.items():
            starts = [number for number, part in parts.items() if starts_tar(part)]
            is_known = _KNOWN.match(stem) or any(part.md5 for part in parts.values())
            if len(starts) == 1 or (not starts and is_known):
                self._join(stem, parts, starts)
            else:
                for part in parts.values():
                    self._add_alone(part)

    def _add_alone(self, piece: Piece) -> None:
        piece = replace(piece, number=-1)
        if piece.name.lower().endswith(_TARS) or starts_tar(piece):
            self._add("tar", piece)
        elif piece.member:
            size = piece.file.stat().st_size
            self._add("zip", replace(piece, name=piece.file.name, member="", size=size))
        else:
            self.left.append(f"{piece.file}: not an archive that is known here")

    def _join(self, stem: str, parts: dict[int, Piece], starts: list[int]) -> None:
        matches = (_PART.fullmatch(name) for name in self._sums)
        listed = [int(m["number"]) for m in matches if m is not None and m["stem"] == stem]
        full = max(part.size for part in parts.values())
        pieces: list[Piece] = []
        gap = ""
        for number in range(min(parts) if min(parts) in starts else 0, max(*parts, *listed, 0) + 1):
            name, part = f"{stem}-{number:02d}", parts.get(number)
            if part is None:
                md5 = self._sums.get(name)
                gap = f"part {name} is missing{f' (md5 {md5})' if md5 else ''}."
            elif not pieces and number not in starts:
                gap = f"part {name} ({part.where}) does not begin like a tar."
            else:
                pieces.append(part)
                # All but the last are equally long. What follows a cut must not be read as if it
                # were the next part; pictures hardly compress, so gzip might not notice.
                if part.size < full and not (part.md5 or part.member) and number < max(parts):
                    gap = (f"part {name} ({part.where}) has {part.size:,} bytes, others have "
                           f"{full:,}: it is cut off, or still downloading. If its size is right, "
                           f"put its md5 beside it, into {part.name}.md5.")  # fmt: skip
            if gap:
                break
        if after := sum(n > number for n in parts):
            waiting = "part" if after == 1 else f"{after} parts"
            gap += f" The {waiting} after it must wait."
        if pieces:
            folder = os.path.commonpath([f"/{part.folder}" for part in parts.values()]).strip("/")
            archive = Archive(kind="tar", name=stem, folder=folder, pieces=tuple(pieces), gap=gap)
            self.archives.append(archive)
        else:
            self.problems.append(f"{stem}: {gap} {AGAIN}")


def _walk(source: Path, target: Path) -> Iterator[tuple[Path, str]]:
    """Files, and the folder below the source that they lie in."""
    if not source.is_dir():
        yield source, ""
    for place, folders, names in os.walk(source):
        below = Path(place).relative_to(source)
        seen = [name for name in sorted(folders) if not name.startswith(".") and not is_junk(name)]
        is_deep = len(below.parts) >= DEPTH
        folders[:] = [n for n in seen if not is_deep and Path(place, n).absolute() != target]
        for name in sorted(names):
            if not name.startswith(".") and not is_junk(name):
                yield Path(place, name), "" if below == Path() else below.as_posix()


def _sums_in(piece: Piece, default: str) -> dict[str, str]:
    """File name -> MD5, if the piece is a list of them by its name; a sum without a name belongs to
    `default`, of which an ending that says md5 is taken off."""
    if "md5" not in piece.name.lower():
        return {}
    with piece.open() as file:
        lines = file.read(LONGEST_TEXT).decode("utf-8", "replace").split("\n")
    plain = re.sub(r"[-._]?md5(sums?)?(\.txt)?$", "", default, flags=re.IGNORECASE)
    matches = [_MD5.fullmatch(li.strip()) or _MD5_BSD.fullmatch(li.strip()) for li in lines]
    return {PurePosixPath(m["name"] or plain).name: m["sum"].lower() for m in matches if m}
