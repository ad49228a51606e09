"""Which pictures are decoded to reach the wanted ones: counted, not timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numbered_video import number_of, numbers_of

from videorwkv.video import Sampling, container, open_video
from videorwkv.video.container import DecoderRun, plan_runs
from videorwkv.video.decoding import Decoding

MakeVideo = Callable[..., Path]


def test_a_run_begins_at_a_key_frame() -> None:
    places = {pts: pts for pts in range(0, 100, 10)}
    keys = {0: 0, 50: 50, 80: 80}
    assert plan_runs([20, 40], places, keys) == [DecoderRun(None, [20, 40], 40)]
    assert plan_runs([40, 60, 70], places, keys) == [
        DecoderRun(None, [40], 40),
        DecoderRun(50, [60, 70], 70),
    ]
    assert plan_runs([90], places, keys) == [DecoderRun(80, [90], 90)]
    assert plan_runs([0], places, keys) == [DecoderRun(None, [0], 0)]
    assert plan_runs([50, 80], places, keys) == [DecoderRun(50, [50], 50), DecoderRun(80, [80], 80)]
    assert plan_runs([20], places, {}) == [DecoderRun(None, [20], 20)]


def test_frames_out_of_order_in_the_file() -> None:
    # Shown 0 1 2 3 4 5, stored 0 3 1 2 | 5 4 with 5 as key frame: 4 needs the first key frame.
    places = {0: 0, 3: 1, 1: 2, 2: 3, 5: 4, 4: 5}
    keys = {0: 0, 5: 4}
    assert plan_runs([1, 3], places, keys) == [DecoderRun(None, [1, 3], 2)]
    assert plan_runs([2, 4], places, keys) == [DecoderRun(None, [2, 4], 5)]
    assert plan_runs([1, 5], places, keys) == [DecoderRun(None, [1], 2), DecoderRun(5, [5], 4)]
    # Nothing lies between the two.
    assert plan_runs([2, 5], places, keys) == [DecoderRun(None, [2, 5], 4)]
    # A frame after the key frame that is stored before it can't be decoded from there.
    assert plan_runs([6], {6: 1}, {0: 0, 5: 4}) == [DecoderRun(None, [6], 1)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The pts of all pictures that decoders give from now on."""
    seen: list[int] = []
    pictures = Decoding.pictures

    def spy(self: Decoding, *arguments: Any, **options: Any) -> Iterator[tuple[int, Any]]:
        for pts, picture in pictures(self, *arguments, **options):
            seen.append(pts)
            yield pts, picture

    monkeypatch.setattr(Decoding, "pictures", spy)
    return seen


def _reference(path: Path) -> list[np.ndarray]:
    return [frame.image_HWC for frame in open_video(path)]


