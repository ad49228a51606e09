"""One pass through one video stream with PyAV: packets in, timed pictures and RGB images out.

H height, W width, C = 3 (RGB).
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator, Set
from fractions import Fraction
from heapq import heappop, heappush
from itertools import islice
from typing import Any

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from videorwkv.errors import DecodeError

# Decoders whose `skip_frame` may change from packet to packet and that then leave out nothing but
# pictures to which no other one refers. AV1 and VP9 decoders read it once, or never.
CAN_SKIP = ("h264", "hevc")
# Containers with a table of their key frames: a seek takes 0.03 ms and ends where it should. In
# others it may end anywhere; reading without decoding takes 5 us a packet and is exact.
INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi")
# Containers without presentation times. FFmpeg makes some up, wrong ones where pictures are stored
# in another order than shown; the decoder still gives the pictures in the order of showing.
UNTIMED = ("avi", "asf")
# Containers of which several may be put one behind the other; each has its own clock.
JOINABLE = ("mpegts", "mpeg")
# A jump back by so many seconds tells that a clock begins anew.
JUMP = 1.0
# No codec lets a picture wait for more than so many others.
MAX_REORDER = 16
# What a packet takes in memory besides its content.
PACKET_BYTES = 512
# FFmpeg's own assumption for streams without any clock.
FALLBACK_FPS = 25.0
# A title in another encoding than UTF-8 makes no video unreadable. PyAV before 19 has to be told.
_METADATA: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
)
# PyAV would otherwise start as many threads as there are cores, anew for every reformatter.
ONE_THREAD = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}


class NoVideoError(DecodeError):
    """A file without a video stream: sound, mostly."""


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
        duration: seconds by the container's header, its sound included; None where it doesn't say,
            as broadcasts.
        container_name: FFmpeg's name of the container's format.
        codec_name: FFmpeg's name of the decoder.
        stream_index: which of the container's streams is read.
        num_announced: frames by the container's header; 0 where it doesn't say.
        pixel_aspect: width of a pixel by its height.
        num_packets: packets met so far that hold a picture to be shown, or should.
        num_errors: packets so far that could not be read or decoded.
        failed_pts: pts of those that have one.
        broken_off: why reading stopped before the end; empty if it did not.
        place: how many packets lie before the next one, those that can't be read included.
        is_kept: whether all packets are in memory, so that going anywhere costs nothing.

    Raises:
        DecodeError: it can't be opened or is no video; `NoVideoError` if it has no video stream.
    """

    place: int
    num_packets: int
    _num_hidden: int
    _next_dts: int
    num_errors: int
    failed_pts: list[int]
    broken_off: str

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
                file,
                format=container_format,
                options=options or {},
                timeout=timeout,
                **_METADATA,
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
        length = self._container.duration
        self.duration = None if length is None else length / av.time_base
        self.tick = float(self._stream.time_base)
        rate = float(self._stream.average_rate or self._stream.guessed_rate or FALLBACK_FPS)
        self._step = max(1, round(1 / (rate * self.tick)))
        # Read here: once the container is closed, its streams are freed memory.
        self.container_name: str = self._container.format.name
        self.codec_name: str = self._stream.codec_context.name
        self.stream_index: int = self._stream.index
        self.pixel_aspect = Fraction(self._stream.sample_aspect_ratio or 1)
        announced = self._stream.frames
        # A frame takes a byte at the very least: a broken header may say any number. A device or a
        # network stream has no size: None since PyAV 19, a negative number before.
        self.num_announced = announced if announced <= (self._container.size or -1) else 0
        self._is_untimed = self.container_name in UNTIMED
        # AVI's header counts frames that a recorder dropped; they leave gaps in the dts.
        self._counts_dropped = self.container_name == "avi"
        # Ticks to add to what a file says that lies behind another one, and the last dts so far.
        self._offset = 0
        self._last_dts: int | None = None
        self._kept: list[av.Packet | str] | None = None
        # Whether the decoder has met no packet yet.
        self._is_fresh = True
        # Whether the decoder leaves out pictures to which no other one refers.
        self._skips = False
        self._count_anew()

    def __enter__(self) -> Decoding:
        return self

    def __exit__(self, *error: object) -> None:
        self._container.close()

    @property
    def num_expected(self) -> int:
        """After a whole pass: how many pictures there should have been."""
        return max(self.num_packets, self.num_announced - self._num_hidden)

    @property
    def guesses_pts(self) -> bool:
        """Whether the pts of pictures and packets may belong to other ones: no seek finds its
        frame then, and only `pictures_from_start` tells when pictures are shown. Ask again after
        decoding: a header may promise less reordering than there is."""
        return self._is_untimed and bool(self._stream.codec_context.has_b_frames)

    @property
    def is_kept(self) -> bool:
        return self._kept is not None

    def packets(self, *, keep: int = 0) -> Iterator[av.Packet]:
        """Packets of the stream, the empty one that ends it included; stops where reading fails.

        Packets that the file cuts off are left out: some decoders make a frame of the first half
        and repeat the last frame for the rest.

        Args:
            keep: bytes. If all packets together take no more, they stay in memory once the last
                one was read, and `rewind` makes this pass another one from the beginning.
        """
        kept: list[av.Packet | str] = []
        for packet in self._read():
            self.place += 1
            if keep > 0:
                kept.append(packet)
                keep -= PACKET_BYTES + (0 if isinstance(packet, str) else packet.size)
                if keep <= 0:
                    kept.clear()
            if isinstance(packet, str):
                self.num_errors += 1
                self.broken_off = packet
            elif packet.is_corrupt:
                self.num_packets += 1
                self._count_error(packet)
            else:
                if self._counts_dropped and packet.dts is not None:
                    self._num_hidden += max(0, packet.dts - self._next_dts)
                    self._next_dts = packet.dts + 1
                if packet.is_discard:  # before an edit list's start: decoded, but never shown
                    self._num_hidden += 1
                elif packet.size > 0:
                    self.num_packets += 1
                yield packet
        if keep > 0:
            self._kept = kept

    def _read(self) -> Iterator[av.Packet | str]:
        """Packets from memory, if they are kept there, else from the file; last, why it failed."""
        if self._kept is not None:
            while self.place < len(self._kept):
                yield self._kept[self.place]
            return
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                yield error.strerror
                return
            except IndexError:
                # PyAV fails at packets of a stream that it did not know when it opened the file.
                yield "another stream begins on the way"
                return
            if packet is None:
                return
            if self.container_name in JOINABLE and packet.dts is not None:
                self._put_behind(packet)
            yield packet

    def _put_behind(self, packet: av.Packet) -> None:
        """Gives a packet of a second recording in the file its time behind the first one."""
        dts = packet.dts + self._offset
        if self._last_dts is not None and dts < self._last_dts - JUMP / self.tick:
            self._offset = self._last_dts + self._step - packet.dts
        self._last_dts = packet.dts + self._offset
        if self._offset:
            packet.dts = self._last_dts
            packet.pts = None if packet.pts is None else packet.pts + self._offset

    def pictures(
        self, wanted: Set[int] | None = None, *, last_place: int | None = None
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Pictures with their pts, as the decoder emits them.

        A packet that can't be decoded is counted and passed over; what follows is decoded as well
        as the codec manages, as players do. A picture without a pts gets the last one's plus the
        duration of a frame, which is only right in a pass from the beginning.

        Args:
            wanted: pts that are needed; others may be left out where that saves work.
            last_place: the packet with that many before it is the last to be decoded: the decoder
                then gives out at once what it holds back to put pictures in order. Wrong for a
                picture whose two fields lie in two packets.
        """
        context = self._stream.codec_context
        if context.name not in CAN_SKIP:
            wanted = None
        last = -self._step
        for packet in self.packets():
            if wanted is not None and self._skips != (packet.pts not in wanted):
                self._skips = not self._skips
                context.skip_frame = "NONREF" if self._skips else "DEFAULT"
            self._is_fresh = False
            ends = last_place is not None and self.place > last_place
            try:
                pictures = packet.decode()
                if ends and packet.size > 0:
                    pictures += context.decode(None)
            except av.FFmpegError:
                self._count_error(packet)
                pictures = []
            for picture in pictures:
                last = last + self._step if picture.pts is None else picture.pts
                yield last, picture
            if ends:
                return

    def pictures_from_start(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """All pictures with the pts at which they are shown; nothing may have been decoded yet.

        In an `UNTIMED` container the k-th picture that the decoder gives has the k-th smallest pts;
        pictures that share one get a tick each.
        """
        if not self._is_untimed:
            yield from self.pictures()
            return
        waiting: deque[av.VideoFrame] = deque()
        found: list[int] = []
        last: int | None = None
        pictures = self.pictures()
        while True:
            arrived = next(pictures, None)
            if arrived is not None:
                heappush(found, arrived[0])
                waiting.append(arrived[1])
                if len(waiting) <= MAX_REORDER:
                    continue
            elif not waiting:
                return
            pts = heappop(found)
            last = pts if last is None else max(pts, last + 1)
            yield last, waiting.popleft()

    def rewind(self) -> None:
        """Back to the first packet and to a count of nothing; packets must be kept and none of
        them decoded yet."""
        assert self.is_kept
        assert self._is_fresh
        self._count_anew()

    def seek(self, pts: int, place: int) -> None:
        """Goes on to the key frame that is shown at `pts` and whose packet has `place` before it;
        `pictures` has to be called anew.

        Raises:
            av.FFmpegError: the container can't.
        """
        if self.is_kept:
            self._stream.codec_context.flush_buffers()
        elif self.container_name in INDEXED:
            self._container.seek(pts, stream=self._stream, backward=True, any_frame=False)
        elif place < self.place:
            return  # The decoder has met the key frame already.
        else:
            deque(islice(self._read(), place - self.place), maxlen=0)
            self._stream.codec_context.flush_buffers()
        self.place = place

    def _count_error(self, packet: av.Packet) -> None:
        self.num_errors += 1
        if packet.pts is not None:
            self.failed_pts.append(packet.pts)

    def _count_anew(self) -> None:
        self.place = 0
        self.num_packets = 0
        self._num_hidden = 0
        self._next_dts = 0
        self.num_errors = 0
        self.failed_pts = []
        self.broken_off = ""


def _video_stream(container: av.container.InputContainer, name: str) -> av.VideoStream:
    if container.format.name == "tty":
        # FFmpeg would play any text file as ANSI art.
        raise DecodeError(f"{name}: this is a text file, not a video.")
    for stream in container.streams.video:
        # A cover picture in a song or film is a video stream too.
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            return stream
    if any(stream.codec_context is None for stream in container.streams.video):
        raise DecodeError(f"{name}: this build of FFmpeg has no decoder for its video stream.")
    kinds = sorted({stream.type for stream in container.streams})
    raise NoVideoError(f"{name}: there is no video stream; found: {', '.join(kinds) or 'nothing'}.")


def _reason(error: av.FFmpegError) -> str:
    if isinstance(error, av.error.InvalidDataError):
        return "this is not a video that FFmpeg can read, or its beginning is damaged."
    if isinstance(error, av.error.FileNotFoundError):
        return "no such file."
    return f"it can't be opened: {error.strerror}."


class ToImage:
    """Converts the pictures of one stream, in any order.

    One reformatter serves all of them: making one for each picture, as `to_ndarray(format="rgb24")`
    does in many versions of PyAV, halves the speed of reading a whole file.

    Args:
        name: what messages call the video.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._reformatter = VideoReformatter()
        self._matrix: NDArray[np.int32] | None = None
        self._size: tuple[int, int] | None = None

    def __call__(self, picture: av.VideoFrame) -> NDArray[np.uint8]:
        """uint8 RGB [H, W, 3], upright; its rows may lie apart in memory.

        Raises:
            DecodeError: FFmpeg can't convert such colours to RGB.
        """
        if self._matrix is None:
            self._matrix = display_matrix(picture)
            self._size = (picture.width, picture.height)
        try:
            rgb = self._reformatter.reformat(picture, format="rgb24", **ONE_THREAD)
        except av.FFmpegError as error:
            # Some colour matrices, `ICtCp` and `YCgCo-R` among them, are beyond it.
            raise DecodeError(
                f"{self._name}: its colours ({picture.format.name}, matrix "
                f"{int(picture.colorspace)}) can't be converted to RGB: {error.strerror}."
            ) from error
        plane = rgb.planes[0]
        # A view, not a copy: whoever takes the image makes it smaller or stacks it anyway.
        image_HWC: NDArray[np.uint8] = np.ndarray(
            (rgb.height, rgb.width, 3), np.uint8, memoryview(plane), strides=(plane.line_size, 3, 1)
        )
        if (picture.width, picture.height) != self._size:
            # Some streams change their resolution on the way; a clip has one size, the first.
            image_HWC = cv2.resize(image_HWC, self._size, interpolation=cv2.INTER_AREA)
        return upright(image_HWC, self._matrix)


def display_matrix(picture: av.VideoFrame) -> NDArray[np.int32]:
    """The container's display transform [[a, b], [c, d]]; the identity where there is none."""
    # `picture.side_data` would make the two refer to each other, and the picture's memory stay
    # until Python looks for such circles.
    side_data = SideDataContainer(picture).get("DISPLAYMATRIX")  # type: ignore[call-arg]
    if side_data is None:
        return np.array([[1, 0], [0, 1]], np.int32)
    return np.frombuffer(bytes(side_data), np.int32).reshape(3, 3)[:2, :2]


def upright(image_HWC: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The image as it is meant to be seen, quarter turns and mirrors only.

    A stored point (x, y) is shown at (a x + c y, b x + d y). `VideoFrame.rotation` gives the angle
    alone; a mirrored recording would keep its mirror, and with it the wrong hand.
    """
    (a, b), (c, d) = matrix.tolist()
    if a > 0 and d > 0 and b == c == 0:
        return image_HWC
    if abs(b) > abs(a):
        image_HWC = image_HWC.transpose(1, 0, 2)
        flip_x, flip_y = c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    if flip_y:
        image_HWC = image_HWC[::-1]
    if flip_x:
        image_HWC = image_HWC[:, ::-1]
    return np.ascontiguousarray(image_HWC)
