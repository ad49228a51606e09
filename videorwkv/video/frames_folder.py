"""Folders of numbered frames: JPEG, PNG, BMP or WebP files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import DecodeError
from videorwkv.utils.files import natural_key
from videorwkv.utils.values import read_limited
from videorwkv.video.base import (
    IMAGE_SUFFIXES,
    MOST_PIXELS,
    Frame,
    Images,
    Transform,
    Video,
    incomplete,
    require_time,
)
from videorwkv.video.frame_series import Series, choose_series
from videorwkv.video.segment import Segment, part_name

# Jester and Something-Something were cut at 12 frames a second; a folder carries no clock.
FOLDER_FPS = 12.0
# Of an image file: what so many pixels take without any compression.
MOST_BYTES = 4 * MOST_PIXELS
HOLE = bytes(512)


class FrameFiles(Video):
    """Frames that are files of their own, in the order of their numbers.

    Gaps in the numbers are no gaps in time, because data sets have them where frames were never
    written.

    Args:
        files: the frames, in order, at least one.
        name: what messages call the video.
        frame_rate: frames a second; None takes 12.
        segment: which of the frames; None takes all.
        deadline: of `time.monotonic()`, for all that is read.
        read: file -> its content; None of one that can't be read.

    Raises:
        DecodeError: they end before the segment does; reading frames raises it where one has too
            many pixels.
    """

    def __init__(
        self,
        files: Sequence[Path],
        name: str,
        frame_rate: float | None = None,
        *,
        segment: Segment | None = None,
        deadline: float = math.inf,
        read: Callable[[Path], bytes | None] | None = None,
    ) -> None:
        super().__init__(part_name(name, segment))
        self.deadline = deadline
        self._files = list(files)
        self._read_file = read or read_file
        self._frame_rate = FOLDER_FPS if frame_rate is None else frame_rate
        if segment is not None:
            found = segment.find(self._scan(), self.name)
            self._files = self._files[found.first : found.stop]
            self._warnings += found.warnings

    def __iter__(self) -> Iterator[Frame]:
        self._check_open()
        return self._iterate()

    def _iterate(self) -> Iterator[Frame]:
        size: tuple[int, int] | None = None
        count = 0
        for path in self._files:
            image_HWC = self._read_frame(path)
            if image_HWC is None:
                continue
            image_HWC, size = _same_size(image_HWC, size)
            yield Frame(image_HWC, count / self._frame_rate)
            count += 1
        if count < len(self._files) or count == 0:
            self._keep(self._rescan())

    def _scan(self) -> NDArray[np.float64]:
        return np.arange(len(self._files)) / self._frame_rate

    def _rescan(self) -> NDArray[np.float64]:
        readable = [path for path in self._files if self._read_frame(path) is not None]
        if len(readable) < len(self._files):
            self._warnings += (incomplete(len(readable), len(self._files)),)
        self._files = readable
        return self._scan()

    def _read_frame(self, path: Path) -> NDArray[np.uint8] | None:
        require_time(self.name, self.deadline)
        content = self._read_file(path)
        if content is not None and has_hole(content):
            text = f"{path.name} is damaged: zeros stand where a part of it was"
            if text not in self._warnings:
                self._warnings += (text,)
        return None if content is None else decode_image(content, str(path))

    def _fetch(self, indices: NDArray[np.int64], transform: Transform) -> Images | None:
        images: Images = {}
        size: tuple[int, int] | None = None
        for index in indices.tolist():
            image_HWC = self._read_frame(self._files[index])
            if image_HWC is None:
                return None
            image_HWC, size = _same_size(image_HWC, size)
            images[index] = transform(image_HWC)
        return images


class FolderVideo(FrameFiles):
    """A folder of JPEG, PNG, BMP or WebP frames.

    Frames are ordered by the numbers in their names (`2.jpg` before `10.jpg`). Of flow or masks
    beside the frames only the frames are taken (`choose_series`), which a warning says.

    Args:
        folder: its path.
        name: what messages call it.
        frame_rate, segment, deadline: as in `FrameFiles`.

    Raises:
        DecodeError: there is no such file in it, there are several series of frames in it, it can't
            be listed, or it ends before the segment does. Reading frames raises it, too, where one
            has too many pixels.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        frame_rate: float | None = None,
        *,
        segment: Segment | None = None,
        deadline: float = math.inf,
    ) -> None:
        try:
            series = frame_series(folder)
        except OSError as error:
            raise DecodeError(f"{name}: the folder can't be listed: {error.strerror}.") from error
        if not series.files:
            raise DecodeError(f"{name}: {no_frames(folder)}.")
        if series.clash:
            raise DecodeError(f"{name}: {several_series(series.clash)}.")
        super().__init__(series.files, name, frame_rate, segment=segment, deadline=deadline)
        self._warnings += (not_read(series.left_out),) * bool(series.left_out)

    @property
    def files(self) -> tuple[Path, ...]:
        """The frames, in order."""
        return tuple(self._files)


def frame_series(folder: Path) -> Series:
    """The frames in a folder, by the numbers in their names; `OSError` if it can't be listed."""
    files = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    return choose_series(sorted(files, key=lambda path: (natural_key(path.stem), path.name)))


def no_frames(folder: Path) -> str:
    """What to say of a folder without frames."""
    others = sorted({p.suffix.lower() for p in folder.iterdir() if p.suffix and p.is_file()})
    inner = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = f"; it has {', '.join(others[:4])} files" if others else ""
    found += f"; it has the folders {', '.join(inner[:4])}: name one of them" if inner else ""
    return f"this folder has no frames; JPEG, PNG, BMP and WebP files are read{found}"


