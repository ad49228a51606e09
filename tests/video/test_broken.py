"""Files that aren't what they should be: a clip of what is there, or an error that says why not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numbered_video import number_of, numbered_frame, numbers_of

from videorwkv.errors import DecodeError, UsageError
from videorwkv.video import open_video
from videorwkv.video.decoding import Decoding

MakeVideo = Callable[..., Path]
FAST_START = {"container_options": {"movflags": "faststart"}}
# One B-frame between two others, so that wherever the cut lies no more than that one is lost before
# the last frame: it moves, for now and then x264 encodes the same frames to some bytes more.
SINGLE_B = {"options": {"x264-params": "bframes=1:b-pyramid=none"}}


def _cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("clip.mp4", {**FAST_START, **SINGLE_B}),
        ("clip.webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}}),
        ("clip.mkv", SINGLE_B),
        ("clip.avi", {"codec": "mpeg4"}),
        ("clip.ts", SINGLE_B),
    ],
)
def test_a_truncated_file_is_its_decodable_part(
    make_video: MakeVideo, name: str, how: dict
) -> None:
    path = _cut(make_video(name, 60, **how), 0.6)
    video = open_video(path)
    frames = list(video)
    numbers = [number_of(frame.image_HWC) for frame in frames]
    assert 8 < len(numbers) < 60
    # B-frames near the cut can be lost although the frame after them is there.
    assert numbers[:-1] == list(range(len(numbers) - 1))
    assert [frame.time for frame in frames] == pytest.approx([number / 10 for number in numbers])

    clip = open_video(path).sample(num_frames=8)
    # Spread over what there is, as though the file ended there: no frame twice.
    assert len(set(numbers_of(clip.frames_THWC))) == 8
    assert numbers_of(clip.frames_THWC)[-1] >= len(numbers) - 10
    everything = open_video(path).read_all()
    assert abs(len(everything) - len(numbers)) <= 1
    np.testing.assert_array_equal(everything.times, open_video(path).times()[: len(everything)])


def test_a_truncated_mp4_says_how_much_is_left(make_video: MakeVideo) -> None:
    path = _cut(make_video("clip.mp4", 60, **FAST_START), 0.6)
    video = open_video(path)
    clip = video.read_all()
    assert len(clip) < 60
    assert clip.warnings == (f"incomplete: {len(clip)} of 60 frames can be decoded",)
    assert video.warnings == clip.warnings


def test_a_count_that_no_file_of_this_size_can_hold_is_ignored(make_video: MakeVideo) -> None:
    path = make_video("clip.avi", 20, codec="mpeg4")
    content = bytearray(path.read_bytes())
    length = content.index(b"strh") + 8 + 32  # frames of the stream, in its header
    assert int.from_bytes(content[length : length + 4], "little") == 20
    for count, warnings in (
        (2**31 - 9, ()),
        (30, ("incomplete: 20 of 30 frames can be decoded",)),
    ):
        content[length : length + 4] = count.to_bytes(4, "little")
        path.write_bytes(content)
        for source in (path, bytes(content)):
            clip = open_video(source).read_all()
            assert len(clip) == 20
            assert clip.warnings == warnings


def _damage(path: Path) -> Path:
    """Overwrites the middle of an mp4's frames with noise."""
    content = bytearray(path.read_bytes())
    middle = len(content) * 6 // 10
    noise = np.random.default_rng(0).integers(0, 256, 400, dtype=np.uint8)
    content[middle : middle + 400] = noise.tobytes()
    path.write_bytes(content)
    return path


def test_a_damaged_file_is_its_decodable_frames(make_video: MakeVideo) -> None:
    path = _damage(make_video("clip.mp4", 60, options={"g": "10"}, **FAST_START))
    iterated = open_video(path)
    times = [frame.time for frame in iterated]
    assert 40 < len(times) < 60
    assert iterated.warnings == (f"incomplete: {len(times)} of 60 frames can be decoded",)
    assert iterated.times().tolist() == times

    video = open_video(path)
    clip = video.read_all()
    assert clip.times.tolist() == times
    assert clip.warnings == iterated.warnings
    # An index of the announced frames is scaled to the decodable ones and never runs out.
    assert len(open_video(path).read([0, 59])) == 2
    dense = open_video(path).sample(num_frames=6, fps=10.0, view=1, num_views=2)
    assert dense.times[-1] == times[-1]


