"""One pass through one video stream with PyAV: packets in, timed pictures out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Set
from fractions import Fraction
from heapq import heappop, heappush
from itertools import islice

import av
from av.stream import Disposition

from videorwkv.errors import DecodeError, UsageError
from videorwkv.video.allowed import open_container
from videorwkv.video.base import MOST_PIXELS, require_time
from videorwkv.video.pipe import Pipe
from videorwkv.video.transport import only_joined

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
# Formats that are a bare stream: no packet has a time, and FFmpeg gives all of them that rate. What
# the stream itself says of its rate, if it does, is right.
CLOCKLESS = frozenset(
    (
        *("apv", "av1", "avs2", "avs3", "cavsvideo", "dirac", "dnxhd", "evc", "h261", "h263"),
        *("h264", "hevc", "ingenient", "m4v", "mjpeg", "mpegvideo", "mpjpeg", "obu", "vc1", "vvc"),
    )
)
# XviD and DivX put a picture into the packet of another one, and a placeholder where it would have
# been, or where nothing has changed: MPEG-4 packets of at most so many bytes. A header is longer.
PLACEHOLDER = 8
# What each picture of MPEG-4 (part 2) begins with.
MPEG4_PICTURE = b"\x00\x00\x01\xb6"


class NoVideoError(DecodeError):
    """A file without a video stream: sound, mostly."""


class Decoding:
    """A container opened for one pass; a context manager.

    Args:
        source: path, URL, the file's content, or a pipe.
        name: what messages call it.
        container_format: FFmpeg's name of the input format, for devices; None detects it.
        options: FFmpeg's options for opening.
        timeout: seconds to wait for a network or a device.
        playlists: follow a playlist that is called one (`allowed.py`).
        deadline: of `time.monotonic()`; reading after it is an error.
        source_fps: frames a second of a bare stream, whose packets carry no times; None: as the
            stream says, else `FALLBACK_FPS`.

    Attributes:
        tick: seconds for one unit of pts.
        duration: seconds by the container's header, its sound included; None where it doesn't say,
            as broadcasts.
        container_name: FFmpeg's name of the container's format.
        codec_name: FFmpeg's name of the decoder.
        rate: frames a second, as the file or its stream says; `FALLBACK_FPS` where neither does.
        tells_rate: whether times come from the source or from `source_fps`, and from no guess.
        stream_index: which of the container's streams is read.
        num_announced: frames by the container's header; 0 where it doesn't say.
        pixel_aspect: width of a pixel by its height.
        num_errors: packets so far that could not be read or decoded.
        failed_pts: pts of those that have one.
        broken_off: why reading stopped before the end; empty if it did not.
        place: how many packets lie before the next one, those that can't be read included.
        is_kept: whether all packets are in memory, so that going anywhere costs nothing.

    Raises:
        DecodeError: it can't be opened or is no video; `NoVideoError` if it has no video stream.
        UsageError: `source_fps` for a source that carries times.
    """

    place: int
    _num_met: int
    _num_placeholders: int
    _num_hidden: int
    _next_dts: int
    num_errors: int
    failed_pts: list[int]
    _num_guessed: int
    broken_off: str
    _last_pts: int
    _shift: int
    _is_guessed: bool

    def __init__(
        self,
        source: str | bytes | Pipe,
        name: str,
        *,
        container_format: str | None = None,
        options: dict[str, str] | None = None,
        timeout: float | None = None,
        playlists: bool = False,
        deadline: float = math.inf,
        source_fps: float | None = None,
    ) -> None:
        self.name = name
        self._source, self.deadline = source, deadline
        self._container = open_container(
            source, name, container_format, options or {}, timeout, playlists
        )
        try:
            self._stream = _video_stream(self._container, name)
        except DecodeError:
            self._container.close()
            raise
        # Loader workers are the parallelism; a decoder's own threads would fight with them.
        self._stream.codec_context.thread_count = 1
        self._stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
        length = self._container.duration
        self.duration = None if length is None else length / av.time_base
        self.tick = float(self._stream.time_base)
        rates = [self._stream.average_rate, self._stream.guessed_rate, Fraction(FALLBACK_FPS)]
        self.tells_rate = self._container.format.name not in CLOCKLESS
        if not self.tells_rate:
            rates.pop(0)
            # Of the guessed rate nobody knows whether the stream said it.
            self.tells_rate = bool(self._stream.codec_context.framerate or source_fps)
        self.rate = float(next(rate for rate in rates if rate))
        self._step = max(1, round(1 / (self.rate * self.tick)))
        if source_fps is not None:
            self._retime(source_fps)
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
        # Whether packets that FFmpeg holds for damaged are whole: known once one is met.
        self._only_joined: bool | None = None
        # Ticks to add to what a file says that lies behind another one, and the last dts so far.
        self._offset = 0
        self._last_dts: int | None = None
        self._last_shown = -(2**63)
        self._begins_anew = False
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

    def _retime(self, source_fps: float) -> None:
        """Count time in frames of `source_fps` a second."""
        if self._container.format.name not in CLOCKLESS:
            self._container.close()
            raise UsageError(
                f"{self.name}: its frames carry times of their own, so --source-fps (source_fps) "
                f"{source_fps:g} can't be theirs. Leave it out."
            )
        # Packets have got times by the other rate.
        self.tick *= self.rate / source_fps
        self.rate = source_fps

    @property
    def num_surplus(self) -> int:
        """Packets met so far that stand for no picture, more than there are pictures without a
        packet of their own."""
        return max(0, self._num_placeholders)

    @property
    def num_packets(self) -> int:
        """Pictures to be shown that the packets met so far hold, or should."""
        return self._num_met - self.num_surplus

    @property
    def num_expected(self) -> int:
        """After a whole pass: how many pictures there should have been."""
        announced = self.num_announced - self._num_hidden - self.num_surplus
        return max(self.num_packets, announced)

    @property
    def num_guessed(self) -> int:
        """Pictures so far whose time no packet tells; where no packet could, all of them."""
        return self.num_packets if self.container_name in CLOCKLESS else self._num_guessed

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
            require_time(self.name, self.deadline)
            self.place += 1
            if keep > 0:
                kept.append(packet)
                keep -= PACKET_BYTES + (0 if isinstance(packet, str) else packet.size)
                if keep <= 0:
                    kept.clear()
            if isinstance(packet, str):
                self.num_errors += 1
                self.broken_off = packet
            elif packet.is_corrupt and not self._is_whole():
                self._num_met += 1
                self._count_error(packet)
            else:
                if self._counts_dropped and packet.dts is not None:
                    self._num_hidden += max(0, packet.dts - self._next_dts)
                    self._next_dts = packet.dts + 1
                if packet.is_discard:  # before an edit list's start: decoded, but never shown
                    self._num_hidden += 1
                elif packet.size > 0:
                    self._num_met += 1
                    self._count_placeholders(packet)
                yield packet
        if keep > 0:
            self._kept = kept

    def _holds_picture(self, packet: av.Packet) -> bool:
        """Whether an MPEG-4 packet is for the decoder: not where nothing has changed, which it
        calls damage at times; but where it brings out a picture that came with another one."""
        return packet.size > PLACEHOLDER or self._num_placeholders <= 0

    def _count_placeholders(self, packet: av.Packet) -> None:
        if self.codec_name != "mpeg4":
            return
        if packet.size <= PLACEHOLDER:
            self._num_placeholders += 1
        else:
            self._num_placeholders -= max(0, bytes(packet).count(MPEG4_PICTURE) - 1)

    def _is_whole(self) -> bool:
        """Whether a packet that FFmpeg calls corrupt lacks nothing: where several recordings follow
        each other in a transport stream, the counters of its parts begin anew."""
        if self._only_joined is None:
            self._only_joined = (
                self.container_name == "mpegts"
                and not isinstance(self._source, Pipe)
                and only_joined(self._source, self._stream.id)
            )
        return self._only_joined

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
        dts, pts = packet.dts + self._offset, packet.dts if packet.pts is None else packet.pts
        # Packets come in the order of their dts; short recordings jump back by less.
        back = 0 if packet.is_keyframe else JUMP / self.tick
        if self._last_dts is not None and dts + back < self._last_dts:
            behind = max(self._last_dts - packet.dts, self._last_shown - pts)
            self._offset = behind + self._step
            self._begins_anew = True
        self._last_dts = packet.dts + self._offset
        self._last_shown = max(self._last_shown, pts + self._offset)
        if self._offset:
            packet.dts = self._last_dts
            packet.pts = None if packet.pts is None else packet.pts + self._offset

    def pictures(
        self,
        wanted: Set[int] | None = None,
        *,
        last_place: int | None = None,
        in_order: bool = False,
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
            in_order: where times that a file lacks, and that are so made up, come to lie behind
                times that it has, the latter are put behind. In a pass from the beginning alone.
        """
        context = self._stream.codec_context
        if context.name not in CAN_SKIP:
            wanted = None
        self._last_pts, self._shift, self._is_guessed = -self._step, 0, False
        for packet in self.packets():
            if wanted is not None and self._skips != (packet.pts not in wanted):
                self._skips = not self._skips
                context.skip_frame = "NONREF" if self._skips else "DEFAULT"
            self._is_fresh = False
            if self._begins_anew:
                # Another recording: what the decoder still holds back of the one before.
                self._begins_anew = False
                yield from self._timed(context.decode(None), in_order)
                context.flush_buffers()
            if self.codec_name == "mpeg4" and packet.size and not self._holds_picture(packet):
                continue
            ends = last_place is not None and self.place > last_place
            try:
                pictures = packet.decode()
                if ends and packet.size > 0:
                    pictures += context.decode(None)
            except av.FFmpegError:
                self._count_error(packet)
                pictures = []
            yield from self._timed(pictures, in_order)
            if ends:
                return

    def _timed(
        self, pictures: list[av.VideoFrame], in_order: bool
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        for picture in pictures:
            following = self._last_pts + self._step
            if picture.pts is None:
                pts = following
                self._num_guessed += not self._is_untimed
            else:
                pts = picture.pts + self._shift
                if in_order and self._is_guessed and pts <= self._last_pts:
                    self._shift += following - pts
                    pts = following
            self._last_pts, self._is_guessed = pts, picture.pts is None
            yield pts, picture

    def pictures_from_start(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """All pictures with the pts at which they are shown; nothing may have been decoded yet.

        In an `UNTIMED` container the k-th picture that the decoder gives has the k-th smallest pts;
        pictures that share one get a tick each.
        """
        if not self._is_untimed:
            yield from self.pictures(in_order=True)
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
        self._num_met = 0
        self._num_placeholders = 0
        self._num_hidden = 0
        self._next_dts = 0
        self.num_errors = 0
        self.failed_pts = []
        self._num_guessed = 0
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
