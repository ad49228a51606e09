"""Folders of numbered frames: JPEG, PNG, BMP or WebP files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import DecodeError
from videorwkv.utils.files import natural_key
from videorwkv.video.base import IMAGE_SUFFIXES, Frame, Images, Transform, Video, incomplete
from videorwkv.video.frame_series import Series, choose_series

# Jester and Something-Something were cut at 12 frames a second; a folder carries no clock.
FOLDER_FPS = 12.0


class FolderVideo(Video):
    """A folder of JPEG, PNG, BMP or WebP frames.

    Frames are ordered by the numbers in their names (`2.jpg` before `10.jpg`); gaps in the numbers
    are no gaps in time, because data sets have them where frames were never written. Of flow or
    masks beside the frames only the frames are taken (`choose_series`), which a warning says.

    Args:
        folder: its path.
        name: what messages call it.
        frame_rate: frames a second; None takes 12.

    Raises:
        DecodeError: there is no such file in it, there are several series of frames in it, or it
            can't be listed.
    """

    def __init__(self, folder: Path, name: str, frame_rate: float | None = None) -> None:
        super().__init__(name)
        try:
            series = frame_series(folder)
        except OSError as error:
            raise DecodeError(f"{name}: the folder can't be listed: {error.strerror}.") from error
        if not series.files:
            raise DecodeError(f"{name}: {no_frames(folder)}.")
        if series.clash:
            raise DecodeError(f"{name}: {several_series(series.clash)}.")
        self._files = series.files
        self._frame_rate = FOLDER_FPS if frame_rate is None else frame_rate
        self._left_out = (not_read(series.left_out),) * bool(series.left_out)
        self._warnings = self._left_out

    @property
    def files(self) -> tuple[Path, ...]:
        """The frames, in order."""
        return tuple(self._files)

    def __iter__(self) -> Iterator[Frame]:
        self._check_open()
        return self._iterate()

    def _iterate(self) -> Iterator[Frame]:
        size: tuple[int, int] | None = None
        count = 0
        for path in self._files:
            image_HWC = read_image(path)
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
        readable = [path for path in self._files if read_image(path) is not None]
        if len(readable) < len(self._files):
            self._warnings = (*self._left_out, incomplete(len(readable), len(self._files)))
        self._files = readable
        return self._scan()

    def _fetch(self, indices: NDArray[np.int64], transform: Transform) -> Images | None:
        images: Images = {}
        size: tuple[int, int] | None = None
        for index in indices.tolist():
            image_HWC = read_image(self._files[index])
            if image_HWC is None:
                return None
            image_HWC, size = _same_size(image_HWC, size)
            images[index] = transform(image_HWC)
        return images


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
    """uint8 RGB [H, W, 3], or None if the file can't be read as a whole."""
    try:
        return decode_image(path.read_bytes())
    except OSError:
        return None


def decode_image(content: bytes) -> NDArray[np.uint8] | None:
    """The content of an image file as uint8 RGB [H, W, 3], or None if it isn't whole."""
    # JPEG decoders fill what a truncated file lacks with grey and report success. Thumbnails end
    # with a marker of their own, so the last end has to follow the last start of a scan.
    if content[:2] == b"\xff\xd8" and content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"):
        return None
    if not content:
        return None
    try:
        image_HWC = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # it claims to be larger than OpenCV's limit
        return None
    return None if image_HWC is None else cv2.cvtColor(image_HWC, cv2.COLOR_BGR2RGB)


def _same_size(
    image_HWC: NDArray[np.uint8], size: tuple[int, int] | None
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """A clip has one size, that of its first frame (as width, height)."""
    own = (image_HWC.shape[1], image_HWC.shape[0])
    if size is None or size == own:
        return image_HWC, own
    return cv2.resize(image_HWC, size, interpolation=cv2.INTER_AREA), size
