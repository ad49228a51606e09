"""Video files and their bytes.

Frames are identified by their presentation timestamp (pts), never by counting: after a seek nobody
knows how many frames were skipped. No two operations share a decoder, so none starts in an unknown
state or disturbs another; what has been opened and read without decoding serves the operation that
follows.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from videorwkv.video.base import Frame, Images, Transform, Video, incomplete
from videorwkv.video.decoding import CLOCKLESS, FALLBACK_FPS, Decoding
from videorwkv.video.to_image import ToImage

# Where a header promises less reordering than there is, frames leave the decoder out of order.
REORDER = 4
# Packets of a whole file stay in memory between listing them and decoding some, up to this many
# bytes: a minute or two of 720p. Of larger files the packets are read again.
KEPT_BYTES = 32 << 20


class ContainerVideo(Video):
    """A video with a beginning and an end: a file, its content, or a URL to one.

    Args:
        source: path or URL, or the file's content.
        name: what messages call it.
        timeout: seconds to wait for a network; None for files.
        playlists: follow a playlist that is called one.
        deadline: as the attribute of `Video`.
        source_fps: frames a second of a bare stream, whose frames carry no times.

    Attributes:
        tells_rate: whether the times of frames come from the file or `source_fps`; else from a
            guess, of which a warning tells.

    Raises:
        DecodeError: it can't be opened, is no video or has no video stream.
        UsageError: `source_fps` for a file that carries times.
    """

    def __init__(
        self,
        source: str | bytes,
        name: str,
        *,
        timeout: float | None = None,
        playlists: bool = False,
        deadline: float = math.inf,
        source_fps: float | None = None,
    ) -> None:
        super().__init__(name)
        self.deadline = deadline
        self._source = source
        self._options: dict[str, Any] = {
            "timeout": timeout,
            "playlists": playlists,
            "source_fps": source_fps,
        }
        self._pts = np.empty(0, np.int64)
        # pts -> how many packets of the file lie before that of the frame, or of the key frame.
        self._places: dict[int, int] = {}
        self._key_places: dict[int, int] = {}
        # Whether a frame may have its two fields in two packets.
        self._interlaced = False
        # Frames that there should be, as far as known.
        self._total = 0
        # True once `_pts` comes from decoding: then it can be trusted, seeks can't.
        self._settled = False
        # Opened, and perhaps all its packets read, but none of them decoded.
        self._ready: Decoding | None = self._open()
        self.tells_rate = self._ready.tells_rate
        self._tick = self._ready.tick
        if timeout is not None:
            # A server closes a connection that stays idle, so none is kept open.
            self._take().__exit__(None, None, None)

    def close(self) -> None:
        super().close()
        if self._ready is not None:
            self._take().__exit__(None, None, None)

    def __iter__(self) -> Iterator[Frame]:
        self._check_open()
        return self._iterate()

    def _iterate(self) -> Iterator[Frame]:
        """Frames in order of pts: up to `REORDER` decoded frames wait in a heap, because some files
        store them out of order."""
        convert = ToImage(self.name)
        waiting: list[tuple[int, int, av.VideoFrame]] = []
        decoded: list[int] = []
        first: int | None = int(self._pts[0]) if len(self._pts) else None
        last: int | None = None
        num_left_out = 0
        with self._take() as decoding:
            pictures = decoding.pictures_from_start()
            while True:
                arrived = next(pictures, None)
                is_late = arrived is not None and bool(decoded) and arrived[0] < decoded[-1]
                if (decoding.num_errors or is_late) and not self._settled:
                    # A decoder that repairs damage may give pictures in any order. Now, and not at
                    # the end, so that the frames are those that `read` gives.
                    self._keep(self._rescan())
                    first = int(self._pts[0]) if last is None else first
                if arrived is not None:
                    pts, picture = arrived
                    decoded.append(pts)
                    heapq.heappush(waiting, (pts, len(decoded), picture))
                    if len(waiting) <= REORDER or self._awaits_another(waiting[0][0], last):
                        continue
                elif not waiting:
                    break
                pts, _, picture = heapq.heappop(waiting)
                if last is not None and pts <= last:
                    num_left_out += 1
                    continue
                first = pts if first is None else first
                last = pts
                image_HWC = np.ascontiguousarray(convert(picture))
                yield Frame(image_HWC, (pts - first) * decoding.tick)
        if not self._settled and len(decoded) < decoding.num_expected:
            self._keep(self._settle(decoded, decoding))
        elif last is None:
            self._keep(np.empty(0))
        self._warn_of_left_out(num_left_out)
        self._warn_of_guesses(decoding, len(decoded))

    def _awaits_another(self, pts: int, last: int | None) -> bool:
        """Whether it is known that a frame is still to come between that at `last` and `pts`."""
        if not self._settled:
            return False
        place = 0 if last is None else int(np.searchsorted(self._pts, last, side="right"))
        return place < len(self._pts) and int(self._pts[place]) < pts

    def _scan(self) -> NDArray[np.float64]:
        num_shown = 0
        decoding = self._take()
        with ExitStack() as stack:
            stack.enter_context(decoding)
            for packet in decoding.packets(keep=KEPT_BYTES):
                if packet.size == 0 or packet.is_discard:
                    continue
                if packet.pts is None:
                    return self._rescan()
                num_shown += 1
                self._places[packet.pts] = decoding.place - 1
                if packet.is_keyframe:
                    self._key_places.setdefault(packet.pts, decoding.place - 1)
            if decoding.num_surplus:
                return self._rescan()  # which packets are without a picture, decoding tells
            num_expected = decoding.num_expected
            self._warn_of_guesses(decoding, num_shown)
            if decoding.is_kept:
                decoding.rewind()
                self._ready = decoding
                stack.pop_all()
        self._pts = np.asarray(sorted(self._places), np.int64)
        # Two packets with one pts are one frame.
        self._total = num_expected - (num_shown - len(self._pts))
        self._warn_of_missing()
        return self._seconds(decoding.tick)

    def _rescan(self) -> NDArray[np.float64]:
        with self._open() as decoding:
            decoded = [pts for pts, _ in decoding.pictures_from_start()]
        return self._settle(decoded, decoding)

    def _warn_of_guesses(self, decoding: Decoding, total: int) -> None:
        count = decoding.num_guessed
        if not count or self._options["source_fps"] is not None:
            return
        says = "as its stream says" if decoding.rate != FALLBACK_FPS else "as nothing tells a rate"
        if decoding.container_name in CLOCKLESS:
            text = (
                f"no frame carries a time: taken as {decoding.rate:g} frames a second, {says}. If "
                "they are not: ffmpeg -r RATE -i FILE -c copy FILE.mp4"
            )
        else:
            text = (
                f"{count} of {total} frames carry no time: taken as {decoding.rate:g} a second, "
                "in the order of decoding"
            )
        if text not in self._warnings:
            self._warnings += (text,)

    def _settle(self, decoded: list[int], decoding: Decoding) -> NDArray[np.float64]:
        """Use the pts of a complete decoding pass as the frame list."""
        self._pts = np.unique(np.asarray(decoded, np.int64))
        expected = decoding.num_expected - (len(decoded) - len(self._pts))
        self._total = max(self._total, expected)
        self._settled = True
        self._warn_of_missing()
        self._warn_of_left_out(len(decoded) - len(self._pts))
        self._warn_of_guesses(decoding, len(decoded))
        return self._seconds(decoding.tick)

    def _warn_of_missing(self) -> None:
        if len(self._pts) < self._total:
            self._warnings = (incomplete(len(self._pts), self._total),)

    def _warn_of_left_out(self, count: int) -> None:
        text = f"{count} frames skipped: their time stamp is a duplicate or out of order"
        if count and text not in self._warnings:
            self._warnings += (text,)

    def _fetch(self, indices: NDArray[np.int64], transform: Transform) -> Images | None:
        wanted = {int(self._pts[index]): int(index) for index in indices}
        if not self._settled:
            interlaced = self._interlaced
            images = self._fetch_in_runs(wanted, transform)
            if self._interlaced != interlaced:
                images = self._fetch_in_runs(wanted, transform)
            if images is not None:
                return images
        # A seek can miss its frame where key frames are marked wrongly, and a decoder that repairs
        # damage does so from what it has decoded: from the beginning then, leaving nothing out.
        convert = ToImage(self.name)
        with self._take() as decoding:
            images = {
                wanted[pts]: transform(convert(picture))
                for pts, picture in _pick(decoding.pictures_from_start(), wanted)
            }
        clean = self._settled or decoding.num_errors == 0
        return images if clean and len(images) == len(wanted) else None

    def _fetch_in_runs(self, wanted: dict[int, int], transform: Transform) -> Images | None:
        """Frames by index, from key frames on; None if one is missing, a packet can't be decoded,
        or the first interlaced picture is met. `wanted` is pts -> index."""
        convert = ToImage(self.name)
        images: Images = {}
        decoding = self._take()
        if decoding.guesses_pts:
            self._ready = decoding
            return None
        with decoding:
            for run in plan_runs(sorted(wanted), self._places, self._key_places):
                if run.key is not None:
                    try:
                        decoding.seek(run.key, self._key_places[run.key])
                    except av.FFmpegError:
                        return None
                last_place = None if self._interlaced else run.last_place
                pictures = decoding.pictures(wanted.keys(), last_place=last_place)
                for pts, picture in _pick(pictures, run.pts):
                    if picture.interlaced_frame and not self._interlaced:
                        self._interlaced = True
                        return None
                    images[wanted[pts]] = transform(convert(picture))
            if decoding.guesses_pts:
                return None
        return images if len(images) == len(wanted) and decoding.num_errors == 0 else None

    def _seconds(self, tick: float) -> NDArray[np.float64]:
        return ((self._pts - self._pts[:1]) * tick).astype(np.float64)

    def _take(self) -> Decoding:
        """The container that is already open, else a new one. The caller closes it."""
        ready, self._ready = self._ready, None
        ready = ready or self._open()
        ready.deadline = self.deadline
        return ready

    def _open(self) -> Decoding:
        return Decoding(self._source, self.name, deadline=self.deadline, **self._options)


def _pick(
    pictures: Iterator[tuple[int, av.VideoFrame]], wanted: Iterable[int]
) -> Iterator[tuple[int, av.VideoFrame]]:
    """The pictures whose pts is wanted, each once; ends with the last of them."""
    left = set(wanted)
    for pts, picture in pictures:
        if pts in left:
            left.remove(pts)
            yield pts, picture
            if not left:
                return


class DecoderRun(NamedTuple):
    """Frames that are decoded in one pass from a key frame on.

    Args:
        key: pts of the key frame to begin with; None begins with the file.
        pts: of the frames that are wanted, increasing.
        last_place: how many packets of the file lie before the last one that has to be decoded.
    """

    key: int | None
    pts: list[int]
    last_place: int


def plan_runs(
    wanted: Sequence[int], places: Mapping[int, int], key_places: Mapping[int, int]
) -> list[DecoderRun]:
    """The runs that decode the fewest packets: a seek costs nothing beside decoding a picture.

    A frame needs the last key frame that is shown no later than it, and everything between the two.
    Frames between which no key frame lies share a run.

    Args:
        wanted: pts, increasing, each in `places`.
        places: pts -> how many packets of the file lie before that of the frame.
        key_places: the same of the key frames.
    """
    keys = sorted(key_places)
    runs: list[DecoderRun] = []
    for pts in wanted:
        place = places[pts]
        number = bisect_right(keys, pts) - 1
        # Files with a disorder of their own hold frames that are shown after a key frame and
        # stored before it.
        while number >= 0 and key_places[keys[number]] > place:
            number -= 1
        reached = runs[-1].last_place + 1 if runs else 0
        if number >= 0 and key_places[keys[number]] > reached:
            runs.append(DecoderRun(keys[number], [pts], place))
        elif runs:
            last = runs[-1]
            runs[-1] = DecoderRun(last.key, [*last.pts, pts], max(last.last_place, place))
        else:
            runs.append(DecoderRun(None, [pts], place))
    return runs
