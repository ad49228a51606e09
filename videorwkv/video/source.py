"""`open_video`: the one door to frames."""

from __future__ import annotations

import math
import os
import stat
import time
from pathlib import Path
from typing import Any

from videorwkv.errors import DecodeError, UsageError, did_you_mean
from videorwkv.video.allowed import scheme
from videorwkv.video.base import IMAGE_SUFFIXES
from videorwkv.video.base import Video as Video
from videorwkv.video.container import ContainerVideo
from videorwkv.video.container_part import ContainerPart
from videorwkv.video.decoding import Decoding
from videorwkv.video.frames_folder import FolderVideo, FrameFiles, image_size, read_file
from videorwkv.video.live import ARRIVAL, LiveOptions, LiveVideo, PipeVideo, open_camera
from videorwkv.video.pipe import STDIN, is_pipe
from videorwkv.video.segment import PartVideo, Segment

DECODERS = ("auto", "pyav", "torchcodec")
# Over TCP no packet of a stream is lost, which would smear the picture until the next key frame.
# Without `nobuffer` the frames by which FFmpeg recognises the stream are shown first, seconds late.
BROADCAST_OPTIONS = {"rtsp_transport": "tcp", "fflags": "nobuffer"}
# Protocols that may carry a file as well as a broadcast.
FILE_SCHEMES = ("file", "http", "https")


def check_decoder(decoder: str) -> None:
    """`UsageError` unless `decoder` is in `DECODERS` and can be loaded."""
    if decoder not in DECODERS:
        raise UsageError(f"Unknown decoder {decoder!r}. {did_you_mean(decoder, DECODERS)}")
    if decoder == "torchcodec":
        from videorwkv.video.torchcodec_video import load_torchcodec

        load_torchcodec()


def check_frame_rate(frame_rate: float | None) -> None:
    """`UsageError` unless it is above 0 and finite, or None."""
    if frame_rate is not None and not 0 < frame_rate < math.inf:
        raise UsageError(f"frame_rate ({frame_rate}) must be above 0 and finite.")


def open_video(
    source: str | Path | bytes | int,
    *,
    decoder: str = "auto",
    frame_rate: float | None = None,
    segment: Segment | None = None,
    allow_playlists: bool = False,
    time_limit: float | None = None,
    live: LiveOptions | None = None,
    name: str | None = None,
) -> Video:
    """Opens anything with frames in it.

    Args:
        source: one of

            - a video file: whatever FFmpeg reads;
            - the content of one, as bytes;
            - a folder of JPEG, PNG, BMP or WebP frames, taken in the order of their numbers; or one
              such picture, a video of one frame;
            - a URL: `http://...` to a file or, where no duration is given, a live stream;
              `rtsp://...` and the like to a live stream;
            - a camera's number; also as a string of digits, unless a file is called that.
        decoder: what decodes video files: `pyav`, or `torchcodec`, which gives the same frames or
            refuses the file. `auto` is PyAV: it is installed with this package, reads all that
            FFmpeg does and what is left of damaged files. Folders of frames and pictures are read
            with OpenCV whatever the decoder.
        frame_rate: frames a second of a folder of frames, which doesn't say; None takes 12, the
            rate of Jester and Something-Something. Files and streams have their own.
        segment: the part that is wanted, as a video of its own; its times begin at 0. What lies
            before it is not decoded, but from the key frame on. None takes the whole.
        allow_playlists: a playlist (HLS, DASH, ffconcat, SDP) makes FFmpeg read other files and
            open connections, so none is followed, whatever it is called. True follows one whose
            name ends as that of a playlist: `.m3u8`, `.m3u`, `.mpd`, `.ffconcat` or `.sdp`.
        time_limit: seconds from now in which a file or folder has to be read; None or 0: any time.
        live: how cameras, streams and pipes are read; its `source_fps` is also that of a file of a
            bare stream.
        name: what messages call the content of a file; None: by its size.

    Returns:
        A `Video`; use it in a `with` block, or call `close()`.

    Raises:
        DecodeError: missing, empty, not a video, without a video stream, a folder without frames,
            no such camera, nothing that may be read, or it ends before the segment does; reading
            frames may raise it, too.
        UsageError: empty text; something else than the above; a segment of a live source; an
            unknown decoder, or one that is not installed or can't read such a source.

    Example:
        >>> with open_video("wave.mp4") as video:  # doctest: +SKIP
        ...     clip = video.sample(num_frames=16)
    """
    check_decoder(decoder)
    check_frame_rate(frame_rate)
    deadline = time.monotonic() + time_limit if time_limit else math.inf
    live = live or LiveOptions()
    options: dict[str, Any] = {
        "playlists": allow_playlists,
        "deadline": deadline,
        "source_fps": live.known_fps,
    }
    if segment is not None:
        options["segment"] = segment
    if isinstance(source, bytes | bytearray | memoryview):
        content = bytes(source)
        name = name or f"<{len(content)} bytes>"
        if not content:
            raise DecodeError(f"{name}: there is nothing in it.")
        return _open_file(content, name, decoder, options)
    if isinstance(source, bool) or not isinstance(source, str | os.PathLike | int):
        raise UsageError(
            "open_video takes a path, bytes, a folder, a URL or a camera number; got "
            f"{type(source).__name__}."
        )
    if isinstance(source, int):
        _refuse_live(f"camera {source}", decoder, segment)
        return open_camera(source, live)
    if isinstance(source, str) and "://" in source:
        _refuse_live(source, decoder)
        return _open_url(source, options, live)
    if live.allow_pipes and is_pipe(source):
        _refuse_live(str(source), decoder, segment)
        return PipeVideo(source, "standard input" if source == STDIN else str(source), live)
    if not os.fspath(source):
        raise UsageError(
            "open_video: the source is empty text; give a path, a URL or a camera's number, or '.' "
            "for the frames in this folder."
        )
    path = Path(source)
    name = str(source)
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        if isinstance(source, str) and source.isdecimal():
            _refuse_live(f"camera {source}", decoder, segment)
            return open_camera(int(source), live)
        raise DecodeError(f"{name}: no such file.") from error
    except (OSError, ValueError) as error:
        # No right to look into its folder, a name that is too long or has a zero byte in it.
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise DecodeError(f"{name}: it can't be opened: {reason}.") from error
    if stat.S_ISDIR(status.st_mode):
        if live.source_fps is not None:
            raise UsageError(
                f"{name}: the rate of a folder of frames is --frame-rate (frame_rate), not "
                "--source-fps (source_fps)."
            )
        return FolderVideo(path, name, frame_rate, segment=segment, deadline=deadline)
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise DecodeError(f"{name}: the file is empty.")
    _refuse_arrival(name, live)
    # A video may have such a name.
    if path.suffix.lower() in IMAGE_SUFFIXES and image_size(read_file(path) or b"") != (0, 0):
        return FrameFiles([path], name, frame_rate, segment=segment, deadline=deadline)
    # Absolute, so that FFmpeg takes no part of the name for a protocol or an option.
    return _open_file(os.path.abspath(path), name, decoder, options)


