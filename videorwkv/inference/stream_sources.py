"""The sources of a stream, opened: those that drop are opened again where that is wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from queue import SimpleQueue

from videorwkv.errors import DecodeError, UsageError
from videorwkv.inference.predict import Source
from videorwkv.inference.track import Told
from videorwkv.video import Video, open_video
from videorwkv.video.live import LiveOptions
from videorwkv.video.pipe import STDIN, is_pipe
from videorwkv.video.reconnect import Reconnecting


@dataclass
class Opened:
    """A source, open.

    Args:
        name: what it is called.
        video: its frames.
        is_own: whether it was opened here, and is closed with the stream.
        note: what the user should know of.
        told: what befalls it, as `Track` takes it.
    """

    name: str
    video: Video
    is_own: bool = True
    note: str = ""
    told: Told = field(default_factory=SimpleQueue)


def title(source: Source | int | Video) -> str:
    """What a source is called where it has got no name."""
    if isinstance(source, Video):
        return source.name
    return f"<{len(source)} bytes>" if isinstance(source, bytes) else str(source)


def open_sources(
    sources: Sequence[Source | int | Video],
    names: Sequence[str],
    *,
    frame_rate: float | None,
    allow_playlists: bool,
    reconnect: bool,
    live: LiveOptions,
    resources: ExitStack,
) -> list[Opened]:
    """Open all sources at once: each may take its time.

    Args:
        sources: see `stream`.
        names: what they are called.
        frame_rate, allow_playlists, reconnect, live: see `stream`.
        resources: closes those that were opened here.

    Raises:
        DecodeError, UsageError: as `stream`.
    """
    live = replace(live, allow_pipes=True)

    def opener(source: Source | int) -> Callable[[], Video]:
        return lambda: open_video(
            source, frame_rate=frame_rate, allow_playlists=allow_playlists, live=live
        )

    def opened(source: Source | int | Video, name: str) -> Opened:
        if isinstance(source, Video):
            return _listening(Opened(name, source, is_own=False))
        return _open(name, source, opener(source), reconnect)

    if len(sources) == 1:
        found = [opened(sources[0], names[0])]
    else:
        with ThreadPoolExecutor(len(sources)) as pool:
            futures = [pool.submit(opened, *one) for one in zip(sources, names, strict=True)]
        for future in futures:
            if future.exception() is not None:  # the others must not stay open
                for other in futures:
                    if other.exception() is None and other.result().is_own:
                        other.result().video.close()
        found = [future.result() for future in futures]
    for one in found:
        if one.is_own:
            resources.callback(one.video.close)
    for one in found:
        if not one.video.is_live and not one.video.tells_rate:
            raise UsageError(
                f"{one.name}: its frames carry no times, and nothing tells their rate. Give it "
                "with --source-fps N (in Python: live=LiveOptions(source_fps=N)), or put the "
                "stream into a container: ffmpeg -r RATE -i FILE -c copy FILE.mp4"
            )
    return found


def _open(name: str, source: Source | int, again: Callable[[], Video], reconnect: bool) -> Opened:
    if not reconnect:
        return Opened(name, again())
    if source == STDIN and is_pipe(source):
        return Opened(name, again(), note=f"{name}: the standard input can't be opened again")
    is_stream = isinstance(source, int) or (
        isinstance(source, str) and ("://" in source or source.isdecimal())
    )
    first: list[Video] = []
    try:
        video = again()
    except DecodeError:
        # A camera may be switched on later than this; what is no file and no address, never.
        if not is_stream:
            raise
    else:
        if not video.is_live:
            return Opened(name, video, note=f"{name}: a file, which is read once")
        first.append(video)

    def reopen() -> Video:
        return first.pop() if first else again()

    return _listening(Opened(name, Reconnecting(name, reopen)))


def _listening(one: Opened) -> Opened:
    """The same, told when its connection is lost."""
    if isinstance(one.video, Reconnecting):
        one.video.tell = lambda event, about: one.told.put((event, about))
    return one
