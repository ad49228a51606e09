"""Cameras, network streams and pipes: frames without an end."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import DecodeError, UsageError
from videorwkv.video.base import Frame, Images, Transform, Video
from videorwkv.video.decoding import JUMP, Decoding
from videorwkv.video.pipe import Pipe
from videorwkv.video.to_image import ToImage

# FFmpeg's input format and device name for camera number n.
CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}:none")}
TIMEOUT = 10.0
# What `source_fps` may be beside a number: a frame's time is that at which it comes.
ARRIVAL: Literal["arrival"] = "arrival"


@dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """How a source without an end is read.

    Args:
        source_fps: frames a second of a bare stream (raw H.264, MJPEG), which carries no times;
            `arrival`: the times at which its frames come. None: as the stream says. Where it does
            not say, a live source is refused: a guess would be a wrong speed.
        timeout: seconds after which a network stream that sends nothing has broken off; 0: never.
        allow_pipes: read `-`, the standard input, and FIFOs.
    """

    source_fps: float | Literal["arrival"] | None = None
    timeout: float = TIMEOUT
    allow_pipes: bool = False

    def __post_init__(self) -> None:
        fps = self.source_fps
        if fps not in (None, ARRIVAL) and not (isinstance(fps, int | float) and 0 < fps < math.inf):
            raise UsageError(
                f"source_fps ({fps}) must be a number of frames a second above 0, or {ARRIVAL!r} "
                "for the times at which frames come."
            )
        if not 0 <= self.timeout < math.inf:
            raise UsageError(
                f"timeout ({self.timeout}) must be a number of seconds, at least 0; 0 waits for "
                "ever."
            )

    @property
    def known_fps(self) -> float | None:
        """`source_fps`, if it is a number."""
        return None if isinstance(self.source_fps, str) else self.source_fps


class LiveVideo(Video):
    """A camera or a network stream; it can only be iterated over, frame by frame.

    Its pictures have the size that they come with, which may change on the way.

    The device is opened with the first iteration and closed when that ends. Whoever reads too
    slowly gets old frames: drop them, as `videorwkv stream` does.

    Args:
        source: device or URL.
        name: what messages call it.
        container_format: FFmpeg's input format; None detects it.
        options: FFmpeg's options.
        decoding: the source, opened already; the first iteration takes it.
        playlists: follow a playlist that is called one.
        live: see `LiveOptions`.
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
        live: LiveOptions | None = None,
    ) -> None:
        super().__init__(name)
        self._playlists = playlists
        self._live = live or LiveOptions()
        self._source = source
        self._format = container_format
        self._options = options
        self._decoding: Decoding | None = decoding or self._begin()

    def __iter__(self) -> Iterator[Frame]:
        self._check_open()
        return self._iterate()

    def _iterate(self) -> Iterator[Frame]:
        # The first iteration takes over the connection that has shown the source to be there.
        decoding, self._decoding = self._decoding or self._open(), None
        convert = ToImage(self.name, one_size=False)
        first: int | None = None
        last = 0.0
        step = 0.0
        with decoding:
            by_arrival = self._by_arrival(decoding)
            began = 0.0
            for pts, picture in decoding.pictures(in_order=True):
                if self._closed:
                    return
                came = time.monotonic()
                if first is None:
                    first, began = pts, came
                now = (pts - first) * decoding.tick
                if by_arrival:
                    now = came - began
                elif now < last - JUMP:
                    # Cameras restart their clock at times; ours goes on.
                    first = pts - round((last + step) / decoding.tick)
                    now = (pts - first) * decoding.tick
                elif now > last:
                    step = now - last
                # A frame never comes before the last one.
                last = max(last, now)
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

    def _by_arrival(self, decoding: Decoding) -> bool:
        """Whether a frame's time is that at which it comes."""
        if self._live.source_fps == ARRIVAL:
            return True
        if not decoding.tells_rate:
            raise UsageError(
                f"{self.name}: its frames carry no times ({decoding.container_name}). Give their "
                "rate with --source-fps N, or --source-fps arrival for the times at which they "
                "come (in Python: source_fps)."
            )
        return False

    def _begin(self) -> Decoding | None:
        """The source, opened to show that it is there; None: only once frames are asked for."""
        return self._open()

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
            timeout=self._live.timeout or None,
            playlists=self._playlists,
            source_fps=self._live.known_fps,
        )


class PipeVideo(LiveVideo):
    """The standard input or a FIFO; opened once frames are asked for, as nobody may write yet.

    Args:
        source: `-`, or a FIFO's path.
        name: what messages call it.
        live: see `LiveOptions`.
    """

    def __init__(self, source: str | Path, name: str, live: LiveOptions) -> None:
        self._pipe: Pipe | None = None
        super().__init__(str(source), name, live=live)

    def close(self) -> None:
        super().close()
        if self._pipe is not None:
            self._pipe.close()

    def _begin(self) -> Decoding | None:
        return None

    def _open(self) -> Decoding:
        self._pipe = Pipe(self._source, self.name)
        return Decoding(self._pipe, self.name, source_fps=self._live.known_fps)


def open_camera(number: int, live: LiveOptions | None = None) -> LiveVideo:
    """Camera `number`, 0 being the first; `live` as in `LiveOptions`.

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
            device.format(number),
            name,
            container_format=container_format,
            options=options,
            live=live,
        )
    except DecodeError as error:
        raise DecodeError(
            f"{name} ({device.format(number)}): there is no such camera, or it is in use."
        ) from error
