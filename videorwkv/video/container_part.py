"""A segment of a video file: its frames are decoded from the key frame before it on.

What frames a file has is read from its packets, which takes a pass over the file. As many segments
may lie in one file, each process remembers that for the files that it has met.
"""

from __future__ import annotations

import heapq
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from videorwkv.video.base import Frame
from videorwkv.video.container import REORDER, ContainerVideo, plan_runs
from videorwkv.video.decoding import MAX_REORDER, Decoding
from videorwkv.video.segment import Segment, part_name
from videorwkv.video.to_image import ToImage

# Frames of all files that are remembered: 40 hours at 30 frames a second take about 70 MB.
REMEMBERED = 5_000_000


class ContainerPart(ContainerVideo):
    """A segment of a file, of its content, or of a URL to one; errors as `ContainerVideo`.

    Args:
        source, name, options: as in `ContainerVideo`.
        segment: which part of it.
    """

    def __init__(self, source: str | bytes, name: str, segment: Segment, **options: Any) -> None:
        super().__init__(source, part_name(name, segment), **options)
        self._segment = segment
        # pts of the first frame, and of the one behind the last; None until the frames are known.
        self._bounds: tuple[int, float] | None = None

    def _scan(self) -> NDArray[np.float64]:
        key = _file_key(self._source)
        packets = _remembered(key)
        if packets is None:
            super()._scan()
            packets = self._packets()
            if not self._settled and key is not None:
                _remember(key, packets)
        self._warnings = packets.warnings
        times = ((packets.pts - packets.pts[:1]) * self._tick).astype(np.float64)
        if not len(times):
            return times
        found = self._segment.find(times, self.name)
        self._warnings += found.warnings
        self._pts = packets.pts[found.first : found.stop]
        end = packets.pts[found.stop] if found.stop < len(packets.pts) else np.inf
        self._bounds = int(self._pts[0]), float(end)
        places = packets.places[found.first : found.stop].tolist()
        self._places = dict(zip(self._pts.tolist(), places, strict=True))
        self._key_places = dict(packets.key_places)
        self._total = len(self._pts)
        return self._seconds(self._tick)

    def _packets(self) -> Packets:
        """What `_scan` has found out about the whole file."""
        places = [self._places.get(pts, 0) for pts in self._pts.tolist()]
        return Packets(
            self._pts, np.asarray(places, np.int32), dict(self._key_places), self._warnings
        )

    def _rescan(self) -> NDArray[np.float64]:
        if self._bounds is None:
            return super()._rescan()
        decoded: list[int] = []
        with self._open() as decoding:
            behind = 0
            for pts, _ in decoding.pictures_from_start():
                decoded.append(pts)
                behind += pts >= self._bounds[1]
                if behind > REORDER:
                    break
        return self._settle(decoded, decoding)

    def _settle(self, decoded: list[int], decoding: Decoding) -> NDArray[np.float64]:
        if self._bounds is None:
            return super()._settle(decoded, decoding)
        first, end = self._bounds
        self._pts = np.unique(np.asarray([p for p in decoded if first <= p < end], np.int64))
        self._settled = True
        self._warn_of_missing()
        return self._seconds(decoding.tick)

    def _iterate(self) -> Iterator[Frame]:
        times = self.times()
        given = 0
        if not self._settled:
            for image_HWC in self._images_in_runs():
                yield Frame(image_HWC, float(times[given]))
                given += 1
            if given == len(times):
                return
            # As `_fetch`: a seek has missed a frame, or one can't be decoded. What was given stays.
            last = int(self._pts[given - 1]) if given else None
            self._keep(self._rescan())
            times = self.times()
            given = 0 if last is None else int(np.searchsorted(self._pts, last, side="right"))
        wanted = self._pts[given:].tolist()
        convert = ToImage(self.name)
        with self._take() as decoding:
            for picture in _in_order(decoding.pictures_from_start(), wanted):
                yield Frame(np.ascontiguousarray(convert(picture)), float(times[given]))
                given += 1

    def _images_in_runs(self) -> Iterator[NDArray[np.uint8]]:
        """All images [H, W, 3] in order, decoded from the key frame on; ends before the first one
        that can't be had in this way."""
        convert = ToImage(self.name)
        decoding = self._take()
        if decoding.guesses_pts:
            self._ready = decoding
            return
        with decoding:
            runs = plan_runs(self._pts.tolist(), self._places, self._key_places)
            first = runs[0].key
            if first is not None:
                try:
                    decoding.seek(first, self._key_places[first])
                except av.FFmpegError:
                    return
            for picture in _in_order(decoding.pictures(), self._pts.tolist()):
                if decoding.num_errors or decoding.guesses_pts:
                    return
                yield np.ascontiguousarray(convert(picture))


class Packets(NamedTuple):
    """What the packets of a file tell.

    Args:
        pts: of the frames, increasing, int64 [N].
        places: how many packets lie before that of each frame, int32 [N].
        key_places: pts -> the same, of the key frames.
        warnings: what was found wrong.
    """

    pts: NDArray[np.int64]
    places: NDArray[np.int32]
    key_places: Mapping[int, int]
    warnings: tuple[str, ...]


def _in_order(
    pictures: Iterator[tuple[int, av.VideoFrame]], wanted: list[int]
) -> Iterator[av.VideoFrame]:
    """The pictures with the pts `wanted` (increasing), in that order; ends before the first that is
    missing."""
    waiting: list[tuple[int, int, av.VideoFrame]] = []
    left = set(wanted)
    place = 0
    for number, (pts, picture) in enumerate(pictures):
        if pts not in left:
            continue
        left.remove(pts)
        heapq.heappush(waiting, (pts, number, picture))
        while waiting and waiting[0][0] == wanted[place]:
            place += 1
            yield heapq.heappop(waiting)[2]
        if place == len(wanted) or len(waiting) > MAX_REORDER:
            return


# What is known of files, the last one used at the end; of this process alone.
_FILES: OrderedDict[tuple[str, int, int], Packets] = OrderedDict()


def _file_key(source: str | bytes) -> tuple[str, int, int] | None:
    """A file with its size and time of change; None for what is no file."""
    if isinstance(source, bytes) or "://" in source:
        return None
    status = os.stat(source)
    return source, status.st_size, status.st_mtime_ns


def _remembered(key: tuple[str, int, int] | None) -> Packets | None:
    if key is None or key not in _FILES:
        return None
    _FILES.move_to_end(key)
    return _FILES[key]


def _remember(key: tuple[str, int, int], packets: Packets) -> None:
    _FILES[key] = packets
    total = sum(len(known.pts) for known in _FILES.values())
    while total > REMEMBERED and len(_FILES) > 1:
        total -= len(_FILES.popitem(last=False)[1].pts)
