"""Cameras and network streams: frames without an end."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import DecodeError, UsageError
from videorwkv.video.base import Frame, Images, Transform, Video
from videorwkv.video.decoding import JUMP, Decoding
from videorwkv.video.to_image import ToImage

# FFmpeg's input format and device name for camera number n.
CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}:none")}
TIMEOUT = 10.0


class LiveVideo(Video):
    """A camera or a network stream; it can only be iterated over, frame by frame.

    The device is opened with the first iteration and closed when that ends. Whoever reads too
    slowly gets old frames: drop them, as `videorwkv stream` does.

    Args:
        source: device or URL.
        name: what messages call it.
        container_format: FFmpeg's input format; None detects it.
        options: FFmpeg's options.
        decoding: the source, opened already; the first iteration takes it.
        playlists: follow a playlist that is called one.
    """

    is_live = True

    def __init__(
        self,
        source: str,
        name: str,
        *,
        container_format: str | None = None,
        options: dict[str, str] | None = None,
        decoding: Decoding | None = None,
        playlists: bool = False,
    ) -> None:
        super().__init__(name)
        self._playlists = playlists
        self._source = source
        self._format = container_format
        self._options = options
        self._decoding: Decoding | None = decoding or self._open()

    def __iter__(self) -> Iterator[Frame]:
        self._check_open()
        return self._iterate()

    def _iterate(self) -> Iterator[Frame]:
        # The first iteration takes over the connection that has shown the source to be there.
        decoding, self._decoding = self._decoding or self._open(), None
        convert = ToImage(self.name)
        first: int | None = None
        last = 0.0
        step = 0.0
        with decoding:
            for pts, picture in decoding.pictures(in_order=True):
                if self._closed:
                    return
                first = pts if first is None else first
                time = (pts - first) * decoding.tick
                if time < last - JUMP:
                    # Cameras restart their clock at times; ours goes on.
                    first = pts - round((last + step) / decoding.tick)
                    time = (pts - first) * decoding.tick
                elif time > last:
                    step = time - last
                # A frame never comes before the last one.
                last = max(last, time)
                yield Frame(np.ascontiguousarray(convert(picture)), last)
        if decoding.broken_off:
            raise DecodeError(f"{self.name}: the stream broke off: {decoding.broken_off}.")
        if first is None:
            raise DecodeError(f"{self.name}: the source gives no frame.")

    def close(self) -> None:
        super().close()
        if self._decoding is not None:
            self._decoding.__exit__(None, None, None)
            self._decoding = None

    def _scan(self) -> NDArray[np.float64]:
        raise UsageError(
            f"{self.name}: a live source has no end, so its frames can't be counted or chosen; "
            "iterate over it instead."
        )

    def _rescan(self) -> NDArray[np.float64]:
        return self._scan()

    def _fetch(self, indices: NDArray[np.int64], transform: Transform) -> Images | None:
        self._scan()
        return None

    def _open(self) -> Decoding:
        return Decoding(
            self._source,
            self.name,
            container_format=self._format,
            options=self._options,
            timeout=TIMEOUT,
            playlists=self._playlists,
        )


def open_camera(number: int) -> LiveVideo:
    """Camera `number`, 0 being the first.

    Raises:
        DecodeError: there is no such camera, or this system's cameras have no numbers.
        UsageError: a negative number.
    """
    if number < 0:
        raise UsageError(f"open_video: camera number ({number}) must be 0 or more.")
    name = f"camera {number}"
    if sys.platform not in CAMERAS:
        raise DecodeError(
            f"{name}: cameras can be opened by number on Linux and macOS only; here, give the URL "
            "of a stream, such as rtsp://host/path."
        )
    container_format, device = CAMERAS[sys.platform]
    # avfoundation offers no rate by default that all cameras know.
    options = {"framerate": "30"} if sys.platform == "darwin" else {}
    try:
        return LiveVideo(
            device.format(number), name, container_format=container_format, options=options
        )
    except DecodeError as error:
        raise DecodeError(
            f"{name} ({device.format(number)}): there is no such camera, or it is in use."
        ) from error
