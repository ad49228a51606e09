"""Every kind of file: whole, cut, ruined, odd."""

from __future__ import annotations

import gc
import io
import wave
from fractions import Fraction
from pathlib import Path

import av
import av.logging
import numpy as np
import pytest
from clip_files import KINDS, cut, encode, make, numbered_frame, overwrite, patch_box, remux

from videorwkv.data.check.inspect_clip import inspect_clip
from videorwkv.data.check.inspect_video import read_pictures
from videorwkv.video import open_video

COUNTED = ("index_first.mp4", "index_last.mp4", "clip.mov", "clip.avi", "clip.gif")


@pytest.mark.parametrize("name", KINDS)
def test_a_whole_file_is_ok(tmp_path: Path, name: str) -> None:
    found = inspect_clip(make(tmp_path, name))
    assert (found.verdict, found.detail) == ("ok", "")
    assert (found.frames, found.width, found.height) == (60, 96, 64)
    assert found.seconds == pytest.approx(6.0)
    assert found.fps == pytest.approx(10.0)
    assert found.remarks == (() if name in COUNTED else ("no frame count in the header",))


@pytest.mark.parametrize("quick", [False, True])
def test_colours_that_cannot_be_converted(tmp_path: Path, quick: bool) -> None:
    path = tmp_path / "clip.mp4"
    encode(path, 5, options={"x264-params": "colormatrix=ICtCp"})
    found = inspect_clip(path, quick=quick)
    assert found.verdict == "unreadable"
    assert "to RGB" in found.detail


def test_copies_in_other_containers_have_one_fingerprint(tmp_path: Path) -> None:
    original = make(tmp_path, "index_last.mp4")
    found = [inspect_clip(original)]
    found += [inspect_clip(remux(original, tmp_path / f"copy.{s}")) for s in ("mkv", "mov", "ts")]
    assert len({f.frames_hash for f in found}) == 1
    assert len({f.content_hash for f in found}) == 4
    other = inspect_clip(make(tmp_path, "index_last.mp4", 59))
    assert other.frames_hash != found[0].frames_hash


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv444p", "gray"])
def test_a_fingerprint_is_of_every_pixel_and_of_nothing_else(tmp_path: Path, pix_fmt: str) -> None:
    # 1 frame in 8: a change that only the last rows and columns of the last plane have.
    one, two = (tmp_path / f"{n}.mkv" for n in (1, 2))
    for path, corner in ((one, 110), (two, 230)):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=10)
            stream.width, stream.height, stream.pix_fmt = 70, 50, pix_fmt
            image_HWC = np.full((50, 70, 3), 110, np.uint8)
            image_HWC[48:, 68:] = corner
            picture = av.VideoFrame.from_ndarray(image_HWC, format="rgb24")
            container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    hashes = [inspect_clip(path).frames_hash for path in (one, two, one, two)]
    assert hashes[:2] == hashes[2:]
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize(
    "name", ["index_first.mp4", "clip.mkv", "vp9.webm", "vp8.webm", "clip.avi"]
)
def test_a_cut_file_says_where(tmp_path: Path, name: str) -> None:
    path = cut(make(tmp_path, name), 0.7)
    found = inspect_clip(path)
    assert found.verdict == "truncated"
    assert 5 < found.frames == len(open_video(path).read_all()) < 60
    about = "" if name in COUNTED else "about "
    assert f"at frame {found.frames} of {about}60 (second {found.frames / 10:.1f} of 6.0)" in (
        found.detail
    )
    assert "bytes" in found.detail


def test_an_mp4_that_was_cut_before_its_index(tmp_path: Path) -> None:
    found = inspect_clip(cut(make(tmp_path, "index_last.mp4"), 0.5))
    assert found.verdict == "truncated"
    assert found.detail.startswith("at frame 0: the file has ")


def test_a_fragmented_mp4_that_was_cut(tmp_path: Path) -> None:
    found = inspect_clip(cut(make(tmp_path, "fragments.mp4"), 0.7))
    assert found.verdict == "truncated"
    assert 20 < found.frames < 60


@pytest.mark.parametrize("name", ["index_last.mp4", "clip.avi", "clip.mkv"])
def test_a_cut_behind_the_frames_harms_nothing(tmp_path: Path, name: str) -> None:
    path = make(tmp_path, name)
    path.write_bytes(path.read_bytes()[:-3])
    found = inspect_clip(path)
    assert (found.verdict, found.frames) == ("ok", 60)
    assert any(remark.startswith("cut off behind the frames: ") for remark in found.remarks)


def test_a_cut_recording_of_unknown_size(tmp_path: Path) -> None:
    """Recorders that write as they go do not know the size; FFmpeg then complains at the end."""
    path = make(tmp_path, "vp9.webm")
    content = bytearray(path.read_bytes())
    size = content.index(b"\x18\x53\x80\x67") + 4
    assert content[size] == 1
    content[size : size + 8] = b"\x01" + b"\xff" * 7
    path.write_bytes(content)
    assert inspect_clip(path).verdict == "ok"
    found = inspect_clip(cut(path, 0.7))
    assert (found.verdict, found.detail) == (
        "truncated",
        f"at frame {found.frames} of about 60 (second {found.frames / 10:.1f} of 6.0)",
    )


