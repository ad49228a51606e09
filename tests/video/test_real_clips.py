"""Real files with known verdicts: the number of frames, or why there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from videorwkv.errors import DecodeError
from videorwkv.video import open_video

# path below clips/: frames that can be decoded, (height, width) as shown
FRAMES = {
    "kinetics400/springboard_diving_-AJ3JIMaS18.mp4": (300, 720, 1280),
    "kinetics400/surfing_water_--coBvtS-eQ.mp4": (299, 360, 202),
    "kinetics400/surfing_water_05FLJw6nljs.mp4": (240, 720, 960),
    "kinetics400/swimming_backstroke_11ak7MOIROI.mp4": (172, 720, 406),
    "kinetics400/swimming_breast_stroke_1AD6ltFmiaI.mp4": (250, 360, 480),
    "kinetics400/swimming_butterfly_stroke_-JIvn5VWIKQ.mp4": (250, 360, 480),
    "odd/av1_video.mkv": (125, 360, 640),
    "odd/corrupted.mp4": (49, 720, 1280),
    "odd/demo.mp4": (280, 256, 340),
    "odd/flipping_a_pancake.mkv": (310, 240, 426),
    "odd/h264_10bits.mp4": (30, 200, 200),
    "odd/h264_white_frame_sar_16_9.mp4": (1, 480, 640),
    "odd/minimal.mp4": (1, 240, 320),
    "odd/test.avi": (164, 240, 320),
    "odd/test_video.mp4": (13, 30, 40),
    "odd/unordered.mov": (4, 50, 50),
    "odd/video_0.mov": (3, 320, 568),
    "odd/video_180.mov": (3, 320, 568),
    "odd/video_90.mov": (3, 568, 320),
    "ssv2/ssv2_task41_0.webm": (154, 1920, 1080),
    "ssv2/ssv2_task41_1.webm": (58, 240, 427),
    "ssv2/ssv2_task5_0.webm": (52, 240, 427),
    "ssv2/ssv2_task93_0.webm": (107, 1080, 1920),
}
ERRORS = {
    "odd/invalid_userdata.mp4": "no frame can be decoded .*of 5544 frames",
    "odd/sine_mono_s16.wav": "no video stream; found: audio",
}


def test_the_lists_are_complete(shared_dir: Path) -> None:
    clips = shared_dir / "clips"
    found = {path.relative_to(clips).as_posix() for path in clips.rglob("*") if path.is_file()}
    assert found == FRAMES.keys() | ERRORS.keys()


@pytest.mark.parametrize("name", FRAMES)
def test_every_way_of_reading(shared_dir: Path, name: str) -> None:
    count, height, width = FRAMES[name]
    damaged = name == "odd/corrupted.mp4"
    video = open_video(shared_dir / "clips" / name)
    assert len(video.times()) == (50 if damaged else count)
    wanted = np.unique(np.linspace(0, count - 1, 5).astype(int))
    clip = video.read(wanted, short_side=24)
    assert min(clip.frames_THWC.shape[1:3]) == 24

    iterated = open_video(shared_dir / "clips" / name)
    times, thumbnails = [], []
    for frame in iterated:
        if not times:
            assert frame.image_HWC.shape == (height, width, 3)
        times.append(frame.time)
        if len(times) - 1 in wanted:
            thumbnails.append(frame.image_HWC[::40, ::40].copy())
    assert len(times) == count
    assert np.all(np.diff(times) > 0)
    expected = ("incomplete: 49 of 50 frames can be decoded",) if damaged else ()
    assert iterated.warnings == expected
    if damaged:
        np.testing.assert_allclose(times, iterated.times())
        assert open_video(shared_dir / "clips" / name).read_all(short_side=24).warnings == expected
    else:
        np.testing.assert_allclose(times, video.times(), atol=1e-9)
        full = video.read(wanted)
        assert full.warnings == ()
        for image_HWC, thumbnail_HWC in zip(full.frames_THWC, thumbnails, strict=True):
            np.testing.assert_array_equal(image_HWC[::40, ::40], thumbnail_HWC)


def test_an_old_avi_with_packed_b_frames_moves_smoothly(shared_dir: Path) -> None:
    """Its pts are FFmpeg's guesses; by them every third frame or so would jump back."""
    path = shared_dir / "clips/odd/test.avi"
    frames_THWC = open_video(path).read_all().frames_THWC.astype(np.int16)
    jumps = np.abs(np.diff(frames_THWC, axis=0)).mean(axis=(1, 2, 3))
    assert jumps.mean() < 3  # 2.5 as the decoder gives them, 3.9 by their pts


@pytest.mark.parametrize("name", ERRORS)
def test_files_without_a_frame(shared_dir: Path, name: str) -> None:
    with pytest.raises(DecodeError, match=ERRORS[name]):
        open_video(shared_dir / "clips" / name).sample()


def test_rotation_flags_put_the_keyboard_upright(shared_dir: Path) -> None:
    """The same keyboard was filmed three times; key rows run from left to right in all of them."""
    for angle in (0, 90, 180):
        image_HWC = open_video(shared_dir / f"clips/odd/video_{angle}.mov").read([0]).frames_THWC[0]
        wide = image_HWC.shape[1] > image_HWC.shape[0]
        assert wide == (angle != 90)
