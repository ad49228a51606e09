"""Which pictures of a folder are the frames of its clip."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from videorwkv.data.check.inspect_clip import inspect_clip
from videorwkv.errors import DecodeError, UsageError
from videorwkv.video import open_video
from videorwkv.video.frame_series import choose_series


def names(*patterns: str, count: int = 4) -> list[Path]:
    return [Path(pattern.format(n=n)) for pattern in patterns for n in range(1, count + 1)]


@pytest.mark.parametrize(
    ("frames", "others", "left_out"),
    [
        ("img_{n:05d}.jpg", ["flow_x_{n:05d}.jpg", "flow_y_{n:05d}.jpg"], "flow_x_#.jpg (4 files)"),
        ("{n:04d}.jpg", ["{n:04d}_mask.png"], "#_mask.png (4 files)"),
        ("{n:04d}.png", ["mask_{n:04d}.png"], "mask_#.png"),
        ("{n:04d}.jpg", ["{n:04d}_m.png"], "#_m.png"),
        ("rgb_{n}.png", ["x_{n}.png", "y_{n}.png"], "x_#.png (4 files), y_#.png (4 files)"),
        ("frame{n}.bmp", ["Depth{n}.png"], "depth#.png"),
        ("{n:03d}.webp", ["cover.jpg"], "cover.jpg (1 file)"),
        ("{n:03d}.jpg", [], ""),
        ("cam2_{n:03d}.jpg", [], ""),
        ("2023-11-05_14-12-{n:02d}_0.jpg", [], ""),
        ("flow_x_{n:03d}.jpg", [], ""),
    ],
)
def test_frames_beside_other_pictures(frames: str, others: list[str], left_out: str) -> None:
    wanted = names(frames)
    series = choose_series([*names(*others), *wanted])
    assert (series.files, series.clash) == (wanted, "")
    assert left_out in series.left_out
    assert bool(left_out) == bool(series.left_out)


@pytest.mark.parametrize(
    "files",
    [
        [*names("{n:05d}.jpg"), Path("00005.png")],  # one series in two formats
        [Path("shot1_1.jpg"), Path("shot1_2.jpg"), Path("shot2_3.jpg"), Path("shot2_4.jpg")],
        [Path("a_1.jpg"), Path("a_2.jpg"), Path("b_3.jpg"), Path("b_4.jpg")],
        [Path("cam2_9.jpg"), Path("cam2_10.jpg"), Path("cam10_1.jpg")],
        [Path("f1_a3f.jpg"), Path("f2_b3e.jpg"), Path("f3_c3d.jpg")],
        [Path("a.jpg"), Path("b.jpg")],
        [Path("12.5.jpg"), Path("12.6.jpg"), Path("13.5.jpg"), Path("13.6.jpg")],
        [Path("IMG_1.JPG"), Path("img_2.jpg"), Path("Img_3.jpeg")],
    ],
)
def test_numbers_that_occur_once_are_one_series(files: list[Path]) -> None:
    assert choose_series(files) == (files, "", "")


@pytest.mark.parametrize(
    ("files", "clash"),
    [
        (names("cam1_{n}.jpg", "cam2_{n}.jpg"), "cam1_#.jpg (4 files), cam2_#.jpg (4 files)"),
        (names("{n}_cam1.jpg", "{n}_cam2.jpg"), "#_cam1.jpg (4 files), #_cam2.jpg (4 files)"),
        (names("left_{n}.png", "right_{n}.png"), "left_#.png (4 files), right_#.png (4 files)"),
        (names("flow_x_{n}.jpg", "flow_y_{n}.jpg"), "flow_x_#.jpg (4 files), flow_y_#.jpg"),
        (names("{n}.jpg", "{n}.png"), "#.jpg (4 files), #.png (4 files)"),
    ],
)
def test_two_series_of_which_none_is_known(files: list[Path], clash: str) -> None:
    assert clash in choose_series(files).clash


def write(folder: Path, *files: str, level: int = 50) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        assert cv2.imwrite(str(folder / file), np.full((32, 32, 3), level, np.uint8))


def test_a_folder_of_frames_and_flow(tmp_path: Path) -> None:
    write(tmp_path, *map(str, names("img_{n}.png")), level=50)
    write(tmp_path, *map(str, names("flow_x_{n}.png")), level=200)
    with open_video(tmp_path) as video:
        clip = video.read_all()
    assert (clip.frames_THWC.shape[0], set(clip.frames_THWC.ravel().tolist())) == (4, {50})
    told = "beside the frames and not read: flow_x_#.png (4 files)"
    assert clip.warnings == (told,)
    finding = inspect_clip(tmp_path)
    assert (finding.verdict, finding.frames, told in finding.remarks) == ("ok", 4, True)


def test_a_folder_of_two_cameras_is_refused(tmp_path: Path) -> None:
    write(tmp_path, *map(str, names("cam1_{n}.png", "cam2_{n}.png")))
    with pytest.raises(DecodeError, match="several series of frames in one folder: cam1_#"):
        open_video(tmp_path)
    finding = inspect_clip(tmp_path)
    assert (finding.verdict, "several series" in finding.detail) == ("unreadable", True)


@pytest.mark.parametrize("suffix", [".bmp", ".webp", ".BMP"])
def test_other_formats(suffix: str, tmp_path: Path) -> None:
    write(tmp_path, *(f"{n}{suffix}" for n in range(3)), level=90)
    with open_video(tmp_path) as video:
        frames_THWC = video.read_all().frames_THWC
    assert frames_THWC.shape == (3, 32, 32, 3)
    np.testing.assert_allclose(frames_THWC, 90, atol=1)  # WebP loses a little


def test_a_folder_without_frames_says_what_it_has(tmp_path: Path) -> None:
    write(tmp_path, "1.tif")
    write(tmp_path / "rgb", "1.png")
    with pytest.raises(DecodeError, match=r"BMP and WebP .* it has .tif files; .* the folders rgb"):
        open_video(tmp_path)


def test_the_frame_rate_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path, *(f"{n}.png" for n in range(60)))
    with open_video(tmp_path, frame_rate=30) as video:
        np.testing.assert_allclose(video.times(), np.arange(60) / 30)
        clip = video.sample(8, fps=10)
        assert clip.times[-1] - clip.times[0] == pytest.approx(0.7)
        assert [frame.time for frame in video][-1] == pytest.approx(59 / 30)
    for rate in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="frame_rate"):
            open_video(tmp_path, frame_rate=rate)
