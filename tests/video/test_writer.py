from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numbered_video import numbered_frame, numbers_of

from videorwkv.errors import UsageError
from videorwkv.video import open_video
from videorwkv.video.writer import write_video


def _frames(count: int = 12, width: int = 96, height: int = 64) -> np.ndarray:
    return np.stack([numbered_frame(number, width, height) for number in range(count)])


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".MP4"])
def test_what_is_written_can_be_read(tmp_path: Path, suffix: str) -> None:
    frames_THWC = _frames()
    path = tmp_path / f"out{suffix}"
    write_video(path, frames_THWC, fps=12.5)
    clip = open_video(path).read_all()
    assert numbers_of(clip.frames_THWC) == list(range(12))
    assert np.abs(clip.frames_THWC.astype(int) - frames_THWC).mean() < 6
    np.testing.assert_allclose(clip.times, np.arange(12) / 12.5, atol=0.005)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("suffix", "shape"), [(".mp4", (52, 98)), (".gif", (51, 97))])
def test_odd_sizes(tmp_path: Path, suffix: str, shape: tuple[int, int]) -> None:
    path = tmp_path / f"out{suffix}"
    write_video(path, _frames(3, 97, 51), fps=np.float32(10))
    assert open_video(path).read_all().frames_THWC.shape == (3, *shape, 3)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_one_frame_from_an_iterator(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write_video(path, iter(_frames(1)), fps=30000 / 1001)
    assert len(open_video(path).read_all()) == 1


@pytest.mark.parametrize(
    ("name", "frames_THWC", "fps", "words"),
    [
        ("out.webm", _frames(2), 10, "'.webm'"),
        ("out", _frames(2), 10, "Available: .mp4, .gif"),
        ("out.mp4", _frames(2), 0, "must lie in"),
        ("out.mp4", _frames(2), float("nan"), "must lie in"),
        ("out.mp4", _frames(2), float("inf"), "must lie in"),
        ("out.gif", _frames(2), 1e-6, "must lie in"),
        ("out.mp4", [], 10, "no frames"),
        ("out.gif", [], 10, "no frames"),
        ("out.mp4", _frames(2).astype(np.float32), 10, "float32"),
        ("out.mp4", _frames(2)[0], 10, "uint8"),
        ("out.gif", [_frames(1)[0], _frames(1, 98)[0]], 10, "one size"),
    ],
)
def test_wrong_arguments_leave_nothing_behind(
    tmp_path: Path, name: str, frames_THWC: np.ndarray, fps: float, words: str
) -> None:
    (tmp_path / "out.mp4").write_bytes(b"an older file")
    with pytest.raises(UsageError, match=words):
        write_video(tmp_path / name, frames_THWC, fps)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"an older file"


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_video(tmp_path / "nowhere" / "out.mp4", _frames(1), 10)
