from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numbered_video import number_of, numbered_frame, numbers_of

from videorwkv.errors import DecodeError
from videorwkv.video import open_video


def _write(folder: Path, name: str, number: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    image_HWC = cv2.cvtColor(numbered_frame(number), cv2.COLOR_RGB2BGR)
    done, content = cv2.imencode(Path(name).suffix, image_HWC)
    assert done
    # cv2.imwrite can't write every name on every system.
    (folder / name).write_bytes(content.tobytes())
    return folder / name


@pytest.mark.parametrize(
    "names",
    [
        ["00001.jpg", "00002.jpg", "00007.jpg", "00010.jpg"],
        ["1.jpg", "2.jpg", "10.jpg", "100.jpg"],
        ["img_000009.png", "img_000010.PNG", "img_000011.jpeg"],
        ["cam2_9.jpg", "cam2_10.jpg", "cam10_1.jpg"],
        ["-1 é.jpg", "-2 é.jpg"],
    ],
)
def test_numbers_give_the_order_and_gaps_are_allowed(tmp_path: Path, names: list[str]) -> None:
    folder = tmp_path / "frames, of one clip"
    for number, name in reversed(list(enumerate(names))):
        _write(folder, name, number)
    (folder / "notes.txt").write_text("no frame")
    (folder / "._00001.jpg").write_bytes(b"left behind by another system")
    video = open_video(folder)
    assert [number_of(frame.image_HWC) for frame in video] == list(range(len(names)))
    np.testing.assert_allclose(video.times(), np.arange(len(names)) / 12)
    clip = video.sample(num_frames=3)
    assert numbers_of(clip.frames_THWC) == sorted(numbers_of(clip.frames_THWC))
    assert clip.warnings == ()
    np.testing.assert_allclose(clip.times * 12, numbers_of(clip.frames_THWC))


def test_colours_are_rgb(tmp_path: Path) -> None:
    _write(tmp_path, "1.png", 5)
    np.testing.assert_array_equal(open_video(tmp_path).read([0]).frames_THWC[0], numbered_frame(5))


def test_short_side_and_frames_of_another_size(tmp_path: Path) -> None:
    _write(tmp_path, "1.jpg", 1)
    larger_HWC = cv2.resize(numbered_frame(2), (192, 128))
    (tmp_path / "2.jpg").write_bytes(cv2.imencode(".jpg", larger_HWC)[1].tobytes())
    video = open_video(str(tmp_path))
    assert numbers_of(video.read_all().frames_THWC) == [1, 2]
    assert video.read_all().frames_THWC.shape == (2, 64, 96, 3)
    assert video.read_all(short_side=32).frames_THWC.shape == (2, 32, 48, 3)
    assert [frame.image_HWC.shape for frame in video] == [(64, 96, 3)] * 2


@pytest.mark.parametrize("harm", ["empty", "cut", "text"])
def test_unreadable_frames_are_left_out_and_counted(tmp_path: Path, harm: str) -> None:
    for number in range(6):
        path = _write(tmp_path, f"{number}.jpg", number)
        if number == 3:
            content = path.read_bytes()
            harmed = {"empty": b"", "cut": content[: len(content) // 2], "text": b"x" * 99}[harm]
            path.write_bytes(harmed)
    video = open_video(tmp_path)
    clip = video.read_all()
    assert numbers_of(clip.frames_THWC) == [0, 1, 2, 4, 5]
    assert clip.warnings == ("incomplete: 5 of 6 frames can be decoded",)
    iterated = open_video(tmp_path)
    assert [number_of(frame.image_HWC) for frame in iterated] == [0, 1, 2, 4, 5]
    assert iterated.warnings == clip.warnings
    assert len(iterated.times()) == 5


def test_no_readable_frame(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"nothing")
    video = open_video(tmp_path)
    with pytest.raises(DecodeError, match="no frame can be decoded"):
        video.read_all()
    with pytest.raises(DecodeError, match="no frame can be decoded"):
        list(video)


def test_no_frames_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no frame")
    with pytest.raises(DecodeError, match="no frames"):
        open_video(tmp_path)
