"""Video files and their bytes.

Frames are known by their presentation timestamp (pts), never by counting: after a seek nobody knows
how many frames went by. Each operation opens the container anew (0.5-5 ms), so a decoder never
starts in an unknown state and two operations can't disturb each other.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import av
import numpy as np
from numpy.typing import NDArray

from videorwkv.video.base import Images, Video, incomplete
from videorwkv.video.clip import Frame
from videorwkv.video.decoding import Decoding
from videorwkv.video.picture import ToImage

# Old AVI files with B-frames leave the decoder a few frames out of order.
REORDER = 4
# Up to this many frames, decoding on is about as cheap as a seek.
SEEK_FRAMES = 8


class ContainerVideo(Video):
    """A video with a beginning and an end: a file, its content, or a URL to one.

    Args:
        source: path or URL, or the file's content.
        name: what messages call it.
        timeout: seconds to wait for a network; None for files.

    Raises:
        DecodeError: it can't be opened, is no video or has no video stream.
    """

    def __init__(self, source: str | bytes, name: str, *, timeout: float | None = None) -> None:
        super().__init__(name)
        self._source = source
        self._timeout = timeout
        self._pts = np.empty(0, np.int64)
        self._key_pts = np.empty(0, np.int64)
        # Frames that there should be, as far as known.
        self._total = 0
        # True once `_pts` comes from decoding: then it can be trusted, seeks can't.
        self._settled = False
        self._open().__exit__(None, None, None)

    def __iter__(self) -> Iterator[Frame]:
        self._check_open()
        return self._iterate()

    def _iterate(self) -> Iterator[Frame]:
        convert = ToImage()
        waiting: list[tuple[int, int, av.VideoFrame]] = []
        decoded: list[int] = []
        first: int | None = int(self._pts[0]) if len(self._pts) else None
        last: int | None = None
        with self._open() as decoding:
            pictures = decoding.pictures()
            while True:
                arrived = next(pictures, None)
                if arrived is not None:
                    pts, picture = arrived
                    decoded.append(pts)
                    heapq.heappush(waiting, (pts, len(decoded), picture))
                    if len(waiting) <= REORDER:
                        continue
                elif not waiting:
                    break
                pts, _, picture = heapq.heappop(waiting)
                if last is not None and pts <= last:
                    continue
                first = pts if first is None else first
                last = pts
                yield Frame(convert(picture), (pts - first) * decoding.tick)
        if not self._settled and (decoding.num_errors or len(decoded) < decoding.num_expected):
            self._keep(self._settle(decoded, decoding))
        elif last is None:
            self._keep(np.empty(0))

    def _scan(self) -> NDArray[np.float64]:
        shown: list[int] = []
        keys: list[int] = []
        with self._open() as decoding:
            for packet in decoding.packets():
                if packet.size == 0 or packet.is_discard:
                    continue
                if packet.pts is None:
                    return self._rescan()
                shown.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
        self._pts = np.unique(np.asarray(shown, np.int64))
        self._key_pts = np.unique(np.asarray(keys, np.int64))
        # Two packets with one pts are one frame.
        self._total = decoding.num_expected - (len(shown) - len(self._pts))
        self._warn_of_missing()
        return self._seconds(decoding.tick)

    def _rescan(self) -> NDArray[np.float64]:
        with self._open() as decoding:
            decoded = [pts for pts, _ in decoding.pictures()]
        return self._settle(decoded, decoding)

    def _settle(self, decoded: list[int], decoding: Decoding) -> NDArray[np.float64]:
        """Takes over the pts that a whole pass has decoded."""
        self._pts = np.unique(np.asarray(decoded, np.int64))
        expected = decoding.num_expected - (len(decoded) - len(self._pts))
        self._total = max(self._total, expected)
        self._settled = True
        self._warn_of_missing()
        return self._seconds(decoding.tick)

    def _warn_of_missing(self) -> None:
        if len(self._pts) < self._total:
            self._warnings = (incomplete(len(self._pts), self._total),)

    def _fetch(self, indices: NDArray[np.int64], short_side: int | None) -> Images | None:
        wanted = {int(self._pts[index]): int(index) for index in indices}
        if self._settled:
            images, _ = self._collect(wanted, short_side, seek=False)
            return images if len(images) == len(wanted) else None
        # A seek can miss its frame where key frames are marked wrongly: then once more without.
        for seek in (True, False):
            images, clean = self._collect(wanted, short_side, seek=seek)
            if clean and len(images) == len(wanted):
                return images
        return None

    def _collect(
        self, wanted: dict[int, int], short_side: int | None, *, seek: bool
    ) -> tuple[Images, bool]:
        """Frames whose pts is wanted, by index, and whether everything met could be decoded."""
        convert = ToImage(short_side)
        images: Images = {}
        # A decoder that repairs damage does so from what it has decoded: leave nothing out then.
        needed = wanted.keys() if seek else None
        with self._open() as decoding:
            pictures = decoding.pictures(needed)
            at = -1  # index of the last frame decoded
            for target, index in sorted(wanted.items()):
                if index in images:
                    continue
                if seek:
                    key = int(np.searchsorted(self._key_pts, target, side="right")) - 1
                    start = int(np.searchsorted(self._pts, self._key_pts[key])) if key >= 0 else 0
                    if start - at > SEEK_FRAMES:
                        try:
                            decoding.seek(int(self._key_pts[key]))
                        except av.FFmpegError:
                            return images, False
                        pictures = decoding.pictures(needed)
                for pts, picture in pictures:
                    at = int(np.searchsorted(self._pts, pts))
                    if pts in wanted and wanted[pts] not in images:
                        images[wanted[pts]] = convert(picture)
                    if index in images:
                        break
                else:
                    break
        return images, decoding.num_errors == 0

    def _seconds(self, tick: float) -> NDArray[np.float64]:
        return ((self._pts - self._pts[:1]) * tick).astype(np.float64)

    def _open(self) -> Decoding:
        return Decoding(self._source, self.name, timeout=self._timeout)
