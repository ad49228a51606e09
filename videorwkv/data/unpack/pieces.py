"""Parts of a split tar -> one stream -> its members; nothing is joined on disk."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

Opener: TypeAlias = Callable[[], IO[bytes]]
CHUNK = 1 << 18
# Of what is read whole: a list of sums; a long name or the attributes of a member, which may be
# read into each other, so many times at most.
LONGEST_TEXT = 1 << 20
LONGEST_HEADER, MOST_HEADERS = 1 << 16, 8
# What a decompressor of xz may take: what `xz -9` needs, twice. A file can ask for 4 GB.
LZMA_MEMORY = 128 << 20
# Ways of zips whose readers put no bound on what a chunk unpacks to are left out.
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class SourceError(Exception):
    """An `OSError` of an archive, which is not to be taken for one of the disk written to."""


# What the readers of the standard library raise when their input is damaged or ends too early.
BROKEN = (SourceError, EOFError, OSError, ValueError, RuntimeError, zlib.error, lzma.LZMAError,
          tarfile.TarError, zipfile.BadZipFile)  # fmt: skip
_TEXTS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
          tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Piece:
    """An archive or a part of one: a file, or the `member` of a zip."""

    name: str  # the publisher's, such as 20bn-jester-v1-05
    file: Path
    folder: str  # below the source
    member: str = ""
    size: int
    number: int = -1  # in a split tar
    md5: str = ""  # the publisher's, hexadecimal

    @property
    def where(self) -> str:
        return f"{self.member} in {self.file}" if self.member else str(self.file)

    def open(self) -> IO[bytes]:
        if not self.member:
            return self.file.open("rb")
        with zipfile.ZipFile(self.file) as archive:
            # It holds the zip open for itself.
            return open_member(archive, archive.getinfo(self.member))

    def check(self) -> str:
        """What is wrong with it by its sum, of which a zip carries one for each member."""
        md5 = hashlib.md5(usedforsecurity=False)
        try:
            with self.open() as file:
                while (self.md5 or self.member) and (chunk := file.read(CHUNK)):
                    md5.update(chunk)
        except BROKEN as error:
            return f"it can't be read to its end ({error!r})"
        if self.md5 in ("", md5.hexdigest()):
            return ""
        return f"wrong md5: expected {self.md5}, got {md5.hexdigest()} ({self.size:,} bytes)"


class Chain:
    """Pieces as one stream of bytes; `at` is the one read last, `offset` how far.

    Each is checked before any of it is given away; the stream ends before one that is `wrong`.
    """

    def __init__(self, pieces: Sequence[Piece], *, check: bool = True) -> None:
        self.at, self.offset, self.wrong = pieces[0], 0, ""
        self._files = self._open(pieces, check)
        self._file: IO[bytes] | None = io.BytesIO()

    def _open(self, pieces: Sequence[Piece], check: bool) -> Generator[IO[bytes], None, None]:
        for piece in pieces:
            self.at, self.offset = piece, 0
            self.wrong = piece.check() if check else ""
            if self.wrong:
                return
            with piece.open() as file:
                yield file

    def read(self, size: int) -> bytes:
        """`size` bytes or less; nothing at the end."""
        while self._file is not None:
            if content := self._file.read(size):
                self.offset += len(content)
                return content
            self._file = next(self._files, None)
        return b""

    read1 = read

    def close(self) -> None:
        self._files.close()


class _Whole:
    """A stream that may not end before its reader has seen the end mark: `TarFile` takes a tar that
    breaks off between two members for a whole one."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        # Not `read`, which would drop what came before a break of the compressed stream.
        content: bytes = self._file.read1(size)
        if not content:
            raise EOFError("it breaks off")
        return content


