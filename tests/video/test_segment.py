"""Segments: the frames that belong to them, whatever the file, and no others."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numbered_video import encode, number_of, numbered_frame, numbers_of

from videorwkv.errors import DecodeError, UsageError
from videorwkv.video import Segment, open_video
from videorwkv.video.array import ArrayVideo
from videorwkv.video.container_part import _FILES
from videorwkv.video.decoding import Decoding
from videorwkv.video.segment import PartVideo

NUM_FRAMES = 60
FILES: dict[str, dict[str, Any]] = {
    "short_gops.mp4": {"options": {"g": "7"}},
    "one_gop.mp4": {"options": {"g": "600"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}},
    "untimed.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "stream.ts": {},
    "no_times.h264": {},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("numbered")
    for name, options in FILES.items():
        encode(root / name, NUM_FRAMES, **options)
    frames = root / "frames"
    frames.mkdir()
    for number in range(NUM_FRAMES):
        image_HWC = numbered_frame(number)
        cv2.imwrite(str(frames / f"{number + 1:05d}.png"), image_HWC[..., ::-1])
    return root


def seen(path: Path, segment: Segment) -> tuple[list[int], list[int]]:
    """Numbers of the frames that are read, and of those that are iterated over."""
    with open_video(path, segment=segment, frame_rate=10) as video:
        iterated = [number_of(frame.image_HWC) for frame in video]
        clip = video.read_all()
        # A time stamp of 1/90000 s can't say a tenth exactly.
        assert np.allclose(clip.times, np.arange(len(clip)) / 10, atol=1e-3)
        assert clip.times[0] == 0
        assert video.name == f"{path}#{segment}"
        assert clip.source == video.name
        return numbers_of(clip.frames_THWC), iterated


@pytest.mark.parametrize("name", [*sorted(FILES.keys() - {"no_times.h264"}), "frames"])
@pytest.mark.parametrize(
    ("segment", "first", "last"),
    [
        (Segment(20, 33, in_frames=True), 20, 32),
        (Segment(2.0, 3.3), 20, 32),
        (Segment(0, 60, in_frames=True), 0, 59),
        (Segment(59, 60, in_frames=True), 59, 59),
        (Segment(0, 0.1), 0, 0),
        (Segment(5.9, 6.0), 59, 59),
        (Segment(2.149, 2.351), 21, 23),  # those whose middles, 2.15 to 2.35, it contains
        (Segment(2.151, 2.349), 22, 22),
        (Segment(2.02, 2.04), 20, 20),  # no middle of a frame: the one on screen
    ],
    ids=str,
)
def test_the_frames_of_a_segment(
    folder: Path, name: str, segment: Segment, first: int, last: int
) -> None:
    read, iterated = seen(folder / name, segment)
    assert read == iterated == list(range(first, last + 1))


def test_a_file_without_times(folder: Path) -> None:
    """All of them have to be decoded to find any; its stream says 10 a second."""
    with open_video(folder / "no_times.h264", segment=Segment(1.0, 2.0)) as video:
        assert numbers_of(video.read_all().frames_THWC) == list(range(10, 20))
        assert [number_of(frame.image_HWC) for frame in video] == list(range(10, 20))
        assert "no frame carries a time" in video.warnings[0]


def test_segments_that_follow_each_other_leave_nothing_out(folder: Path) -> None:
    """Also where their borders are rounded, and fall on no frame."""
    borders = [0, 0.37, 1.2345, 2.0, 3.66, 4.05, 6.0]
    found = []
    for start, end in pairwise(borders):
        found += seen(folder / "short_gops.mp4", Segment(start, end))[0]
    assert found == list(range(NUM_FRAMES))


def test_only_the_way_from_the_key_frame_is_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """7 frames a group: frames 30 to 32 need those from 28 on. The first open lists the packets,
    later ones read no more than they decode."""
    listed = read = 0
    packets, pictures = Decoding.packets, Decoding.pictures

    def count_packets(self: Decoding, **options: Any) -> Iterator[av.Packet]:
        nonlocal listed
        for packet in packets(self, **options):
            listed += 1
            yield packet

    def count_pictures(self: Decoding, *args: Any, **options: Any) -> Iterator[Any]:
        nonlocal read
        for picture in pictures(self, *args, **options):
            read += 1
            yield picture

    monkeypatch.setattr(Decoding, "packets", count_packets)
    monkeypatch.setattr(Decoding, "pictures", count_pictures)
    _FILES.clear()
    path, segment = folder / "short_gops.mp4", Segment(30, 33, in_frames=True)
    with open_video(path, segment=segment) as video:
        video.times()
        assert (listed, read) == (NUM_FRAMES + 1, 0)
        assert numbers_of(video.read([0, 1, 2]).frames_THWC) == [30, 31, 32]
    # Two that the decoder needs before it gives the last one.
    assert read <= 3 + 2 + 2
    listed = read = 0
    for _ in range(2):
        with open_video(path, segment=segment) as video:
            assert numbers_of(video.sample(3).frames_THWC) == [30, 31, 32]
            assert len(list(video)) == 3
    # Both ways, twice; iterating goes on to where the decoder gives its last frame.
    assert read <= 2 * (7 + 9)
    assert listed <= 2 * (7 + 16)


def test_a_file_that_changes_is_listed_anew(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", 20)
    assert seen(path, Segment(10, 20, in_frames=True))[0] == list(range(10, 20))
    encode(path, 30, options={"g": "4"})
    assert seen(path, Segment(10, 30, in_frames=True))[0] == list(range(10, 30))


def test_damage_costs_its_own_frames(tmp_path: Path) -> None:
    """Packets of the second of three groups are overwritten: the third is whole, and of the second
    no frame takes another's place."""
    path = encode(
        tmp_path / "clip.mp4", NUM_FRAMES, options={"g": "20", "bf": "0", "sc_threshold": "0"}
    )
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size][25:28]
    content = bytearray(path.read_bytes())
    for at, size in places:
        content[at : at + size] = bytes(size)
    path.write_bytes(content)
    assert seen(path, Segment(40, 60, in_frames=True))[0] == list(range(40, 60))
    with open_video(path, segment=Segment(20, 40, in_frames=True)) as video:
        clip = video.read_all()
        assert [number_of(frame.image_HWC) for frame in video] == numbers_of(clip.frames_THWC)
    assert clip.warnings == ("incomplete: 17 of 20 frames can be decoded",)
    with open_video(path) as video:
        whole = video.read_all()
    own = (whole.times > 1.95) & (whole.times < 3.95)
    assert np.array_equal(clip.frames_THWC, whole.frames_THWC[own])
    assert np.allclose(clip.times, whole.times[own] - 2)


