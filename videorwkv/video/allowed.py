"""What FFmpeg may open: nothing but the file, the bytes or the address that was given.

Some formats are texts that name other files, streams or devices, and FFmpeg knows them by their
content, whatever the file is called. A clip from somewhere else could so read the user's files, or
open connections. FFmpeg is told which formats and protocols it may use before it looks into a file.
"""

from __future__ import annotations

import functools
import io
import os
import re
import stat
from pathlib import Path
from typing import Any

import av

from videorwkv.errors import DecodeError, UsageError
from videorwkv.video.pipe import Pipe

# A title in another encoding than UTF-8 makes no video unreadable. PyAV before 19 has to be told.
_METADATA: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
)
# Formats that refer to other files or streams, that run scripts, or that are no files but devices.
REFERRING = frozenset(
    (
        *("avisynth", "concat", "dash", "dvdvideo", "hls", "image2", "imf", "lavfi", "rtp", "rtsp"),
        *("sap", "sdp", "vapoursynth", "vobsub", "webm_dash_manifest", "libcdio", "bluray"),
        *("alsa", "avfoundation", "decklink", "dshow", "fbdev", "gdigrab", "iec61883", "jack"),
        *("kmsgrab", "openal", "oss", "pulse", "sndio", "v4l2", "vfwcap", "video4linux2"),
        *("x11grab", "xcbgrab", "libdc1394", "openh264", "android_camera", "audio_toolbox"),
    )
)
# Of these, those that a user may name openly, by their endings.
PLAYLISTS = {
    ".m3u8": "hls", ".m3u": "hls", ".mpd": "dash", ".ffconcat": "concat", ".sdp": "sdp",
}  # fmt: skip
# What is in a text that FFmpeg would follow.
_MARKS = (
    (rb"\s*ffconcat version", "a list of files (ffconcat)"),
    (rb"\s*#EXTM3U", "a playlist (HLS)"),
    (rb"v=0\s+o=", "a description of streams (SDP)"),
    (rb"(?s).{0,2000}<MPD", "a playlist (DASH)"),
    (rb"(?s).{0,2000}<(AssetMap|CompositionPlaylist)", "a playlist (IMF)"),
    (rb"# VobSub index", "an index of subtitles (VobSub)"),
    (rb"\[(playlist|Reference)\]", "a playlist"),
)
# Pictures without any header.
RAW_SUFFIXES = (".yuv", ".rgb", ".cif", ".qcif", ".v210", ".yuv10")
_FILE, _BYTES = ("file",), ("none",)
_WEB = ("http", "https", "tcp", "tls", "httpproxy", "crypto", "data")
# Schemes of live sources, with all that they are carried by.
LIVE_SCHEMES = (
    *("rtsp", "rtsps", "rtp", "udp", "tcp", "tls", "srt", "srtp", "rist", "mmsh", "mmst"),
    *("rtmp", "rtmpe", "rtmps", "rtmpt", "rtmpte", "rtmpts", "ffrtmphttp", "ffrtmpcrypt"),
)


def scheme(source: str) -> str:
    """`rtsp` of `rtsp://host/path`; empty for a path."""
    return source.split("://", 1)[0].lower() if "://" in source else ""


def open_container(
    source: str | bytes | Pipe,
    name: str,
    container_format: str | None,
    options: dict[str, str],
    timeout: float | None,
    playlists: bool,
) -> av.container.InputContainer:
    """A source opened by FFmpeg, which opens nothing else for it.

    Args:
        source: absolute path, address, a file's content, or a pipe.
        name: what messages call it.
        container_format: FFmpeg's name of the input format, for devices; None detects it.
        options: FFmpeg's options for opening.
        timeout: seconds to wait for a network or a device.
        playlists: let a playlist be followed, if the source is called one.

    Raises:
        DecodeError: it can't be opened, or must not be.
        UsageError: an address of a kind that is not read.
    """
    if container_format is None:
        options = {**options, **open_options(source, playlists=playlists)}
        if isinstance(source, str) and not scheme(source):
            _require_file(source, name)
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        return av.open(file, format=container_format, options=options, timeout=timeout, **_METADATA)
    except av.FFmpegError as error:
        if isinstance(source, Pipe):
            raise _unreadable_pipe(source, name, error) from error
        # What FFmpeg says of a format that is not on its list.
        is_unlisted = isinstance(error, av.error.ArgumentError)
        refused = refusal(source, name, is_unlisted=is_unlisted)
        raise refused or DecodeError(f"{name}: {_reason(error, name)}") from error


