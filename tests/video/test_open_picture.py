from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from videorwkv.errors import DecodeError
from videorwkv.video import open_video


@pytest.mark.parametrize("suffix", [".JPEG", ".png", ".bmp", ".webp"])
def test_a_picture_is_a_video_of_one_frame(tmp_path: Path, suffix: str) -> None:
    image_HWC = np.full((40, 50, 3), (30, 60, 90), np.uint8)
    path = tmp_path / f"picture{suffix}"
    path.write_bytes(cv2.imencode(suffix.lower(), image_HWC[..., ::-1])[1].tobytes())
    with open_video(path) as video:
        assert video.times().tolist() == [0.0]
        frames_THWC = video.read_all().frames_THWC
    assert frames_THWC.shape == (1, 40, 50, 3)
    assert np.abs(frames_THWC[0].astype(int) - image_HWC).max() <= 2  # of JPEG and WebP


def test_a_picture_that_is_cut_short(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    path = tmp_path / "picture.jpg"
    path.write_bytes(cv2.imencode(".jpg", noise)[1].tobytes()[:900])
    with pytest.raises(DecodeError, match="no frame can be decoded"), open_video(path) as video:
        video.read_all()
