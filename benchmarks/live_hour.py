"""Twenty live sources for an hour, some of which drop or change their size: does memory stay flat,
and is every frame classified or counted?

Time is compressed: the sources' clock runs `--speed` times as fast as this machine's, so their
frames come so much faster, and those that the model can't take are dropped. Exit code 1 if memory
grows by more than 1 % between the second tenth and the last, or if a frame, a drop or a change of
size is not accounted for. Linux only.

Of glibc's heap it is also told what is in use: where resident memory grows and that does not, it is
the allocator, which keeps what was freed, and no leak.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from videorwkv.errors import DecodeError
from videorwkv.inference.pacing import paced
from videorwkv.inference.recogniser import ModelLike, Recogniser
from videorwkv.inference.stream import StreamEvent, stream
from videorwkv.preprocess.inputs import Inputs
from videorwkv.video import Frame, Video
from videorwkv.video.array import ArrayVideo
from videorwkv.video.reconnect import Reconnecting

FLOOR = 0.01
PAGE = os.sysconf("SC_PAGESIZE")
# Camera -> what befalls it, as parts of the whole: it is away from one part to another, or its
# pictures have another size from there on.
AWAY = {3: [(0.15, 0.155), (0.65, 0.70)], 7: [(0.40, 0.41)]}
RESIZED = {5: (0.30, (72, 96)), 11: (0.80, (64, 48))}
SIZE = (48, 64)


@dataclass
class World:
    """The sources' clock: `speed` of its seconds pass in one of this machine's.

    Args:
        speed: see above.
        seconds: after which the stream is closed.
        rate: frames a second of each source.
    """

    speed: float
    seconds: float
    rate: float

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.ended = threading.Event()

    def now(self) -> float:
        return (time.monotonic() - self.began) * self.speed

    def wait(self, seconds: float) -> bool:
        return self.ended.wait(max(0.0, seconds) / self.speed)


class Camera(Video):
    """One connection to a generated camera: a square that moves over noise.

    Args:
        world: its clock.
        number: which camera.
    """

    is_live = True

    def __init__(self, world: World, number: int) -> None:
        super().__init__(f"camera {number}")
        self.world, self.number = world, number
        now = world.now()
        for begins, ends in AWAY.get(number, []):
            if begins * world.seconds <= now < ends * world.seconds:
                raise DecodeError(f"{self.name}: no route to host")
        self.grounds = {
            size: np.random.default_rng(number).integers(60, 120, (*size, 3), dtype=np.uint8)
            for size in (SIZE, *(size for _, size in RESIZED.values()))
        }

    def __iter__(self) -> Iterator[Frame]:
        world, start = self.world, self.world.now()
        breaks = [a * world.seconds for a, _ in AWAY.get(self.number, [])]
        change, other = RESIZED.get(self.number, (2.0, SIZE))
        for tick in range(10**9):
            due = start + tick / world.rate
            if world.wait(due - world.now()):
                return
            if any(start < at <= due for at in breaks):
                raise DecodeError(f"{self.name}: the stream broke off: unplugged.")
            image_HWC = self.grounds[other if due >= change * world.seconds else SIZE].copy()
            left = int(20 * due) % (image_HWC.shape[1] - 16)
            image_HWC[12:28, left : left + 16] = 220
            yield Frame(image_HWC, due - start)

    def _scan(self) -> Any:
        raise NotImplementedError

    _rescan = _fetch = _scan  # type: ignore[assignment]


class Recorded(Reconnecting):
    """A camera that notes the times of its frames, as the stream gets them."""

    given: np.ndarray
    count = 0

    def __iter__(self) -> Iterator[Frame]:
        for frame in super().__iter__():
            if self.count < len(self.given):
                self.given[self.count] = frame.time
                self.count += 1
            yield frame


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a run, or an exported file")
    parser.add_argument("--sources", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3600.0, help="by the sources' clock")
    parser.add_argument("--speed", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=4.0, help="frames a second of a source")
    parser.add_argument("--fps", type=float, default=2.0, help="frames a second for the model")
    options = parser.parse_args(arguments)
    result = measure(
        options.run,
        options.sources,
        World(options.speed, options.seconds, options.rate),
        options.fps,
    )
    for name, value in result.items():
        print(f"{name:<28} {value}")
    floors = ("memory_flat", "all_accounted_for")
    missed = [name for name in floors if not result[name]]
    print(f"missed: {', '.join(missed)}" if missed else "all floors kept")
    return 1 if missed else 0


def measure(run: ModelLike, sources: int, world: World, fps: float) -> dict[str, Any]:
    """The stream of all sources until the world's end."""
    # Filled, not only asked for: pages that are touched later would look like growth.
    room = int(1.2 * world.seconds * world.rate) + 1000
    given = [np.full(room, np.nan) for _ in range(sources)]
    seen = [np.full(room, -1) for _ in range(sources)]
    cameras = [
        Recorded(
            f"camera {number}",
            lambda number=number: Camera(world, number),  # type: ignore[misc]
            clock=world.now,
            wait=world.wait,
        )
        for number in range(sources)
    ]
    for camera, times in zip(cameras, given, strict=True):
        camera.given = times
    recogniser = warmed(run, sources)
    events: list[StreamEvent] = []
    memory, in_use = np.full(1000, np.nan), np.full(1000, np.nan)
    with stream(recogniser, cameras, fps=fps, on_event=events.append) as predictions:
        world.began = time.monotonic()
        place = {name: number for number, name in enumerate(predictions.names)}
        counts = np.zeros(sources, int)
        dropped = [0] * sources
        for prediction in predictions:
            number = place[prediction.source]
            seen[number][counts[number]] = prediction.number
            counts[number] += 1
            # As of this frame: a step may have counted on for sources whose turn is still to come.
            dropped[number] = prediction.dropped
            now = world.now()
            part = min(999, int(1000 * now / world.seconds))
            if np.isnan(memory[part]):
                in_use[part] = heap_in_use()
            memory[part] = resident()
            if now >= world.seconds:
                break
        summary = predictions.summary().splitlines()[0]
        frames, drops, sizes = int(counts.sum()), predictions.drops, predictions.sizes
        world.ended.set()
    known = memory[np.isfinite(memory)]
    tenth = len(known) // 10
    second, last = known[tenth : 2 * tenth].mean(), known[-tenth:].mean()
    lost = [unaccounted(given[n], seen[n][: counts[n]], dropped[n], fps) for n in range(sources)]
    expected = sum(len(parts) for n, parts in AWAY.items() if n < sources)
    resized = sum(n < sources for n in RESIZED)
    told = Counter(event.event for event in events)
    return {
        "summary": summary,
        "hours_by_the_sources": round(world.seconds / 3600, 3),
        "frames_given": sum(int(np.isfinite(one).sum()) for one in given),
        "frames_classified": frames,
        "frames_dropped": sum(dropped),
        "frames_unaccounted_for": sum(lost),
        "connections_lost": f"{drops} of {expected}",
        "changes_of_size": f"{sizes} of {resized}",
        "events": dict(told),
        "rss_by_tenth_mib": [round(float(part.mean()), 1) for part in np.array_split(known, 10)],
        "heap_in_use_by_tenth_mib": [
            round(float(part.mean()), 1) for part in np.array_split(in_use[np.isfinite(memory)], 10)
        ],
        "rss_second_tenth_mib": round(second, 2),
        "rss_last_tenth_mib": round(last, 2),
        "rss_change": f"{last / second - 1:+.3%}",
        "memory_flat": bool(abs(last / second - 1) <= FLOOR),
        "all_accounted_for": not any(lost) and (drops, sizes) == (expected, resized),
    }


