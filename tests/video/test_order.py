"""Frames whose times a file lacks, or whose recording was joined to another: all, and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numbered_video import numbered_frame, numbers_of

from videorwkv.data.check.inspect_clip import inspect_clip
from videorwkv.video import open_video
from videorwkv.video.decoding import Decoding
from videorwkv.video.frames_folder import decode_image, has_hole, image_size
from videorwkv.video.transport import only_joined

MakeVideo = Callable[..., Path]
CODECS = {
    "h264": {"options": {"g": "15", "bf": "2"}},
    "h264 without B-frames": {"options": {"g": "10", "bf": "0"}},
    "mpeg2": {"codec": "mpeg2video", "fps": 25, "options": {"g": "12"}},
    "mpeg4": {"codec": "mpeg4"},
    "hevc": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=15"}},
}


@pytest.mark.parametrize("count", [1, 7, 20])
@pytest.mark.parametrize("late", [0, 3])
def test_first_packets_without_times(
    make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch, count: int, late: int
) -> None:
    """As where times before 0 were left out; `late`: the first frame that has one."""
    path = make_video("clip.mkv", 30, options={"bf": "0"})
    read = Decoding._read

    def without(self: Decoding) -> Iterator[av.Packet | str]:
        for number, packet in enumerate(read(self)):
            if isinstance(packet, av.Packet) and late <= number < late + count:
                packet.pts = packet.dts = None
            elif isinstance(packet, av.Packet) and packet.pts is not None and not late:
                packet.pts -= 100 * (count - 1)  # the second that has a time has one of the first's
            yield packet

    monkeypatch.setattr(Decoding, "_read", without)
    for video in (open_video(path), open_video(path.read_bytes())):
        clip = video.read_all()
        assert numbers_of(clip.frames_THWC) == list(range(30))
        assert (np.diff(clip.times) > 0).all()
        assert any(f"{count} of 30 frames carry no time" in text for text in clip.warnings)
    assert [frame.time for frame in open_video(path)] == pytest.approx(clip.times.tolist())
    assert numbers_of(open_video(path).read([4, 5, 20]).frames_THWC) == [4, 5, 20]


def test_a_bare_stream_has_the_rate_that_it_says(make_video: MakeVideo) -> None:
    path = make_video("clip.h264", 20, fps=8, container_format="h264")
    video = open_video(path)
    assert video.times()[:3].tolist() == [0.0, 0.125, 0.25]
    assert any("8 frames a second, as its stream says" in text for text in video.warnings)
    bare = make_video("clip.m2v", 20, codec="mjpeg", pix_fmt="yuvj420p", container_format="mjpeg")
    video = open_video(bare)
    assert video.times()[1] == 0.04
    assert any("25 frames a second, as nothing tells" in text for text in video.warnings)
    assert len(list(open_video(bare))) == 20
    assert "no times: 20 frames, taken as 25 a second" in inspect_clip(bare).remarks


@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("name", CODECS)
def test_joined_recordings_lose_nothing(make_video: MakeVideo, name: str, copies: int) -> None:
    path = make_video("clip.ts", 30, **CODECS[name])
    path.write_bytes(path.read_bytes() * copies)
    for video in (open_video(path), open_video(path.read_bytes())):
        clip = video.read_all()
        assert numbers_of(clip.frames_THWC) == list(range(30)) * copies
        assert clip.warnings == ()
        assert len(list(video)) == 30 * copies
    assert inspect_clip(path).verdict == "ok"


def test_recordings_of_two_codecs_and_lengths(make_video: MakeVideo) -> None:
    one = make_video("one.ts", 17, options={"bf": "2"}).read_bytes()
    other = make_video("other.ts", 25, options={"bf": "0", "g": "9"}).read_bytes()
    clip = open_video(one + other + one).read_all()
    assert numbers_of(clip.frames_THWC) == [*range(17), *range(25), *range(17)]
    assert clip.warnings == ()


@pytest.mark.parametrize("name", ["h264", "mpeg2"])
def test_a_lost_packet_is_no_join(make_video: MakeVideo, name: str) -> None:
    path = make_video("clip.ts", 30, **CODECS[name])
    content = path.read_bytes()
    packets = [content[at : at + 188] for at in range(0, len(content), 188)]
    own = [n for n, p in enumerate(packets) if int.from_bytes(p[1:3], "big") & 0x1FFF == 0x100]
    inner = [n for n in own if not packets[n][1] & 0x40]
    assert only_joined(content, 0x100)
    assert only_joined(content * 2, 0x100)
    for lost in inner[:: len(inner) // 5]:
        assert not only_joined(b"".join(p for n, p in enumerate(packets) if n != lost), 0x100)
    # Cut within a packet, and within a picture, before the join.
    for cut in (len(content) // 2 + 1, inner[-3] * 188):
        assert not only_joined(content[:cut] + content, 0x100)


def test_an_avi_whose_placeholders_hold_no_picture(make_video: MakeVideo) -> None:
    """XviD writes a packet of one byte where nothing has changed, or for a picture that came with
    another one."""
    path = make_video("clip.avi", 30, codec="mpeg4", options={"bf": "0"})
    again = path.with_name("again.avi")
    with av.open(str(path)) as source, av.open(str(again), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        behind = 0
        for packet in source.demux(video=0):
            if packet.dts is None:
                continue
            packet.stream = stream
            packet.pts = packet.dts = packet.dts + behind
            target.mux(packet)
            if packet.dts in (9, 20):
                behind += 1
                holder = av.Packet(b"\x7f" if behind == 1 else b"\x00\x00\x01\xb6\x51\x17\x3f")
                holder.stream, holder.time_base = stream, packet.time_base
                holder.pts = holder.dts = packet.dts + 1
                target.mux(holder)
    for video in (open_video(again), open_video(again.read_bytes())):
        clip = video.read_all()
        assert numbers_of(clip.frames_THWC) == list(range(30))
        assert clip.warnings == ()
        assert len(list(video)) == len(video.times()) == 30
    found = inspect_clip(again)
    assert (found.verdict, found.frames) == ("ok", 30)


def jpeg(quality: int = 95) -> bytes:
    rng = np.random.default_rng(0)
    image_HWC = cv2.resize(numbered_frame(3), (640, 424))
    image_HWC = np.clip(image_HWC + rng.normal(0, 9, image_HWC.shape), 0, 255).astype(np.uint8)
    _, content = cv2.imencode(".jpg", image_HWC, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(content)


@pytest.mark.parametrize("place", [0.3, 0.5, 0.8])
def test_a_jpeg_with_a_hole_is_warned_of(tmp_path: Path, place: float) -> None:
    content = jpeg()
    at = int(len(content) * place)
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(content)
    (folder / "2.jpg").write_bytes(content[:at] + bytes(4096) + content[at + 4096 :])
    clip = open_video(folder).read_all()
    assert [text.partition(" is")[0] for text in clip.warnings] == ["2.jpg"]
    assert "damaged" in clip.warnings[0]
    assert inspect_clip(folder).verdict == "damaged"


def test_a_plain_jpeg_has_no_hole() -> None:
    """Its optimised code is zeros alone."""
    flat = np.full((1080, 1920, 3), 128, np.uint8)
    for options in ([], [cv2.IMWRITE_JPEG_OPTIMIZE, 1]):
        _, content = cv2.imencode(".jpg", flat, options)
        assert not has_hole(bytes(content))
    assert not has_hole(jpeg())


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
@pytest.mark.parametrize("size", [(7, 300), (640, 424), (1, 1)])
def test_the_size_of_a_picture_by_its_header(suffix: str, size: tuple[int, int]) -> None:
    _, content = cv2.imencode(suffix, np.zeros((size[1], size[0], 3), np.uint8))
    assert image_size(bytes(content)) == size
    assert image_size(bytes(content)[:9]) == (0, 0)
    assert decode_image(bytes(content)) is not None