def test_colours_that_ffmpeg_cannot_convert(make_video: MakeVideo) -> None:
    path = make_video("clip.mp4", 5, options={"x264-params": "colormatrix=ICtCp"})
    for use in (lambda video: video.sample(2), list):
        with pytest.raises(DecodeError, match=r"clip\.mp4: its colours .*matrix 14.*to RGB"):
            use(open_video(path))


class _Surprising:
    """A container whose packets are soon those of a stream that PyAV does not know."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def demux(self, stream: Any) -> Iterator[av.Packet]:
        yield from islice(self._container.demux(stream), 5)
        raise IndexError("list index out of range")

    def close(self) -> None:
        self._container.close()


def test_another_stream_begins_on_the_way(make_video: MakeVideo) -> None:
    with Decoding(str(make_video("clip.ts", 20)), "clip") as decoding:
        decoding._container = _Surprising(decoding._container)
        assert len(list(decoding.packets())) == 5
        assert decoding.broken_off == "another stream begins on the way"
        assert decoding.num_errors == 1


def test_frames_far_from_their_place(tmp_path: Path) -> None:
    """The packet that is stored as number 20 is to be shown as number 10."""
    path = tmp_path / "clip.mkv"
    places = [*range(10), *range(11, 21), 10, *range(21, 30)]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for index, place in enumerate(places):
            frame = av.VideoFrame.from_ndarray(numbered_frame(place), format="rgb24")
            for packet in stream.encode(frame):
                packet.dts, packet.pts = index, 30 + place
                container.mux(packet)
    video = open_video(path)
    assert numbers_of(video.read_all().frames_THWC) == list(range(30))
    # It comes too late to be shown in its place, and that is said.
    numbers = [number_of(frame.image_HWC) for frame in video]
    assert numbers == [number for number in range(30) if number != 10]
    assert video.warnings == ("1 frames skipped: their time stamp is a duplicate or out of order",)
    # Now the file is known.
    assert [number_of(frame.image_HWC) for frame in video] == list(range(30))


def test_a_random_sample_of_a_damaged_file_repeats(make_video: MakeVideo) -> None:
    path = _damage(make_video("clip.mp4", 60, options={"g": "10"}, **FAST_START))
    known = open_video(path)
    list(known)
    one, two = (
        video.sample(12, rng=np.random.default_rng(3)).times.tolist()
        for video in (open_video(path), known)
    )
    assert one == two


def test_no_decodable_frame(make_video: MakeVideo) -> None:
    path = make_video("clip.mp4", 20, **FAST_START)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + 4])
    video = open_video(path)
    for use in (video.times, video.read_all, video.sample, lambda: list(video)):
        with pytest.raises(DecodeError, match="no frame can be decoded"):
            use()


def test_an_mp4_without_its_index(make_video: MakeVideo) -> None:
    with pytest.raises(DecodeError, match="beginning is damaged"):
        open_video(_cut(make_video("clip.mp4", 20), 0.5))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.mp4", b"", "the file is empty"),
        ("text.mp4", b"hello\n" * 100, "not a video"),
        ("text.txt", b"hello\n" * 100, "text file"),
        ("zeros.mp4", bytes(5000), "not a video"),
    ],
)
def test_not_a_video(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=words) as caught:
        open_video(path)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=r"nope\.mp4: no such file"):
        open_video(tmp_path / "nope.mp4")


def test_a_name_that_is_too_long() -> None:
    with pytest.raises(DecodeError, match="it can't be opened: File name too long"):
        open_video("x" * 300 + ".mp4")
    with pytest.raises(DecodeError, match=r"can't be opened: .*null"):
        open_video("x\0.mp4")


def test_a_folder_that_may_not_be_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(DecodeError, match=r"a\.mp4: it can't be opened: Permission denied"):
        open_video("private/a.mp4")


def test_an_empty_source() -> None:
    with pytest.raises(UsageError, match="the source is empty text"):
        open_video("")


@pytest.mark.parametrize("content", [b"", b"not a video" * 50])
def test_bytes_that_are_no_video(content: bytes) -> None:
    with pytest.raises(DecodeError, match=f"<{len(content)} bytes>"):
        open_video(content)


@pytest.mark.parametrize("source", [None, 3.5, True, ["clip.mp4"]])
def test_no_source_at_all(source: object) -> None:
    with pytest.raises(UsageError, match=type(source).__name__):
        open_video(source)  # type: ignore[arg-type]


def test_ffmpeg_keeps_silent(make_video: MakeVideo, tmp_path: Path) -> None:
    damaged = _damage(make_video("clip.mp4", 60, options={"g": "10"}, **FAST_START))
    code = f"from videorwkv.video import open_video; open_video({str(damaged)!r}).read_all()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout == ""