def _require_file(path: str, name: str) -> None:
    """`DecodeError` for what would be waited for, or has no end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return  # FFmpeg will say why
    if not stat.S_ISREG(mode):
        raise DecodeError(
            f"{name}: this is a pipe, a socket, a device or a folder, not a file. Write its "
            "content to a file first; cameras are opened by their number, and `videorwkv stream` "
            "reads pipes."
        )


def _unreadable_pipe(pipe: Pipe, name: str, error: av.FFmpegError) -> DecodeError:
    is_unlisted = isinstance(error, av.error.ArgumentError)
    if not pipe.head:
        return DecodeError(f"{name}: it was closed before anything was written to it.")
    if (refused := refusal(pipe.head, name, is_unlisted=is_unlisted)) is not None:
        return refused
    return DecodeError(
        f"{name}: FFmpeg can't read this as a video. A pipe can't go back, so what stands at the "
        "end of a usual .mp4 comes too late: write Matroska, MPEG-TS, fragmented MP4, raw H.264 or "
        "MJPEG into it, such as ffmpeg -i FILE -c copy -f matroska -"
    )


def _reason(error: av.FFmpegError, name: str) -> str:
    if isinstance(error, av.error.ArgumentError) and name.lower().endswith(RAW_SUFFIXES):
        return (
            "these are raw pictures, which do not say how large they are. Put them into a "
            "container: ffmpeg -f rawvideo -pixel_format yuv420p -video_size WIDTHxHEIGHT "
            "-framerate RATE -i FILE -c:v ffv1 FILE.mkv"
        )
    if isinstance(error, av.error.InvalidDataError):
        return "this is not a video that FFmpeg can read, or its beginning is damaged."
    if isinstance(error, av.error.FileNotFoundError):
        return "no such file."
    return f"it can't be opened: {error.strerror}."


def open_options(source: str | bytes | Pipe, *, playlists: bool) -> dict[str, str]:
    """FFmpeg's options for opening a source.

    Args:
        source: an absolute path, an address, a file's content, or a pipe.
        playlists: let a playlist be followed, if the source is called one.

    Raises:
        UsageError: an address of a kind that is not read.
    """
    refused = set(REFERRING)
    protocols: tuple[str, ...] = _FILE
    if not isinstance(source, str):
        protocols = _BYTES
    elif (kind := scheme(source)) in ("http", "https"):
        protocols = _WEB
    elif kind in LIVE_SCHEMES:
        protocols = (*LIVE_SCHEMES, *_WEB)
        refused -= {"rtsp", "rtp"}
    elif kind not in ("", "file"):
        raise UsageError(
            f"{source}: addresses of {kind[:20]}:// are not read; those of files are: file://, "
            "http://, https://; and of live sources: rtsp://, rtmp://, srt://, udp:// and the like."
        )
    if playlists and isinstance(source, str) and (name := _playlist(source)):
        refused -= {name, *(("rtp",) if name == "sdp" else ())}
        protocols = (*protocols, *_WEB, *(LIVE_SCHEMES if name == "sdp" else ()))
    return {
        "format_whitelist": ",".join(name for name in _formats() if name not in refused),
        "protocol_whitelist": ",".join(protocols),
    }


@functools.cache
def _formats() -> tuple[str, ...]:
    """Every name of a format that this build of FFmpeg reads."""
    names: set[str] = set()
    for listed in av.formats_available:
        try:
            names.update(av.ContainerFormat(listed, "r").name.split(","))
        except ValueError:  # it is written only
            continue
    return tuple(sorted(names))


def _playlist(source: str) -> str | None:
    path = re.split(r"[?#]", source)[0] if scheme(source) else source
    return PLAYLISTS.get(os.path.splitext(path)[1].lower())


def refusal(source: str | bytes, name: str, *, is_unlisted: bool) -> DecodeError | None:
    """Why FFmpeg was not let follow a source; None if that was not the reason.

    Args:
        source: as in `open_options`; FFmpeg has just refused it.
        name: what messages call it.
        is_unlisted: that was for its format.
    """
    head = source[:4096] if isinstance(source, bytes) else b""
    is_url = isinstance(source, str) and bool(scheme(source))
    if isinstance(source, str) and not is_url:
        try:
            with Path(source).open("rb") as file:
                head = file.read(4096)
        except OSError:
            return None
    text = head.removeprefix(b"\xef\xbb\xbf")
    found = next((what for mark, what in _MARKS if re.match(mark, text)), None)
    # What has a zero byte in it is no text. FFmpeg says the same of pictures without a header.
    is_binary = b"\0" in head or (isinstance(source, str) and source.lower().endswith(RAW_SUFFIXES))
    if found is None and (not is_unlisted or is_binary):
        return None
    if found is None:
        found = "a playlist, or a text that names other files or streams,"
    way = "A playlist's name must end in one of "
    way += f"{', '.join(PLAYLISTS)}; then --allow-playlists (allow_playlists=True) follows it."
    if isinstance(source, str) and _playlist(source):
        way = "To follow it, give --allow-playlists (allow_playlists=True)."
    return DecodeError(
        f"{name}: this is {found} and no video: FFmpeg would read what it refers to. {way}"
    )
