"""How long a video file should be by its own outermost structure; a cut download falls short."""

from __future__ import annotations

from typing import BinaryIO

# Outermost boxes of ISO base media files (mp4, mov, 3gp): the first, and those that may follow.
_FIRST_BOXES = frozenset((b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"))
_BOXES = _FIRST_BOXES | {b"moof", b"mfra", b"sidx", b"ssix", b"uuid", b"meta", b"udta", b"prft"}
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def announced_size(file: BinaryIO, size: int) -> int | None:
    """Bytes that the file should have; None if its format doesn't say.

    Read are the boxes of mp4 and its kin (ISO/IEC 14496-12), the RIFF chunks of avi and the segment
    of Matroska and WebM (RFC 9559), the outermost level only. A file may be longer: others append
    to it.

    Args:
        file: open for reading bytes, at any place.
        size: bytes that it has.
    """
    file.seek(0)
    start = file.read(64)
    if start[4:8] in _FIRST_BOXES:
        return _boxes(file, size)
    if start[:4] == b"RIFF":
        return _riff(file, size)
    if start[:4] == _EBML:
        return _segment(start)
    return None


def _boxes(file: BinaryIO, size: int) -> int | None:
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(16)
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if len(head) >= 8 and name not in _BOXES:
            return at  # something else was appended
        if length == 0:
            return None  # to the end of the file
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        at += max(8, length)
    return at


def _riff(file: BinaryIO, size: int) -> int | None:
    """Files above 1 GB are several RIFF chunks in a row."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(8)
        if head[:4] != b"RIFF":
            return at
        length = int.from_bytes(head[4:8], "little")
        if length in (0, 2**32 - 1):
            return None  # the recorder never came to write it
        at += 8 + length
        # Padding to even lengths is not announced.
        at += at % 2 if at < size else 0
    return at


def _segment(start: bytes) -> int | None:
    header = _number(start, 4)
    if header is None:
        return None
    at = header[1] + header[0]
    if start[at : at + 4] != _SEGMENT:
        return None
    segment = _number(start, at + 4)
    return None if segment is None else segment[1] + segment[0]


def _number(content: bytes, at: int) -> tuple[int, int] | None:
    """EBML's variable-size integer: its value and where it ends; None if unknown or cut off."""
    if at >= len(content) or content[at] == 0:
        return None
    length = 9 - content[at].bit_length()
    mask = (1 << 7 * length) - 1
    value = int.from_bytes(content[at : at + length], "big") & mask
    return None if value == mask or at + length > len(content) else (value, at + length)
