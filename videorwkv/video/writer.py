"""Frames -> a video file. T frames, H height, W width, C = 3 (RGB)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import UsageError, did_you_mean
from videorwkv.utils.files import atomic

SUFFIXES = (".mp4", ".gif")
# Slower ones would round to 0, faster ones are beyond what clocks of files count.
MIN_FPS = 0.001
MAX_FPS = 1e6


def write_video(
    path: str | Path,
    frames_THWC: NDArray[np.uint8] | Iterable[NDArray[np.uint8]],
    fps: float,
    *,
    fragment: float | None = None,
) -> None:
    """Writes an `.mp4` (H.264) or a `.gif` (256 colours chosen from the frames).

    The file appears under its name only when it is complete. In an mp4 the last row or column is
    repeated where H or W is odd, as its colours are stored at half the size.

    Args:
        path: its suffix chooses the format; an existing file is replaced.
        frames_THWC: RGB, uint8, [T, H, W, 3], or anything that gives T frames [H, W, 3].
        fps: frames a second. A gif counts in hundredths of a second and rounds.
        fragment: seconds after which an mp4 is playable as far as it has come, again and again: for
            films that are long in the making. It is called NAME.part.mp4 until it is complete, and
            stays so if the program is killed. None: as players like it best, its index at the end.

    Raises:
        UsageError: unknown suffix, no frames, frames of the wrong kind or of several sizes, or a
            rate outside of `MIN_FPS` and `MAX_FPS`.
        OSError: the folder is missing or can't be written to.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"write_video: unknown suffix {suffix!r} of {path.name}. "
            f"{did_you_mean(suffix, SUFFIXES)}"
        )
    if fragment is not None and suffix != ".mp4":
        raise UsageError("write_video: only an .mp4 can be written in fragments.")
    if not MIN_FPS <= fps <= MAX_FPS:
        raise UsageError(f"write_video: fps ({fps}) must lie in [{MIN_FPS:g}, {MAX_FPS:g}].")
    write: Any = _write_mp4 if suffix == ".mp4" else _write_gif
    # Opened here, because FFmpeg's own error for a missing folder names no folder.
    name, options = "", {}
    if fragment is not None:
        name = f"{path.stem}.part{path.suffix}"
        options = {
            "movflags": "empty_moov+default_base_moof+frag_keyframe",
            "frag_duration": f"{fragment * 1e6:.0f}",
            "flush_packets": "1",
        }
    rate = Fraction(float(fps)).limit_denominator(10_000)
    with (
        atomic(path, name) as file,
        av.open(file, "w", format=suffix[1:], container_options=options) as container,
    ):
        write(container, _checked(frames_THWC), rate, fragment)


def _checked(frames_THWC: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    shape: tuple[int, ...] | None = None
    for frame_HWC in frames_THWC:
        if frame_HWC.dtype != np.uint8 or frame_HWC.ndim != 3 or frame_HWC.shape[-1] != 3:
            raise UsageError(
                "write_video: frames must be RGB uint8 [H, W, 3]; got "
                f"{list(frame_HWC.shape)} {frame_HWC.dtype}."
            )
        if shape is not None and frame_HWC.shape != shape:
            raise UsageError(
                "write_video: all frames must have one size; got "
                f"{list(shape)} and {list(frame_HWC.shape)}."
            )
        shape = frame_HWC.shape
        yield np.ascontiguousarray(frame_HWC)
    if shape is None:
        raise UsageError("write_video: there are no frames to write.")


def _write_mp4(
    container: av.container.OutputContainer,
    frames: Iterator[NDArray[np.uint8]],
    rate: Fraction,
    fragment: float | None,
) -> None:
    stream = None
    for index, frame_HWC in enumerate(frames):
        height, width = frame_HWC.shape[:2]
        even_HWC = np.pad(frame_HWC, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if stream is None:
            # Builds of FFmpeg without GPL parts have no libx264; MPEG-4 part 2 is in all of them.
            if "libx264" in av.codecs_available:
                stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
            else:
                stream = container.add_stream("mpeg4", rate=rate, options={"qscale": "3"})
                stream.codec_context.bit_rate = max(400_000, int(width * height * rate * 0.3))
            if fragment is not None:  # each begins with a key frame
                stream.codec_context.gop_size = max(1, round(fragment * rate))
            stream.height, stream.width = even_HWC.shape[:2]
            stream.pix_fmt = "yuv420p"
        picture = av.VideoFrame.from_ndarray(even_HWC, format="rgb24")
        picture.pts, picture.time_base = index, 1 / rate
        container.mux(stream.encode(picture))
    assert stream is not None
    container.mux(stream.encode(None))


def _write_gif(
    container: av.container.OutputContainer,
    frames: Iterator[NDArray[np.uint8]],
    rate: Fraction,
    fragment: None,
) -> None:
    """The best 256 colours are known after the last frame only, so all are held until then."""
    stream = None
    graph = av.filter.Graph()
    for index, frame_HWC in enumerate(frames):
        if stream is None:
            height, width = frame_HWC.shape[:2]
            stream = container.add_stream("gif", rate=rate)
            stream.height, stream.width, stream.pix_fmt = height, width, "pal8"
            source = graph.add_buffer(
                width=width, height=height, format="rgb24", time_base=1 / rate
            )
            split, generate, use = (
                graph.add("split"),
                graph.add("palettegen", "stats_mode=full"),
                graph.add("paletteuse", "dither=sierra2_4a:diff_mode=rectangle"),
            )
            source.link_to(split)
            split.link_to(use, 0, 0)
            split.link_to(generate, 1, 0)
            generate.link_to(use, 0, 1)
            use.link_to(graph.add("buffersink"))
            graph.configure()
        picture = av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")
        picture.pts, picture.time_base = index, 1 / rate
        graph.push(picture)
    assert stream is not None
    graph.push(None)
    while True:
        try:
            picture = graph.pull()
        except (av.error.EOFError, av.error.BlockingIOError):
            break
        container.mux(stream.encode(picture))
    container.mux(stream.encode(None))
