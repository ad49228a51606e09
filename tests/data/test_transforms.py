from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from videorwkv.data.transforms import Augmentation, Box, Draw, crop_views, erase
from videorwkv.errors import ConfigError, UsageError
from videorwkv.preprocess.inputs import fit, fit_image


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def augmented(
    augmentation: Augmentation, frames_THWC: np.ndarray, seed: int, size: int, **options: bool
) -> tuple[np.ndarray, Draw]:
    draw = augmentation.draw(np.random.default_rng(seed), size, **options)
    return draw.finish(np.stack([draw.crop(image_HWC) for image_HWC in frames_THWC])), draw


def test_off_is_the_centred_square() -> None:
    frames_THWC = noise(3, 40, 60, 3)
    result_THWC, draw = augmented(Augmentation.off(), frames_THWC, 1, 24, may_flip=True)
    assert np.array_equal(result_THWC, fit(frames_THWC, 24))
    assert not draw.flipped
    assert draw.erased is None


def test_one_draw_for_all_frames() -> None:
    still_THWC = np.repeat(noise(1, 40, 60, 3), 5, axis=0)
    augmentation = Augmentation(erase_probability=1, flip_probability=0.5)
    for seed in range(20):
        result_THWC, _ = augmented(augmentation, still_THWC, seed, 24, may_flip=True)
        assert (result_THWC == result_THWC[0]).all()
        assert result_THWC.shape == (5, 24, 24, 3)


def test_draws_differ_by_seed_and_leave_the_source_alone() -> None:
    frames_THWC = noise(2, 40, 60, 3)
    before = frames_THWC.copy()
    made = [augmented(Augmentation(), frames_THWC, seed, 24)[0] for seed in (0, 0, 1)]
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    assert np.array_equal(frames_THWC, before)


def test_flip_mirrors() -> None:
    frames_THWC = noise(2, 24, 24, 3)
    always = replace(Augmentation.off(), flip_probability=1.0)
    mirrored_THWC, draw = augmented(always, frames_THWC, 0, 24, may_flip=True)
    assert draw.flipped
    assert np.array_equal(mirrored_THWC, frames_THWC[:, :, ::-1])
    kept_THWC, forbidden = augmented(always, frames_THWC, 0, 24, may_flip=False)
    assert not forbidden.flipped
    assert np.array_equal(kept_THWC, frames_THWC)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colour_does_what_it_says(name: str) -> None:
    frames_THWC = noise(2, 24, 24, 3) // 4 + 96
    jitter = replace(Augmentation.off(), **{name: 0.5})
    out_THWC = augmented(jitter, frames_THWC, 3, 24)[0].astype(float)
    # Crop first, then the three factors in this order.
    again = np.random.default_rng(3)
    again.uniform(size=22)
    factors = 1 + 0.5 * again.uniform(-1, 1, size=3)
    factor = factors[("brightness", "contrast", "saturation").index(name)]
    luma = np.array([0.299, 0.587, 0.114])
    grey = frames_THWC @ luma
    if name == "brightness":
        wanted = frames_THWC * factor
    elif name == "contrast":
        wanted = (frames_THWC - grey.mean()) * factor + grey.mean()
    else:
        wanted = (frames_THWC - grey[..., None]) * factor + grey[..., None]
    assert abs(factor - 1) > 0.02
    assert np.abs(out_THWC - wanted.clip(0, 255)).max() <= 1


def test_erase() -> None:
    frames_THWC, edges_THW = noise(3, 20, 20, 3), np.full((3, 20, 20), 255, np.uint8)
    means_TC = frames_THWC.mean(axis=(1, 2))
    outside = frames_THWC[:, :5].copy()
    erase(frames_THWC, edges_THW, Box(5, 2, 11, 9))
    assert np.abs(frames_THWC[:, 5:11, 2:9] - means_TC[:, None, None]).max() <= 0.5
    assert not edges_THW[:, 5:11, 2:9].any()
    assert (edges_THW == 0).sum() == 3 * 6 * 7
    assert np.array_equal(frames_THWC[:, :5], outside)


def test_erased_box_lies_inside() -> None:
    augmentation = Augmentation(erase_probability=1, erase_area=(0.02, 0.9))
    for seed in range(50):
        box = augmentation.draw(np.random.default_rng(seed), 30).erased
        assert box is not None
        assert 0 <= box.top < box.bottom <= 30
        assert 0 <= box.left < box.right <= 30


@pytest.mark.parametrize("shape", [(30, 50), (50, 30)])
def test_crop_views(shape: tuple[int, int]) -> None:
    image_HWC = noise(*shape, 3)
    first, middle, last = crop_views(image_HWC, 30, 3).reshape(3, 30, 30, 3)
    if shape[0] < shape[1]:
        assert np.array_equal(first, image_HWC[:, :30])
        assert np.array_equal(last, image_HWC[:, 20:])
    else:
        assert np.array_equal(first, image_HWC[:30])
        assert np.array_equal(last, image_HWC[20:])
    assert np.array_equal(middle, fit_image(image_HWC, 30))
    assert np.array_equal(crop_views(image_HWC, 30, 1), middle)
    with pytest.raises(UsageError, match="at least 1"):
        crop_views(image_HWC, 30, 0)


def test_very_long_frames_can_be_cropped() -> None:
    result_THWC, _ = augmented(Augmentation(), noise(1, 4, 400, 3), 0, 16)
    assert result_THWC.shape == (1, 16, 16, 3)


def test_speed_stays_in_its_range() -> None:
    rng = np.random.default_rng(0)
    speeds = [Augmentation(speed=(0.8, 1.25)).draw_speed(rng) for _ in range(200)]
    assert 0.8 <= min(speeds) < 0.85
    assert 1.18 < max(speeds) <= 1.25
    assert Augmentation().draw_speed(rng) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": (0.0, 1.0)},
        {"scale": (0.5, 1.5)},
        {"ratio": (2.0, 1.0)},
        {"brightness": 1.0},
        {"erase_probability": 1.5},
        {"speed": (0.0, 1.0)},
    ],
)
def test_wrong_values(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"Augmentation: {next(iter(wrong))}"):
        Augmentation(**wrong)  # type: ignore[arg-type]