def _open_file(source: str | bytes, name: str, decoder: str, options: dict[str, Any]) -> Video:
    if decoder == "torchcodec":
        from videorwkv.video.torchcodec_video import TorchcodecVideo

        if options["source_fps"] is not None:
            raise UsageError(f"{name}: source_fps is for decoder 'pyav'.")
        whole = TorchcodecVideo(source, name)
        return PartVideo(whole, options["segment"]) if "segment" in options else whole
    return _container(source, name, options)


def _container(source: str | bytes, name: str, options: dict[str, Any]) -> ContainerVideo:
    make = ContainerPart if "segment" in options else ContainerVideo
    return make(source, name, **options)


def _refuse_live(name: str, decoder: str, segment: Segment | None = None) -> None:
    if segment is not None:
        raise UsageError(f"{name}: a live source has no segments; record it first.")
    if decoder == "torchcodec":
        raise UsageError(
            f"{name}: decoder 'torchcodec' reads files and bytes; for cameras and URLs take 'pyav'."
        )


def _refuse_arrival(name: str, live: LiveOptions) -> None:
    if live.source_fps == ARRIVAL:
        raise UsageError(
            f"{name}: this is a file, whose frames come as fast as they are read; --source-fps "
            "(source_fps) takes a number for it."
        )


def _open_url(url: str, options: dict[str, Any], live: LiveOptions) -> Video:
    playlists: bool = options["playlists"]
    timeout = live.timeout or None
    if scheme(url) in FILE_SCHEMES:
        decoding = Decoding(
            url, url, timeout=timeout, playlists=playlists, source_fps=live.known_fps
        )
        if decoding.duration is None:
            if "segment" in options:
                decoding.__exit__(None, None, None)
                _refuse_live(url, "pyav", options["segment"])
            # A camera may bear one viewer only, so it is not opened again.
            return LiveVideo(url, url, decoding=decoding, playlists=playlists, live=live)
        decoding.__exit__(None, None, None)
        _refuse_arrival(url, live)
        return _container(url, url, {**options, "timeout": timeout})
    _refuse_live(url, "pyav", options.get("segment"))
    return LiveVideo(url, url, options=BROADCAST_OPTIONS, playlists=playlists, live=live)