GOPS = [6, 15, 60, 250]


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
@pytest.mark.parametrize("gop", GOPS)
def test_sparse_frames_cost_the_way_from_their_key_frames(
    make_video: MakeVideo,
    decoded: list[int],
    monkeypatch: pytest.MonkeyPatch,
    gop: int,
    name: str,
    kept: bool,
) -> None:
    monkeypatch.setattr(container, "KEPT_BYTES", container.KEPT_BYTES if kept else 0)
    # No frame can be left out, so that the least is known.
    options = {"g": str(gop), "bf": "0", "x264-params": "scenecut=0"}
    path = make_video(name, 240, options=options)
    wanted = Sampling(num_frames=8).indices(np.arange(240) / 10).tolist()
    by_key = {key: [n for n in wanted if n // gop == key] for key in {n // gop for n in wanted}}
    least = sum(numbers[-1] - key * gop + 1 for key, numbers in by_key.items())
    video = open_video(path)
    video.times()
    assert decoded == []
    clip = video.read(wanted)
    assert len(decoded) == least <= wanted[-1] + 1
    reference = _reference(path)
    for image_HWC, number in zip(clip.frames_THWC, wanted, strict=True):
        np.testing.assert_array_equal(image_HWC, reference[number])


def test_frames_nobody_refers_to_are_left_out(make_video: MakeVideo, decoded: list[int]) -> None:
    options = {"g": "250", "bf": "3", "x264-params": "scenecut=0:b-adapt=0:b-pyramid=none"}
    path = make_video("clip.mp4", 101, options=options)
    clip = open_video(path).read([99])
    # One picture in four is referred to.
    assert len(decoded) < 35
    np.testing.assert_array_equal(clip.frames_THWC[0], _reference(path)[99])


def test_frames_that_are_left_out_in_one_run_are_given_in_the_next(
    make_video: MakeVideo,
) -> None:
    options = {"g": "20", "bf": "3", "x264-params": "scenecut=0:b-adapt=0:b-pyramid=none"}
    path = make_video("clip.mp4", 80, options=options)
    reference = _reference(path)
    for indices in ([10, 20, 40, 60], [19, 21, 22, 23, 41], [18, 38, 58, 78]):
        clip = open_video(path).read(indices)
        for image_HWC, index in zip(clip.frames_THWC, indices, strict=True):
            np.testing.assert_array_equal(image_HWC, reference[index])


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("clip.ts", {"options": {"g": "15", "flags": "+ilme+ildct", "x264-params": "tff=1"}}),
        (
            "clip.mpg",
            {
                "codec": "mpeg2video",
                "fps": 25,
                "options": {"g": "12", "bf": "2", "flags": "+ildct"},
            },
        ),
    ],
)
def test_interlaced_frames(
    make_video: MakeVideo,
    decoded: list[int],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    how: dict,
    kept: bool,
) -> None:
    monkeypatch.setattr(container, "KEPT_BYTES", container.KEPT_BYTES if kept else 0)
    path = make_video(name, 70, **how)
    reference = _reference(path)
    ends: list[int | None] = []
    pictures = Decoding.pictures

    def spy(self: Decoding, *arguments: Any, last_place: int | None = None) -> Iterator:
        ends.append(last_place)
        return pictures(self, *arguments, last_place=last_place)

    monkeypatch.setattr(Decoding, "pictures", spy)
    decoded.clear()
    clip = open_video(path).read([20, 50])
    assert numbers_of(clip.frames_THWC) == [20, 50]
    for image_HWC, index in zip(clip.frames_THWC, [20, 50], strict=True):
        np.testing.assert_array_equal(image_HWC, reference[index])
    # A second field could lie in a packet of its own: the decoder must see what follows.
    assert ends[-2:] == [None, None]
    assert len(decoded) < 50


def test_intra_refresh_has_no_frame_to_begin_with(make_video: MakeVideo) -> None:
    """FFmpeg calls frames key frames from which the picture only recovers."""
    path = make_video("clip.ts", 70, options={"g": "15", "x264-params": "intra-refresh=1"})
    reference = _reference(path)
    for index in (16, 33, 50, 69):
        image_HWC = open_video(path).read([index]).frames_THWC[0]
        assert number_of(image_HWC) == index
        np.testing.assert_array_equal(image_HWC, reference[index])


def test_a_container_is_opened_once(make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video("clip.mp4", 30)
    opened: list[str] = []
    begin = Decoding.__init__

    def spy(self: Decoding, *arguments: Any, **options: Any) -> None:
        opened.append("again")
        begin(self, *arguments, **options)

    monkeypatch.setattr(Decoding, "__init__", spy)
    with open_video(path) as video:
        assert numbers_of(video.sample(3).frames_THWC) == [5, 15, 25]
        assert len(opened) == 1
        # Nobody else's decoder: a second reading has one of its own.
        assert numbers_of(video.sample(3).frames_THWC) == [5, 15, 25]
        assert len(opened) == 2
    assert len(list(open_video(path))) == 30
    assert len(opened) == 3


def test_closing_closes_the_file(make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    video = open_video(make_video("clip.mp4", 5))
    video.times()
    closed: list[str] = []
    monkeypatch.setattr(Decoding, "__exit__", lambda self, *_: closed.append(self.name))
    video.close()
    video.close()
    assert closed == [video.name]


def test_transform_sees_upright_frames_one_by_one(make_video: MakeVideo) -> None:
    path = make_video("clip.mp4", 12)
    whole = open_video(path).read([2, 7]).frames_THWC
    seen: list[tuple[int, ...]] = []

    def corner(image_HWC: np.ndarray) -> np.ndarray:
        seen.append(image_HWC.shape)
        return image_HWC[:10, :20]

    clip = open_video(path).read([2, 7], transform=corner)
    assert seen == [(64, 96, 3)] * 2
    np.testing.assert_array_equal(clip.frames_THWC, whole[:, :10, :20])
    # After `short_side`.
    open_video(path).sample(1, short_side=32, transform=corner)
    assert seen[-1] == (32, 48, 3)
