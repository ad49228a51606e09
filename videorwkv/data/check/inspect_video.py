"""One pass through a video file, noting all that goes wrong; and how long the file should be."""

from __future__ import annotations

import hashlib
import math
import statistics
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import av
import av.logging
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from videorwkv.video.decoding import Decoding
from videorwkv.video.to_image import ToImage, display_matrix

# A ruined file can make a decoder complain a million times.
MAX_COMPLAINTS = 100
# What these codecs write looks random: so many zeros are a part that was never written to disk.
# Some decoders make a picture even of that and say nothing.
HOLE = bytes(512)
DENSE_CODECS = frozenset(("h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mpeg4"))
# FFmpeg's own decoders of these make pictures of nearly anything. Google's notice most damage, and
# are as fast.
STRICT_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# Outermost boxes of ISO base media files (mp4, mov, 3gp): the first, and those that may follow.
_FIRST_BOXES = frozenset((b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"))
_BOXES = _FIRST_BOXES | {b"moof", b"mfra", b"sidx", b"ssix", b"uuid", b"meta", b"udta", b"prft"}
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


@dataclass(kw_only=True)
class Reading:
    """What a pass has brought to light.

    Args:
        pts: of the pictures, or of the packets where nothing was decoded.
        sizes: (width, height) of the pictures as stored, each once, in order of appearance.
        num_repaired: pictures in which the decoder covered a fault.
        num_holes: packets with a run of zeros that no encoder writes.
        num_refused: packets that a stricter decoder refuses.
        complaints: what FFmpeg reported as errors, the first hundred.
        matrix: the container's display transform [[a, b], [c, d]].
        frames_hash: of the decoded pictures; empty where nothing was decoded.

    The others are those of `Decoding`, after the pass. The rest follows from them; times are in
    seconds, and packets of one pts count as one frame.
    """

    pts: list[int]
    sizes: list[tuple[int, int]]
    num_repaired: int
    num_holes: int
    num_refused: int
    complaints: list[str]
    matrix: NDArray[np.int32] | None
    frames_hash: str
    codec_name: str
    tick: float
    duration: float | None
    pixel_aspect: Fraction
    num_announced: int
    num_expected: int
    num_packets: int
    failed_pts: list[int]
    num_guessed: int
    rate: float
    broken_off: str
    frames: int = field(init=False)
    steps: list[float] = field(init=False)
    step: float = field(init=False)

    def __post_init__(self) -> None:
        distinct = sorted(set(self.pts))
        self.frames = len(distinct)
        self.steps = [(b - a) * self.tick for a, b in pairwise(distinct)]
        self.step = statistics.median(self.steps) if self.steps else 0.0

    @property
    def seconds(self) -> float:
        """From the beginning of the first frame to the end of the last."""
        return sum(self.steps) + self.step

    @property
    def fps(self) -> float | None:
        return len(self.steps) / sum(self.steps) if self.steps else None

    @property
    def num_alike(self) -> int:
        """Pictures that have another's time."""
        return len(self.pts) - self.frames

    @property
    def total(self) -> int:
        """Frames that there should be, as far as known."""
        return max(self.frames, self.num_expected - self.num_alike)

    @property
    def num_lost(self) -> int:
        return self.total - self.frames

    @property
    def num_unread(self) -> int:
        """Frames that the header counts and the file lacks."""
        return self.num_expected - self.num_packets

    @property
    def num_lost_at_end(self) -> int:
        last = max(self.pts, default=-math.inf)
        return sum(pts > last for pts in self.failed_pts)

    @property
    def first_loss(self) -> float | None:
        """When the first frame that can't be decoded would be shown, if that is known."""
        if not self.pts or not self.failed_pts:
            return None
        return max(0.0, (min(self.failed_pts) - min(self.pts)) * self.tick)

    @property
    def shown_size(self) -> tuple[int, int]:
        """(width, height) of the first picture, turned as the file says."""
        if not self.sizes:
            return 0, 0
        width, height = self.sizes[0]
        return (height, width) if self.is_on_its_side else (width, height)

    @property
    def is_on_its_side(self) -> bool:
        return self.matrix is not None and bool(abs(self.matrix[0, 1]) > abs(self.matrix[0, 0]))


def read_pictures(path: Path) -> Reading:
    """Decode every picture; convert the first one of each kind to RGB.

    Raises:
        DecodeError: the file can't be opened, or its colours not be converted.
    """
    pts: list[int] = []
    sizes: dict[tuple[int, int], None] = {}
    matrix: NDArray[np.int32] | None = None
    num_repaired = 0
    fingerprint = _Fingerprint()
    kinds: set[tuple[object, ...]] = set()
    with _errors() as errors, _Watched(path, strict=True) as decoding:
        for when, picture in decoding.pictures_from_start():
            pts.append(when)
            sizes[picture.width, picture.height] = None
            num_repaired += picture.is_corrupt
            matrix = display_matrix(picture) if matrix is None else matrix
            # First, as the fingerprint may have to convert it, too.
            kind = (picture.format.name, picture.colorspace, picture.width, picture.height)
            if kind not in kinds:
                kinds.add(kind)
                ToImage(path.name)(picture)
            fingerprint.add(picture)
            del errors[MAX_COMPLAINTS:]
        return Reading(
            pts=pts,
            sizes=list(sizes),
            num_repaired=num_repaired,
            matrix=matrix,
            frames_hash=fingerprint.hexdigest() if pts else "",
            **_facts(decoding, errors),
        )


def read_packets(path: Path) -> Reading:
    """Read every packet, but decode and convert the first picture alone.

    Raises:
        DecodeError: the file can't be opened, or its colours not be converted.
    """
    with _errors(), _Watched(path) as decoding:
        _, first = next(decoding.pictures(), (0, None))
        sizes = [] if first is None else [(first.width, first.height)]
        matrix = None if first is None else display_matrix(first)
        if first is not None:
            ToImage(path.name)(first)
    with _errors() as errors, _Watched(path) as decoding:
        pts = [
            packet.pts
            for packet in decoding.packets()
            if packet.size and not packet.is_discard and packet.pts is not None
        ]
        return Reading(
            pts=pts if first is not None else [],
            sizes=sizes,
            num_repaired=0,
            matrix=matrix,
            frames_hash="",
            **_facts(decoding, errors),
        )


class _Watched(Decoding):
    """Looks at each packet on its way to the decoder.

    Args:
        path: a video file.
        strict: ask a stricter decoder, too, where there is one.
    """

    def __init__(self, path: Path, *, strict: bool = False) -> None:
        # Absolute, so that FFmpeg takes no part of the name for a protocol.
        super().__init__(str(path.absolute()), path.name)
        self.num_holes = 0
        self.num_refused = 0
        self._is_dense = self.codec_name in DENSE_CODECS
        self._second = None
        name = STRICT_DECODERS.get(self.codec_name)
        if strict and name in av.codecs_available:
            self._second = av.CodecContext.create(name, "r")
            self._second.thread_count = 1

    def __enter__(self) -> _Watched:
        return self

    def packets(self, *, keep: int = 0) -> Iterator[av.Packet]:
        for packet in super().packets(keep=keep):
            if self._is_dense and packet.size >= len(HOLE) and HOLE in bytes(packet):
                self.num_holes += 1
            if self._second is not None:
                try:
                    self._second.decode(packet)
                except av.FFmpegError:
                    self.num_refused += 1
            yield packet


def _facts(decoding: _Watched, errors: list[tuple[int, str, str]]) -> dict[str, Any]:
    # Not what it says of the sound.
    own = (decoding.container_name, decoding.codec_name)
    complaints = [text.strip() for _, part, text in errors if part.startswith(own)]
    if decoding.num_surplus:
        # What FFmpeg says of a placeholder when it looks into a file.
        complaints = [text for text in complaints if not text.lower().startswith("header ")]
    return {
        "complaints": complaints,
        "num_holes": decoding.num_holes,
        "num_refused": decoding.num_refused,
        "codec_name": decoding.codec_name,
        "tick": decoding.tick,
        "duration": decoding.duration,
        "pixel_aspect": decoding.pixel_aspect,
        "num_announced": decoding.num_announced,
        "num_expected": decoding.num_expected,
        "num_packets": decoding.num_packets,
        "failed_pts": decoding.failed_pts,
        "num_guessed": decoding.num_guessed,
        "rate": decoding.rate,
        "broken_off": decoding.broken_off,
    }


@contextmanager
def _errors() -> Iterator[list[tuple[int, str, str]]]:
    """What FFmpeg reports as errors meanwhile: (level, its part, text)."""
    level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    # Or the first error of a file is swallowed if the last of the one before was the same.
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture(local=False) as errors:
            yield errors
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skips)


class _Fingerprint:
    """Hash of pictures as the decoder gives them: exact, and cheaper than that of RGB images."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._reformatter = VideoReformatter()

    def add(self, picture: av.VideoFrame) -> None:
        sample_bytes = _sample_bytes(picture)
        if not sample_bytes:
            picture, sample_bytes = self._reformatter.reformat(picture, format="rgb24"), 3
        for plane in picture.planes:
            rows = np.frombuffer(plane, np.uint8)[: plane.height * plane.line_size]
            # What lies behind the end of a row is anything.
            rows = rows.reshape(plane.height, plane.line_size)[:, : plane.width * sample_bytes]
            # A CRC of each plane, all under one SHA-256: twice as fast, and as safe from chance.
            crc = zlib.crc32(np.ascontiguousarray(rows).data)
            self._digest.update(crc.to_bytes(4, "little"))
        self._digest.update(f"{picture.width}x{picture.height}".encode())

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def _sample_bytes(picture: av.VideoFrame) -> int:
    """Bytes of a sample where every plane holds one component; 0 for any other layout."""
    components, planes = picture.format.components, picture.planes
    if len(components) != len(planes) or any(plane.line_size <= 0 for plane in planes):
        return 0
    return (max(component.bits for component in components) + 7) // 8


def announced_size(file: IO[bytes], size: int) -> int | None:
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


def _boxes(file: IO[bytes], size: int) -> int | None:
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


def _riff(file: IO[bytes], size: int) -> int | None:
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
