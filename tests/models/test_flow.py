"""Optical flow as a stem sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from videorwkv.errors import ConfigError
from videorwkv.models import LCRConfig
from videorwkv.models.flow import flow_of_clip, flow_window, optical_flow


def texture(seed: int = 0) -> np.ndarray:
    """Waves in all directions, 8 pixels and longer, 0 to 255, [48, 48]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :48] / 48
    waves = [
        np.cos(2 * np.pi * (kx * x + ky * y + rng.uniform()))
        for kx in range(-4, 5)
        for ky in range(-4, 5)
    ]
    total = np.sum(waves, axis=0)
    return 128 + 60 * total / total.std() / 2


def as_frames(*frames_HW: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.stack(frames_HW), dtype=torch.float32)[:, None]


@pytest.mark.parametrize(("right", "down"), [(1, 0), (-1, 0), (0, 1), (0, -1), (1, -1)])
def test_tells_the_direction_whatever_moves(right: int, down: int) -> None:
    for seed in range(3):
        before = texture(seed)
        now = np.roll(before, (down, right), axis=(0, 1))
        flow_F2HW = optical_flow(as_frames(now), as_frames(before), 7)
        middle_2 = flow_F2HW[0, :, 4:-4, 4:-4].mean((1, 2))
        strongest = middle_2.abs().max()
        wanted_2 = torch.tensor([float(right), float(down)]) * strongest
        torch.testing.assert_close(middle_2, wanted_2, rtol=0, atol=0.35 * strongest.item())


def test_grows_with_contrast_as_the_change_does() -> None:
    before = texture()
    now = np.roll(before, 1, axis=1)
    whole, half = (optical_flow(as_frames(now * x), as_frames(before * x), 7) for x in (1.0, 0.5))
    torch.testing.assert_close(half, whole / 2)


def test_is_zero_where_nothing_changes() -> None:
    before, now = texture(), texture()
    now[:, 24:] = np.roll(now, 2, axis=0)[:, 24:]
    flow_F2HW = optical_flow(as_frames(now), as_frames(before), 7)
    assert not flow_F2HW[:, :, :, :20].any()
    assert flow_F2HW[:, :, :, 28:].any()


def test_a_first_frame_has_none() -> None:
    frames = torch.randint(0, 256, (3, 2, 16, 16, 3), dtype=torch.uint8)
    started = torch.tensor([[False, True], [True, True], [True, True]])
    flow_FHW2 = flow_of_clip(
        frames, frames[2], started, window=flow_window(8), dtype=torch.float32
    ).unflatten(0, (3, 2))
    assert not flow_FHW2[0, 0].any()
    assert flow_FHW2[0, 1].any()
    assert flow_FHW2[1, 0].any()


def test_the_window_is_odd_and_as_wide_as_a_patch() -> None:
    assert [flow_window(p) for p in (1, 4, 7, 8, 16)] == [1, 3, 7, 7, 15]


@pytest.mark.parametrize("other", [{"stem_frames": 1}, {"stem": "lite0"}])
def test_needs_pixels_and_the_frame_before(other: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="stem_flow=True shows a stem of pixels how they move on"):
        LCRConfig(stem_flow=True, **other)
