from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from videorwkv.video import Clip, Frame


def _clip(count: int = 3) -> Clip:
    return Clip(np.zeros((count, 4, 6, 3), np.uint8), np.arange(count) / 10)


def test_a_clip_gives_its_frames() -> None:
    frames = list(_clip())
    assert [frame.time for frame in frames] == [0.0, 0.1, 0.2]
    assert all(isinstance(frame, Frame) for frame in frames)
    assert len(_clip()) == 3


def test_repr_shows_shapes_not_pixels() -> None:
    assert repr(_clip()) == "Clip(frames=[3, 4, 6, 3] uint8, 0.00-0.20 s)"
    assert repr(next(iter(_clip()))) == "Frame(image=[4, 6, 3] uint8, 0.00 s)"


@pytest.mark.parametrize(
    ("frames_THWC", "times", "words"),
    [
        (np.zeros((3, 4, 6, 3), np.float32), np.arange(3.0), "float32"),
        (np.zeros((3, 4, 6), np.uint8), np.arange(3.0), r"\[3, 4, 6\]"),
        (np.zeros((3, 4, 6, 1), np.uint8), np.arange(3.0), "RGB"),
        (np.zeros((0, 4, 6, 3), np.uint8), np.arange(0.0), "empty"),
        (np.zeros((3, 4, 6, 3), np.uint8), np.arange(2.0), r"\(3,\)"),
        (np.zeros((3, 4, 6, 3), np.uint8), np.array([0.0, 2.0, 1.0]), "decrease"),
    ],
)
def test_wrong_clips(frames_THWC: np.ndarray, times: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Clip(frames_THWC, times)


def test_clips_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        _clip().source = "other"  # type: ignore[misc]