def test_an_end_of_zeros_is_a_missing_end(tmp_path: Path) -> None:
    path = make(tmp_path, "index_first.mp4")
    size = path.stat().st_size
    found = inspect_clip(overwrite(path, 0.6, bytes(size)))
    assert found.verdict == "truncated"
    assert 5 < found.frames < 60
    assert f"at frame {found.frames} of 60" in found.detail


def test_damage_in_the_middle(tmp_path: Path) -> None:
    path = encode(
        tmp_path / "clip.mp4",
        60,
        options={"g": "10", "bf": "0"},
        container_options={"movflags": "faststart"},
    )
    rng = np.random.default_rng(0)
    found = inspect_clip(overwrite(path, 0.6, rng.bytes(300)))
    assert found.verdict == "damaged"
    lost = 60 - found.frames
    assert 0 < lost < 30
    assert found.detail.startswith(f"frames lost: {lost} of 60, the first at ")
    first = float(found.detail.partition("first at ")[2].split()[0])
    assert 0.5 < first < 5.5
    assert "FFmpeg: " in found.detail


def test_less_than_half_is_unreadable(tmp_path: Path) -> None:
    """Whole frames, so that those at the end can be decoded."""
    path = encode(
        tmp_path / "clip.mp4",
        60,
        options={"g": "1"},
        container_options={"movflags": "faststart"},
    )
    content = path.read_bytes()
    start = content.index(b"mdat") + 4
    middle = len(content) - start
    noise = np.random.default_rng(0).bytes(middle * 7 // 10)
    path.write_bytes(content)
    found = inspect_clip(overwrite(path, (start + 0.15 * middle) / len(content), noise))
    assert found.verdict == "unreadable"
    assert f"frames lost: {60 - found.frames} of 60" in found.detail
    assert 0 < found.frames < 30


@pytest.fixture
def noisy_vp9(tmp_path: Path) -> Path:
    """Six frames of noise, 10 kB each."""
    rng = np.random.default_rng(0)
    with av.open(str(tmp_path / "noise.webm"), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=10, options={"deadline": "realtime"})
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        stream.bit_rate = 800_000
        for _ in range(6):
            image_HWC = rng.integers(0, 256, (128, 160, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image_HWC, format="rgb24")))
        container.mux(stream.encode(None))
    return tmp_path / "noise.webm"


def test_a_hole_of_zeros_is_seen_even_if_it_decodes(noisy_vp9: Path) -> None:
    assert inspect_clip(noisy_vp9).verdict == "ok"
    found = inspect_clip(overwrite(noisy_vp9, 0.5, bytes(700)))
    assert (found.verdict, found.frames) == ("damaged", 6)
    assert "packets with holes of zeros: 1" in found.detail


def test_a_stricter_decoder_is_asked_about_vp9(noisy_vp9: Path) -> None:
    content = noisy_vp9.read_bytes()
    original = inspect_clip(noisy_vp9)
    alone = 0
    for place in range(12):
        noisy_vp9.write_bytes(content)
        found = inspect_clip(overwrite(noisy_vp9, 0.1 + place / 20, b"\x5a"))
        assert found.frames_hash != original.frames_hash
        alone += "refused by a stricter decoder" in found.detail and "FFmpeg" not in found.detail
    assert alone > 3


def test_no_video_at_all(tmp_path: Path) -> None:
    sound = tmp_path / "sound.wav"
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(4000))
    found = inspect_clip(sound)
    assert (found.verdict, found.detail) == ("no video", "there is no video stream; found: audio")

    cases = {
        "text.mp4": (b"hello\n" * 100, "unreadable"),
        "text.txt": (b"hello\n" * 100, "unreadable"),
        "zeros.mp4": (bytes(5000), "unreadable"),
        "page.mp4": (b"<html>Video unavailable</html>" * 50, "unreadable"),
        "empty.mp4": (b"", "empty"),
    }
    for name, (content, verdict) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        found = inspect_clip(path)
        assert (name, found.verdict) == (name, verdict)
        assert found.detail
        assert name not in found.detail
    assert inspect_clip(tmp_path / "nope.mp4").verdict == "missing"
    assert inspect_clip(tmp_path / "text.txt/inside.mp4").verdict == "unreadable"


def test_a_codec_that_nobody_knows(tmp_path: Path) -> None:
    path = make(tmp_path, "index_first.mp4", 5)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zz9x"))
    found = inspect_clip(path)
    assert found.verdict == "unreadable"
    assert "no decoder for its video stream" in found.detail


def test_a_title_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Ferien am Meer"
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        picture = av.VideoFrame.from_ndarray(numbered_frame(1), format="rgb24")
        container.mux([*stream.encode(picture), *stream.encode(None)])
    content = path.read_bytes()
    assert b"Ferien" in content
    path.write_bytes(content.replace(b"Ferien", b"F\xeari\xe9n"))
    assert inspect_clip(path).verdict == "ok"
    assert len(open_video(path).read_all()) == 1


