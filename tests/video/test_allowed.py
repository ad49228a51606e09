"""No clip makes FFmpeg read another file, open a connection, or wait; none takes all memory."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numbered_video import numbered_frame

from videorwkv.data.check.inspect_clip import inspect_clip
from videorwkv.errors import DecodeError, UsageError
from videorwkv.video import open_video
from videorwkv.video.allowed import PLAYLISTS

MPD = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT3S"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>"
)
TEXTS = {
    "ffconcat": "ffconcat version 1.0\nfile {}\n",
    "ffconcat after a mark": "\ufeffffconcat version 1.0\nfile {}\n",
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:3,\n{}\n"
    "#EXT-X-ENDLIST\n",
    "DASH": MPD,
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "playlist of a player": "[playlist]\nFile1={}\nNumberOfEntries=1\n",
    "redirection": "<ASX version='3.0'><Entry><Ref href='{}'/></Entry></ASX>",
    "VobSub": "# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n",
}


@pytest.fixture
def make_text(make_video: Callable[..., Path]) -> Callable[[str], bytes]:
    inner = make_video("inner.mp4", 10)

    def make(kind: str) -> bytes:
        return TEXTS[kind].replace("{}", str(inner)).replace("{port}", "50404").encode()

    return make


@pytest.mark.parametrize("name", ["clip.mp4", "clip", "clip.ts", "clip.m3u8", "clip.mpd",
                                  "clip.ffconcat", "clip.sdp", "clip.jpg"])  # fmt: skip
@pytest.mark.parametrize("kind", TEXTS)
def test_texts_that_refer_elsewhere(
    make_text: Callable[[str], bytes], tmp_path: Path, kind: str, name: str
) -> None:
    content = make_text(kind)
    path = tmp_path / name
    path.write_bytes(content)
    for source in (path, str(path), content):
        with pytest.raises(DecodeError):
            open_video(source)
    assert inspect_clip(path).verdict in ("unreadable", "no video")


@pytest.mark.parametrize("kind", ["ffconcat", "HLS", "SDP", "DASH"])
def test_a_playlist_is_named(make_text: Callable[[str], bytes], tmp_path: Path, kind: str) -> None:
    (tmp_path / "clip.mp4").write_bytes(make_text(kind))
    with pytest.raises(DecodeError, match=r"this is a .*--allow-playlists"):
        open_video(tmp_path / "clip.mp4")


def test_no_connection_is_opened(tmp_path: Path) -> None:
    met = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)

        def wait() -> None:
            with contextlib.suppress(TimeoutError):
                met.append(server.accept())

        thread = threading.Thread(target=wait)
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x.mp4"
        for text in TEXTS.values():
            for source in (text.replace("{}", address).encode(), tmp_path / "clip.mp4"):
                if isinstance(source, Path):
                    source.write_bytes(text.replace("{}", address).encode())
                with pytest.raises(DecodeError):
                    open_video(source)
        thread.join()
    assert not met


@pytest.mark.parametrize(("kind", "name"), [("ffconcat", "list.ffconcat"), ("HLS", "list.m3u8")])
def test_a_playlist_that_is_named_openly(
    make_video: Callable[..., Path], tmp_path: Path, kind: str, name: str
) -> None:
    make_video("inner.ts", 10)
    path = tmp_path / name
    path.write_text(TEXTS[kind].replace("{}", "inner.ts"))
    with pytest.raises(DecodeError, match="To follow it, give --allow-playlists"):
        open_video(path)
    assert len(list(open_video(path, allow_playlists=True))) == 10
    hidden = path.rename(tmp_path / "clip.mp4")
    with pytest.raises(DecodeError, match="must end in one of"):
        open_video(hidden, allow_playlists=True)
    with pytest.raises(DecodeError, match="must end in one of"):
        open_video(hidden.read_bytes(), allow_playlists=True)


def test_mutants_of_texts_stay_inside(make_text: Callable[[str], bytes], tmp_path: Path) -> None:
    """Blanks, line ends, capitals and bytes in front change what FFmpeg takes a text for."""
    rng = np.random.default_rng(0)
    path = tmp_path / "clip.mp4"
    for number in range(60):
        content = bytearray(make_text(list(TEXTS)[number % len(TEXTS)]))
        for _ in range(rng.integers(1, 4)):
            place = int(rng.integers(min(len(content), 40)))
            content[place : place + rng.integers(2)] = rng.choice(
                [b" ", b"\r", b"\n", b"\x00", b"\xef\xbb\xbf", b"#", b"A", b"\t"]
            )
        path.write_bytes(content)
        for source in (path, bytes(content)):
            with pytest.raises(DecodeError):
                open_video(source)


@pytest.mark.parametrize("name", ["x%d.jpg", "x*.png", "img_%03d.png"])
def test_names_that_are_patterns_are_names(tmp_path: Path, name: str) -> None:
    """FFmpeg would read the numbered files beside."""
    import cv2

    _, content = cv2.imencode(Path(name).suffix, numbered_frame(1))
    for other in (name, "x1.jpg", "x1.png", "img_001.png"):
        (tmp_path / other).write_bytes(content.tobytes())
    with open_video(tmp_path / name) as video:
        assert len(video.times()) == 1


@pytest.mark.parametrize("kind", ["concat", "subfile", "pipe", "data", "lavfi", "crypto", "ftp"])
def test_addresses_of_other_kinds(kind: str) -> None:
    with pytest.raises(UsageError, match=f"addresses of {kind}:// are not read"):
        open_video(f"{kind}:///etc/hostname")


def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "clip.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    (tmp_path / "frames").mkdir()
    os.mkfifo(tmp_path / "frames" / "00001.jpg")
    (tmp_path / "frames" / "00002.jpg").symlink_to("/dev/zero")
    for name in ("clip.mp4", "zero.mp4"):
        with pytest.raises(DecodeError, match="a pipe, a socket, a device"):
            open_video(tmp_path / name)
    with pytest.raises(DecodeError, match="no frame can be decoded"):
        open_video(tmp_path / "frames").read_all()
    for name in ("clip.mp4", "zero.mp4", "frames"):
        assert inspect_clip(tmp_path / name).verdict in ("unreadable", "truncated")


def huge_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        end = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + end

    packer = zlib.compressobj(1)
    row = bytes(1 + width)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def test_a_folder_of_huge_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "1.png").write_bytes(huge_png(20_000, 20_000))
    with pytest.raises(DecodeError, match=r"1\.png: 20000 x 20000 pixels are more than the 67"):
        open_video(folder).read_all()
    found = inspect_clip(folder)
    assert (found.verdict, "20000 x 20000" in found.detail) == ("unreadable", True)
    with pytest.raises(DecodeError):
        open_video(folder / "1.png").read_all()


def test_the_endings_of_playlists_are_said() -> None:
    assert set(PLAYLISTS) == {".m3u8", ".m3u", ".mpd", ".ffconcat", ".sdp"}


def test_a_time_limit(make_video: Callable[..., Path], tmp_path: Path) -> None:
    path = make_video("clip.mp4", 20)
    assert len(open_video(path, time_limit=60).read_all().frames_THWC) == 20
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "1.png").write_bytes(huge_png(8, 8))
    for source in (path, folder, path.read_bytes()):
        video = open_video(source, time_limit=60)
        video.deadline = 0.0
        with pytest.raises(DecodeError, match=r"takes longer than allowed.*--clip-timeout"):
            video.read_all()


@pytest.mark.parametrize("content", [bytes(range(256)) * 20, b"\x80" * 4096])
def test_raw_pictures_are_no_playlist(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "Clip.YUV"
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=r"raw pictures.*ffmpeg -f rawvideo"):
        open_video(path)