class _Header(tarfile.TarInfo):
    """Refuses those at which `TarFile` would stop in silence, or fill the memory.

    A tar has a subclass of its own, which remembers whether the tar's end mark `has_ended` it.

    Attributes:
        has_ended: whether the end mark was met.
        in_a_row: headers so far that belong to the next member.
        n_global: bytes of those that belong to all members.
        is_hollow: a sparse file.
    """

    has_ended = is_hollow = False
    in_a_row = n_global = 0

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        return cls._checked(super().frombuf, buf, encoding, errors)

    @classmethod
    def _frombuf(
        cls, buf: bytes | bytearray, encoding: str, errors: str, **options: bool
    ) -> _Header:
        # What `TarFile` calls since the security releases of 2025, in place of `frombuf`.
        newer = super()._frombuf  # type: ignore[misc]
        return cls._checked(partial(newer, **options), buf, encoding, errors)

    @classmethod
    def _checked(
        cls,
        parse: Callable[[bytes | bytearray, str, str], _Header],
        buf: bytes | bytearray,
        encoding: str,
        errors: str,
    ) -> _Header:
        try:
            member = parse(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not any(buf):
                cls.has_ended = True
                raise  # the end mark
            raise tarfile.ReadError(f"damaged header: {error}") from error
        is_text = member.type in _TEXTS
        cls.in_a_row = cls.in_a_row + 1 if is_text else 0
        cls.n_global += member.size if member.type == tarfile.XGLTYPE else 0
        if member.size < 0 or (is_text and member.size > LONGEST_HEADER):
            raise tarfile.ReadError(f"damaged header: {member.size:,} bytes long")
        if cls.in_a_row > MOST_HEADERS or cls.n_global > LONGEST_TEXT:
            raise tarfile.ReadError("damaged header: more attributes than any member has")
        return member

    # Of sparse files, `TarFile` would read a map of any length into memory, and give zeros without
    # an end for what is not in the archive. They are passed over, at the size that they have there.

    def _proc_sparse(self, tar: Any) -> Any:
        (*_, is_extended, _) = self._sparse_structs  # type: ignore[attr-defined]
        del self._sparse_structs  # type: ignore[attr-defined]
        while is_extended:
            block = tar.fileobj.read(tarfile.BLOCKSIZE)
            is_extended = bool(block[504])
        self.offset_data = tar.fileobj.tell()
        tar.offset = self.offset_data + -(-self.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        self.is_hollow = True
        return self

    def _proc_gnusparse_00(self, member: Any, *_: Any) -> None:
        member.is_hollow = True

    _proc_gnusparse_01 = _proc_gnusparse_10 = _proc_gnusparse_00


class _Unxz:
    """A stream of xz or lzma, unpacked within `LZMA_MEMORY`; `lzma.open` knows no bound."""

    def __init__(self, file: Any) -> None:
        self._file, self._left = file, b""
        self._new = partial(lzma.LZMADecompressor, memlimit=LZMA_MEMORY)
        self._unpacking = self._new()

    def read1(self, size: int) -> bytes:
        while True:
            if self._unpacking.eof:
                # Several streams may follow each other, with zeros between them.
                self._left = (self._unpacking.unused_data or self._file.read(CHUNK)).lstrip(b"\0")
                if not self._left:
                    return b""
                self._unpacking = self._new()
            elif self._unpacking.needs_input:
                self._left = self._left or self._file.read(CHUNK)
                if not self._left:
                    raise EOFError("Compressed file ended before the end-of-stream marker")
            content = self._unpacking.decompress(self._left, size)
            self._left = b""
            if content:
                return content

    read = read1


_OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": _Unxz}


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    """A member of a zip, open for reading; `ValueError` where its memory could not be bounded."""
    if info.compress_type not in _BOUNDED:
        raise ValueError(f"way of compression {info.compress_type} of zips is not read")
    return archive.open(info)


def _decompressed(chain: Chain) -> Any:
    with chain.at.open() as file:
        start = file.read(6)
    for magic, opener in _OPENERS.items():
        if start.startswith(magic):
            return opener(chain)
    return chain


def tar_members(chain: Chain) -> Iterator[tuple[tarfile.TarInfo, Opener | None]]:
    """The members of a tar, compressed or not, and what opens them if they are files; in turn.

    Nothing is sought or kept, so the tar may be of any size. Raises one of `BROKEN`.
    """
    stream = _decompressed(chain)
    whole = cast(IO[bytes], _Whole(stream))
    header: type[_Header] = type("Header", (_Header,), {})
    with tarfile.open(fileobj=whole, mode="r|", tarinfo=header, encoding="utf-8") as tar:
        found = False
        while (member := tar.next()) is not None:
            found = True
            opener = cast(Opener, partial(tar.extractfile, member))
            yield member, opener if member.isreg() else None
            # It remembers all members: gigabytes for the frames of Jester.
            tar.members.clear()  # type: ignore[attr-defined]
    if not (found and header.has_ended):  # newer versions of Python stop there in silence
        raise tarfile.ReadError("damaged header")
    # To the end: only there is the sum of gzip checked.
    while stream.read(CHUNK):
        pass


def starts_tar(piece: Piece) -> bool:
    """Whether a tar, compressed or not, begins here."""
    try:
        with closing(Chain([piece], check=False)) as chain:
            block = _decompressed(chain).read(tarfile.BLOCKSIZE)
            # What a damaged header announces is told when it is unpacked.
            tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except BROKEN:
        return False
    return True