def test_a_folder_whose_frames_are_damaged(folder: Path, tmp_path: Path) -> None:
    for path in sorted((folder / "frames").iterdir()):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "00011.png").write_bytes(b"")  # before the segment
    (tmp_path / "00023.png").write_bytes(b"")  # in it
    with open_video(tmp_path, segment=Segment(20, 30, in_frames=True)) as video:
        clip = video.read_all()
    assert numbers_of(clip.frames_THWC) == [20, 21, *range(23, 30)]
    assert clip.warnings == ("incomplete: 9 of 10 frames can be decoded",)


def test_the_end_of_the_video(folder: Path) -> None:
    for name in ("short_gops.mp4", "frames"):
        with open_video(folder / name, segment=Segment(5.5, 6.4), frame_rate=10) as video:
            clip = video.read_all()
        assert numbers_of(clip.frames_THWC) == list(range(55, 60))
        assert clip.warnings == (
            "the segment ends 0.40 s behind the video and is read up to its end",
        )
        for segment, message in (
            (Segment(5.5, 6.6), r"#5.5-6.6: the segment ends behind the end of the video .6 s."),
            (Segment(6, 6.2), "#6-6.2: the segment begins behind"),
            (Segment(50, 70, in_frames=True), "#f50-70: the segment ends .*60 frames, 0 to 59"),
            (Segment(60, 61, in_frames=True), "#f60-61: the segment begins behind"),
            (Segment(0, 1e300), "ends behind"),
        ):
            with (
                pytest.raises(DecodeError, match=message),
                open_video(folder / name, segment=segment, frame_rate=10) as video,
            ):
                video.times()


def test_variable_rate(tmp_path: Path) -> None:
    """A frame that is shown for 3 seconds is the whole of a segment inside that time."""
    path = encode(tmp_path / "slow.mkv", pts=[0, 100, 200, 3200, 3300, 3400])
    assert numbers(path, Segment(0.5, 1.0)) == [2]
    assert numbers(path, Segment(0.0, 0.2)) == [0, 1]
    assert numbers(path, Segment(1.0, 3.5)) == [2, 3, 4, 5]


def numbers(path: Path, segment: Segment) -> list[int]:
    with open_video(path, segment=segment) as video:
        return numbers_of(video.read_all().frames_THWC)


def test_frames_in_memory() -> None:
    frames_THWC = np.stack([numbered_frame(n) for n in range(20)])
    video = PartVideo(ArrayVideo("made", frames_THWC, np.arange(20) / 10), Segment(0.5, 1.0))
    assert numbers_of(video.read_all().frames_THWC) == [5, 6, 7, 8, 9]
    assert [round(frame.time, 6) for frame in video] == [0, 0.1, 0.2, 0.3, 0.4]
    assert numbers_of(video.sample(2).frames_THWC) == [6, 8]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((2, 1), r"end \(1\) must lie behind start \(2\)"),
        ((1.5, 1.5), "must lie behind"),
        ((-1, 2), r"start \(-1\) must be finite and 0 or more"),
        ((0, math.nan), r"end \(nan\)"),
        ((0, math.inf, True), r"end \(inf\)"),
        ((math.inf, math.inf), r"start \(inf\)"),
        ((0.5, 2, True), r"start \(0.5\) must be the whole number of a frame"),
    ],
)
def test_what_is_no_segment(values: tuple[float, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Segment(*values)


def test_up_to_the_end(folder: Path) -> None:
    assert seen(folder / "one_gop.mp4", Segment(5.0, math.inf))[0] == list(range(50, 60))
    assert seen(folder / "frames", Segment(5.0, math.inf))[0] == list(range(50, 60))
    assert str(Segment(5, math.inf)) == "5-end"


def test_equal_segments_are_one() -> None:
    assert len({Segment(1, 2), Segment(1.0, 2.0), Segment(1, 2, in_frames=True)}) == 2
    assert [str(s) for s in (Segment(1, 2.25), Segment(0, 9, in_frames=True))] == ["1-2.25", "f0-9"]


def test_live_sources_have_none() -> None:
    for source in (0, "rtsp://127.0.0.1:9/x"):
        with pytest.raises(UsageError, match="a live source has no segments"):
            open_video(source, segment=Segment(0, 1))