def several_series(clash: str) -> str:
    """What to say of a folder with `Series.clash`."""
    return (
        f"several series of frames in one folder: {clash}; put the frames of each into a folder of "
        "its own"
    )


def not_read(left_out: str) -> str:
    """What to say of `Series.left_out`."""
    return f"beside the frames and not read: {left_out}"


def read_image(path: Path) -> NDArray[np.uint8] | None:
    """uint8 RGB [H, W, 3], or None if the file can't be read as a whole; errors as in
    `decode_image`."""
    content = read_file(path)
    return None if content is None else decode_image(content, str(path))


def read_file(path: Path) -> bytes | None:
    """The content of an image file; None if it can't be read, is a pipe or a device, or is larger
    than any."""
    try:
        return read_limited(path, MOST_BYTES)
    except (OSError, ValueError):
        return None


def decode_image(content: bytes, name: str = "image") -> NDArray[np.uint8] | None:
    """The content of an image file as uint8 RGB [H, W, 3], or None if it isn't whole.

    Raises:
        DecodeError: it has more than `MOST_PIXELS`; nothing is decoded then.
    """
    # JPEG decoders fill what a truncated file lacks with grey and report success. Thumbnails end
    # with a marker of their own, so the last end has to follow the last start of a scan.
    if content[:2] == b"\xff\xd8" and content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"):
        return None
    if not content:
        return None
    width, height = image_size(content)
    if width * height > MOST_PIXELS:
        raise DecodeError(
            f"{name}: {width} x {height} pixels are more than the {MOST_PIXELS / 1e6:.0f} million "
            "that are read. Make the frames smaller."
        )
    try:
        image_HWC = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # it claims to be larger than OpenCV's limit
        return None
    return None if image_HWC is None else cv2.cvtColor(image_HWC, cv2.COLOR_BGR2RGB)


def image_size(content: bytes) -> tuple[int, int]:
    """Width and height by the header of a PNG, BMP, WebP or JPEG file; (0, 0) if none is found."""
    if content[:8] == b"\x89PNG\r\n\x1a\n" and content[12:16] == b"IHDR":
        return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    if content[:2] == b"BM" and len(content) >= 26:
        width, height = np.frombuffer(content, "<i4", 2, 18).tolist()
        return abs(width), abs(height)  # a negative height: from the top down
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP" and len(content) >= 30:
        if content[12:16] == b"VP8X":
            sizes = content[24:27], content[27:30]
            return 1 + int.from_bytes(sizes[0], "little"), 1 + int.from_bytes(sizes[1], "little")
        if content[12:16] == b"VP8L":
            bits = int.from_bytes(content[21:25], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        width, height = np.frombuffer(content, "<u2", 2, 26).tolist()
        return width & 0x3FFF, height & 0x3FFF
    for kind, start, end in _segments(content):
        # Start of frame, of whatever coding; the four others of that range are tables.
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC) and start + 5 <= end:
            height, width = content[start + 1 : start + 3], content[start + 3 : start + 5]
            return int.from_bytes(width, "big"), int.from_bytes(height, "big")
    return 0, 0


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Of a JPEG file, up to its first scan: marker, beginning and end of what it holds."""
    at = 2 if content[:2] == b"\xff\xd8" else len(content)
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:
        kind = content[at + 1]
        if kind == 0xFF:  # a fill byte
            at += 1
        elif kind == 0x01 or 0xD0 <= kind <= 0xD8:  # they have no length
            at += 2
        else:
            end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
            yield kind, at + 4, min(end, len(content))
            at = max(end, at + 4)


def has_hole(content: bytes) -> bool:
    """Whether a part of a JPEG file was never written to disk: its decoder covers that, and says so
    where nobody reads it.

    So many zeros look like that part, but a plain picture may be coded so as well. FFmpeg, told to
    stop at the first fault, tells the two apart.
    """
    if content[:2] != b"\xff\xd8" or HOLE not in content[max(0, content.find(b"\xff\xda")) :]:
        return False
    if _zeros_are_noise(content):
        return True
    try:
        decoder = av.CodecContext.create("mjpeg", "r")
        decoder.options = {"err_detect": "explode", "max_pixels": str(MOST_PIXELS)}
        decoder.thread_count = 1
        pictures = decoder.decode(av.Packet(content)) or decoder.decode(None)
    except av.FFmpegError:
        return True
    return not pictures or any(picture.is_corrupt for picture in pictures)


def _zeros_are_noise(content: bytes) -> bool:
    """Whether zeros in a baseline JPEG file mean fine noise, and no plain area: in the usual code,
    the shortest word of brightness is a coefficient, not the end of a block."""
    for kind, start, end in _segments(content):
        if kind == 0xC2:  # progressive
            return False
        while kind == 0xC4 and start + 17 < end:
            counts = content[start + 1 : start + 17]
            if content[start] == 0x10:
                return content[start + 17] != 0
            start += 17 + sum(counts)
    return False


def _same_size(
    image_HWC: NDArray[np.uint8], size: tuple[int, int] | None
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """A clip has one size, that of its first frame (as width, height)."""
    own = (image_HWC.shape[1], image_HWC.shape[0])
    if size is None or size == own:
        return image_HWC, own
    return cv2.resize(image_HWC, size, interpolation=cv2.INTER_AREA), size