def warmed(run: ModelLike, sources: int) -> Recogniser:
    """The model, after a step of each size: PyTorch keeps some memory for each."""
    recogniser = Recogniser.open(run, what="stream", fastest=True)
    black = recogniser.network.preprocess(np.zeros((*SIZE, 3), np.uint8))
    for count in range(1, sources + 1):
        inputs = Inputs(*(part.repeat_interleave(count, 0) for part in black))
        state = recogniser.init_state(sources)
        rows = list(range(count))
        state.put(rows, recogniser.step(inputs, state.select(rows), "black frames")[1])
    return recogniser


def unaccounted(given: np.ndarray, seen: np.ndarray, dropped: int, fps: float) -> int:
    """Due frames of a source up to the last one seen that were neither classified nor counted."""
    times = given[np.isfinite(given)]
    video = ArrayVideo("", np.zeros((len(times), 1, 1, 3), np.uint8), times - times[0])
    due = [one.number for one in paced(video, fps, 2.0)]
    until = sum(number <= seen[-1] for number in due)
    return abs(until - len(seen) - dropped)


def heap_in_use() -> float:
    """What glibc's allocator has given out and not got back, in MiB; NaN with another library."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "malloc_info"):
        return float("nan")
    library.fopen.restype = ctypes.c_void_p
    with tempfile.NamedTemporaryFile("r") as file:
        stream = ctypes.c_void_p(library.fopen(file.name.encode(), b"w"))
        library.malloc_info(0, stream)
        library.fclose(stream)
        text = file.read()
    # Behind the arenas come the sums over all of them.
    sums = text[text.rindex("</heap>") :]
    found = {kind: int(size) for kind, size in re.findall(r'type="(\w+)"[^>]*? size="(\d+)"', sums)}
    return (found["current"] + found["mmap"] - found["fast"] - found["rest"]) / 2**20


def resident() -> float:
    """Memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


if __name__ == "__main__":
    sys.exit(main())
