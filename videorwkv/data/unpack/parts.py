"""Parts of a split archive -> one stream -> the members of its tar; nothing is joined on disk.

The standard library reads zip, gzip, bzip2, xz and tar; here their streams are put together.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

CHUNK = 1 << 20
# What the readers of the standard library raise when their input is damaged or ends too early.
# gzip's own error is an OSError, and so is one of the disk: `Chain` keeps those apart.
BROKEN = (EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, OSError)
_OPENERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of an archive: a file, or a file inside a zip.

    Args:
        name: the publisher's, such as 20bn-jester-v1-05.
        file: where it lies.
        member: its name inside the zip `file`; empty if the file itself is the piece.
        size: bytes.
        number: in a split archive; -1 in any other.
        md5: as the publisher gives it, hexadecimal; empty if unknown.
    """

    name: str
    file: Path
    member: str = ""
    size: int
    number: int = -1
    md5: str = ""

    @property
    def where(self) -> str:
        return f"{self.member} in {self.file}" if self.member else str(self.file)

    @property
    def can_be_checked(self) -> bool:
        """Whether there is a sum to check it against; a zip carries one for each member."""
        return bool(self.md5 or self.member)

    @property
    def identity(self) -> str:
        """Changes when the file does."""
        time_ns = self.file.stat().st_mtime_ns
        return digest(self.file.name, self.member, str(self.size), str(time_ns))

    def open(self) -> IO[bytes]:
        if not self.member:
            return self.file.open("rb")
        with zipfile.ZipFile(self.file) as archive:
            # It holds the zip open for itself.
            return archive.open(self.member)

    def check(self, on_bytes: Callable[[int], None]) -> str:
        """Read all of it; what is wrong, with the sums expected and got, or nothing."""
        md5 = hashlib.md5(usedforsecurity=False)
        try:
            with self.open() as file:
                while chunk := file.read(CHUNK):
                    md5.update(chunk)
                    on_bytes(len(chunk))
        except BROKEN as error:
            return f"its zip can't be read to the end ({reason_of(error)})"
        if self.md5 and md5.hexdigest() != self.md5:
            return f"wrong md5: expected {self.md5}, got {md5.hexdigest()} ({self.size:,} bytes)"
        return ""


class Chain(io.RawIOBase):
    """Pieces as one stream of bytes, each checked before the first byte of it is given away.

    Args:
        pieces: in order.
        check: gives what is wrong with a piece, or nothing; the stream ends before a wrong one.
        on_bytes: called with the number of bytes given away.

    Attributes:
        at: the piece that was read last.
        offset: how far in it.
        wrong: what was wrong with the piece after `at`; empty if nothing was.
        failed: a piece could not be read: the disk's error.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        check: Callable[[Piece], str],
        on_bytes: Callable[[int], None],
    ) -> None:
        self._left = list(pieces)
        self._check = check
        self._on_bytes = on_bytes
        self._file: IO[bytes] | None = None
        self.at = pieces[0]
        self.offset = 0
        self.wrong = ""
        self.failed: OSError | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        try:
            while self._file is not None or self._advance():
                assert self._file is not None
                content = self._file.read(min(len(view), CHUNK))
                if content:
                    view[: len(content)] = content
                    self.offset += len(content)
                    self._on_bytes(len(content))
                    return len(content)
                self._file.close()
                self._file = None
        except OSError as error:
            self.failed = error
            raise
        return 0

    def _advance(self) -> bool:
        if not self._left or self.wrong:
            return False
        piece = self._left.pop(0)
        self.wrong = self._check(piece)
        if self.wrong:
            return False
        self._file, self.at, self.offset = piece.open(), piece, 0
        return True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        super().close()


class _Member(tarfile.TarInfo):
    """Takes the end mark alone for the end: `TarFile` stops at a damaged header in silence."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not any(buf):
                raise
            raise tarfile.ReadError(f"damaged header: {error}") from error


class _Whole:
    """A stream that may not end before its reader has seen the end mark: `TarFile` takes a tar that
    breaks off between two members for a whole one."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file: Any = file

    def read(self, size: int) -> bytes:
        # Not `read`, which would drop what came before a break of the compressed stream.
        content: bytes = self._file.read1(size)
        if not content:
            raise EOFError("it breaks off")
        return content


def tar_members(
    file: IO[bytes] | io.RawIOBase,
) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """The members of a tar, compressed or not, and their content; each has to be read in its turn.

    Nothing is sought and nothing is kept, so the tar may be of any size.

    Raises:
        BROKEN: one of these, where it is damaged or ends too early.
    """
    buffered = io.BufferedReader(cast(io.RawIOBase, file), CHUNK)
    try:
        stream = _decompressed(buffered)
        whole = cast(IO[bytes], _Whole(stream))
        with tarfile.open(fileobj=whole, mode="r|", tarinfo=_Member, encoding="utf-8") as tar:
            while (member := tar.next()) is not None:
                yield member, tar.extractfile(member) if member.isreg() else None
                # It remembers all members: gigabytes for the frames of Jester.
                tar.members.clear()  # type: ignore[attr-defined]
        # To the end: only there is the sum of gzip checked.
        while stream.read(CHUNK):
            pass
    finally:
        # `file` is the caller's; the buffer would close it.
        buffered.detach()


def _decompressed(buffered: io.BufferedReader[Any]) -> IO[bytes]:
    start = buffered.peek(6)
    for magic, open_compressed in _OPENERS.items():
        if start.startswith(magic):
            return cast(IO[bytes], open_compressed(buffered))
    return cast(IO[bytes], buffered)


def starts_tar(piece: Piece) -> bool:
    """Whether a tar, compressed or not, begins here."""
    try:
        with piece.open() as file:
            next(tar_members(file))
    except (*BROKEN, StopIteration):
        return False
    return True


def digest(*parts: str) -> str:
    """24 hexadecimal digits that stand for these texts."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def reason_of(error: BaseException) -> str:
    """Some of these errors carry no text."""
    return str(error) or type(error).__name__
