"""One pass through one video stream with PyAV: packets in, timed pictures out."""

from __future__ import annotations

import io
from collections.abc import Iterator, Set

import av
from av.stream import Disposition

from videorwkv.errors import DecodeError

# Decoders whose `skip_frame` may change from packet to packet and that then leave out nothing but
# pictures to which no other one refers. AV1 and VP9 decoders read it once, or never.
CAN_SKIP = ("h264", "hevc")
# FFmpeg's own assumption for streams without any clock.
FALLBACK_FPS = 25.0


class Decoding:
    """A container opened for one pass; a context manager.

    Args:
        source: path, URL or the file's content.
        name: what messages call it.
        container_format: FFmpeg's name of the input format, for devices; None detects it.
        options: FFmpeg's options for opening.
        timeout: seconds to wait for a network or a device.

    Attributes:
        tick: seconds for one unit of pts.
        has_end: whether the container knows its duration; broadcasts don't.
        num_packets: packets met so far that hold a picture to be shown, or should.
        num_errors: packets so far that could not be read or decoded.
        broken_off: why reading stopped before the end; empty if it did not.

    Raises:
        DecodeError: it can't be opened, is no video or has no video stream.
    """

    def __init__(
        self,
        source: str | bytes,
        name: str,
        *,
        container_format: str | None = None,
        options: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> None:
        self.name = name
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        try:
            self._container = av.open(
                file, format=container_format, options=options or {}, timeout=timeout
            )
        except av.FFmpegError as error:
            raise DecodeError(f"{name}: {_reason(error)}") from error
        try:
            self._stream = _video_stream(self._container, name)
        except DecodeError:
            self._container.close()
            raise
        # Loader workers are the parallelism; a decoder's own threads would fight with them.
        self._stream.codec_context.thread_count = 1
        self.has_end = self._container.duration is not None
        self.tick = float(self._stream.time_base)
        rate = float(self._stream.average_rate or self._stream.guessed_rate or FALLBACK_FPS)
        self._step = max(1, round(1 / (rate * self.tick)))
        # Read here: once the container is closed, its streams are freed memory.
        announced = self._stream.frames
        # A frame takes a byte at the very least: a broken header may say any number.
        self._announced = announced if announced <= self._container.size else 0
        self.num_packets = 0
        self._num_hidden = 0
        self.num_errors = 0
        self.broken_off = ""

    def __enter__(self) -> Decoding:
        return self

    def __exit__(self, *error: object) -> None:
        self._container.close()

    @property
    def num_expected(self) -> int:
        """After a whole pass: how many pictures there should have been."""
        return max(self.num_packets, self._announced - self._num_hidden)

    def packets(self) -> Iterator[av.Packet]:
        """Packets of the stream, the empty one that ends it included; stops where reading fails.

        Packets that the file cuts off are left out: some decoders make a frame of the first half
        and repeat the last frame for the rest.
        """
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                self.num_errors += 1
                self.broken_off = error.strerror
                return
            if packet is None:
                return
            if packet.is_corrupt:
                self.num_packets += 1
                self.num_errors += 1
                continue
            if packet.is_discard:  # before an edit list's start: decoded, but never shown
                self._num_hidden += 1
            elif packet.size > 0:
                self.num_packets += 1
            yield packet

    def pictures(self, wanted: Set[int] | None = None) -> Iterator[tuple[int, av.VideoFrame]]:
        """Pictures with their pts, as the decoder emits them.

        A packet that can't be decoded is counted and passed over; what follows is decoded as well
        as the codec manages, as players do. A picture without a pts gets the last one's plus the
        duration of a frame, which is only right in a pass from the beginning.

        Args:
            wanted: pts that are needed; others may be left out where that saves work.
        """
        context = self._stream.codec_context
        can_skip = context.name in CAN_SKIP
        last = -self._step
        for packet in self.packets():
            if wanted is not None and can_skip:
                context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
            try:
                pictures = packet.decode()
            except av.FFmpegError:
                self.num_errors += 1
                continue
            for picture in pictures:
                last = last + self._step if picture.pts is None else picture.pts
                yield last, picture

    def seek(self, pts: int) -> None:
        """Goes to the last key frame at or before `pts`; `pictures` has to be called anew.

        Raises:
            av.FFmpegError: the container can't.
        """
        self._container.seek(pts, stream=self._stream, backward=True, any_frame=False)


def _video_stream(container: av.container.InputContainer, name: str) -> av.VideoStream:
    if container.format.name == "tty":
        # FFmpeg would play any text file as ANSI art.
        raise DecodeError(f"{name}: this is a text file, not a video.")
    for stream in container.streams.video:
        # A cover picture in a song or film is a video stream too.
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            return stream
    kinds = sorted({stream.type for stream in container.streams})
    raise DecodeError(f"{name}: there is no video stream; found: {', '.join(kinds) or 'nothing'}.")


def _reason(error: av.FFmpegError) -> str:
    if isinstance(error, av.error.InvalidDataError):
        return "this is not a video that FFmpeg can read, or its beginning is damaged."
    if isinstance(error, av.error.FileNotFoundError):
        return "no such file."
    return f"it can't be opened: {error.strerror}."
