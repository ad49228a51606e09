from __future__ import annotations

import numpy as np
import pytest

from videorwkv.preprocess.edges import EdgeOptions, edge_map
from videorwkv.preprocess.inputs import FrameFit, fit, fit_box, fit_image, preprocess


def bordered(height: int, width: int) -> np.ndarray:
    """A red stripe at the start of the long side, a blue one at its end, outside the square."""
    image_HWC = np.full((height, width, 3), 60, np.uint8)
    along = image_HWC.swapaxes(0, 1) if height > width else image_HWC
    stripe = abs(height - width) // 4
    along[:, :stripe] = (250, 0, 0)
    along[:, -stripe:] = (0, 0, 250)
    return image_HWC


@pytest.mark.parametrize(("height", "width"), [(48, 64), (64, 48), (30, 300)])
@pytest.mark.parametrize("size", [24, 48, 100])
def test_a_stretched_frame_keeps_its_borders(height: int, width: int, size: int) -> None:
    image_HWC = bordered(height, width)
    stretched_HWC = fit_image(image_HWC, size, "stretch")
    assert stretched_HWC.shape == (size, size, 3)
    along = stretched_HWC.swapaxes(0, 1) if width > height else stretched_HWC
    assert (along[0] == (250, 0, 0)).all()
    assert (along[-1] == (0, 0, 250)).all()
    assert (fit_image(image_HWC, size, "crop") == 60).all()


def test_the_box_that_becomes_the_square() -> None:
    assert fit_box(48, 64, "crop") == (0, 8, 48, 56)
    assert fit_box(64, 48, "crop") == (8, 0, 56, 48)
    assert fit_box(48, 64, "stretch") == (0, 0, 48, 64)


@pytest.mark.parametrize("frame_fit", ["crop", "stretch"])
def test_preprocess_makes_edges_of_the_fitted_frames(frame_fit: FrameFit) -> None:
    frames_THWC = np.stack([bordered(48, 64)] * 2)
    inputs = preprocess(
        frames_THWC, size=24, edges="canny", edge_options=EdgeOptions(), frame_fit=frame_fit
    )
    square_THWC = fit(frames_THWC, 24, frame_fit)
    assert np.array_equal(inputs.frames_BTHWC[0].numpy(), square_THWC)
    assert np.array_equal(inputs.edges_BTHW[0].numpy(), edge_map(square_THWC))
    # The stripes are all there is to see.
    assert inputs.edges_BTHW.any() == (frame_fit == "stretch")


def test_a_square_frame_is_the_same_either_way() -> None:
    frames_THWC = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    assert np.array_equal(fit(frames_THWC, 24, "crop"), fit(frames_THWC, 24, "stretch"))