@pytest.mark.parametrize(
    ("matrix", "remarks", "size"),
    [
        ((0, 1, -1, 0), ("rotated: 90 degrees clockwise",), (64, 96)),
        ((-1, 0, 0, -1), ("rotated: 180 degrees clockwise",), (96, 64)),
        ((0, -1, 1, 0), ("rotated: 270 degrees clockwise",), (64, 96)),
        ((1, 0, 0, -1), ("mirrored",), (96, 64)),
        ((0, 1, 1, 0), ("rotated: 90 degrees clockwise", "mirrored"), (64, 96)),
    ],
)
def test_turned_and_mirrored(
    tmp_path: Path,
    matrix: tuple[int, int, int, int],
    remarks: tuple[str, ...],
    size: tuple[int, int],
) -> None:
    path = make(tmp_path, "index_last.mp4", 5)
    a, b, c, d = (value << 16 for value in matrix)
    patch_box(path, b"tkhd", 44, (a, b, 0, c, d, 0, 0, 0, 1 << 30))
    found = inspect_clip(path)
    assert (found.verdict, found.remarks) == ("ok", remarks)
    assert (found.width, found.height) == size
    assert open_video(path).read([0]).frames_THWC.shape[1:3] == size[::-1]


def test_odd_but_not_wrong(tmp_path: Path) -> None:
    still = encode(tmp_path / "still.mp4", 1)
    assert inspect_clip(still).remarks == ("single frame",)
    slow = encode(tmp_path / "slow.mp4", pts=[n * 1000 for n in range(5)])
    assert inspect_clip(slow).remarks == ("odd rate: 1 frames/s",)
    uneven = encode(tmp_path / "uneven.mp4", pts=[0, 100, 200, 500, 600, 700])
    assert inspect_clip(uneven).remarks == ("variable rate: 3.333 to 10 frames/s",)
    # Milliseconds can't hold 30 frames/s: 33, 34, 33.
    rounded = encode(tmp_path / "rounded.mkv", pts=[round(n * 1000 / 30) for n in range(30)])
    assert inspect_clip(rounded).remarks == ("no frame count in the header",)

    with av.open(str(tmp_path / "wide.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        picture = av.VideoFrame.from_ndarray(numbered_frame(1)[:32, :48], format="rgb24")
        container.mux([*stream.encode(picture), *stream.encode(None)])
    found = inspect_clip(tmp_path / "wide.mp4")
    assert found.remarks == ("very small: 48x32", "single frame", "non-square pixels: 4/3")


def test_a_resolution_that_changes(tmp_path: Path) -> None:
    parts = []
    for width, height in ((96, 64), (128, 96)):
        part = io.BytesIO()
        with av.open(part, "w", format="h264") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for _ in range(6):
                image_HWC = np.full((height, width, 3), 90, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image_HWC, format="rgb24")))
            container.mux(stream.encode(None))
        parts.append(part.getvalue())
    path = tmp_path / "clip.h264"
    path.write_bytes(b"".join(parts))
    found = inspect_clip(path)
    assert "changing resolution: 96x64, 128x96" in found.remarks


def test_frames_that_an_avi_recorder_dropped_are_not_lost(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "clip.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(30):
            if number in (7, 8, 20):
                continue
            picture = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    found = inspect_clip(tmp_path / "clip.avi")
    assert (found.verdict, found.frames) == ("ok", 27)
    assert found.remarks == ("variable rate: 3.333 to 10 frames/s",)
    video = open_video(tmp_path / "clip.avi")
    assert len(video.read_all()) == 27
    assert video.warnings == ()


def test_quick_reads_no_picture_but_the_first(tmp_path: Path) -> None:
    path = make(tmp_path, "index_first.mp4")
    found = inspect_clip(path, quick=True)
    assert (found.verdict, found.frames, found.width, found.height) == ("ok", 60, 96, 64)
    assert found.seconds == pytest.approx(6.0)
    assert found.frames_hash == ""
    assert found.content_hash == inspect_clip(path).content_hash
    found = inspect_clip(cut(path, 0.7), quick=True)
    assert found.verdict == "truncated"
    assert 10 < found.frames < 60


def test_ffmpeg_is_silent_again_afterwards(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = av.logging.get_level(), av.logging.get_skip_repeated()
    path = cut(make(tmp_path, "vp9.webm"), 0.7)
    # The same complaint twice in a row: both readings get theirs.
    first, second = inspect_clip(path), inspect_clip(path)
    assert [r for r in (read_pictures(path), read_pictures(path)) if not r.complaints] == []
    assert first == second
    assert (av.logging.get_level(), av.logging.get_skip_repeated()) == before
    assert capfd.readouterr() == ("", "")


def test_no_picture_outlives_the_reading(tmp_path: Path) -> None:
    """One that waits for the garbage collector holds a decoder's whole pool of pictures."""
    path = make(tmp_path, "vp9.webm", 5)
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        inspect_clip(path)
        open_video(path).read_all()
        list(open_video(path))
        gc.collect()
        left = [item for item in gc.garbage if isinstance(item, av.VideoFrame)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert not left
