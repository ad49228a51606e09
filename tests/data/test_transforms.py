from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from videorwkv.data.transforms import Augmentation, Draw, check_views, crop_views, erase
from videorwkv.errors import ConfigError, UsageError
from videorwkv.preprocess.inputs import Box, FrameFit, fit, fit_image


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def augmented(
    augmentation: Augmentation, frames_THWC: np.ndarray, seed: int, size: int, **options: Any
) -> tuple[np.ndarray, Draw]:
    draw = augmentation.draw(np.random.default_rng(seed), size, **options)
    return draw.finish(np.stack([draw.crop(image_HWC) for image_HWC in frames_THWC])), draw


@pytest.mark.parametrize("frame_fit", ["crop", "stretch"])
def test_off_is_what_evaluation_sees(frame_fit: FrameFit) -> None:
    frames_THWC = noise(3, 40, 60, 3)
    result_THWC, draw = augmented(
        Augmentation.off(), frames_THWC, 1, 24, may_flip=True, frame_fit=frame_fit
    )
    assert np.array_equal(result_THWC, fit(frames_THWC, 24, frame_fit))
    assert not draw.flipped
    assert draw.erased is None


def test_one_draw_for_all_frames() -> None:
    still_THWC = np.repeat(noise(1, 40, 60, 3), 5, axis=0)
    augmentation = Augmentation(
        erase_probability=1, flip_probability=0.5, rotate=20.0, tint=0.3, grey_probability=0.5
    )
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


def test_crops_of_a_stretched_frame_have_its_shape() -> None:
    for ratio, wanted in ((1.0, (120, 200)), (0.64, (150, 160)), (4.0, (60, 400))):
        augmentation = Augmentation(scale=(0.25, 0.25), ratio=(ratio, ratio))
        box = augmentation.draw(np.random.default_rng(0), 30, frame_fit="stretch").crop_box(
            240, 400
        )
        assert (box.bottom - box.top, box.right - box.left) == wanted


@pytest.mark.parametrize(
    ("frame_fit", "whole"), [("crop", Box(0, 20, 40, 60)), ("stretch", Box(0, 0, 40, 80))]
)
def test_where_no_crop_fits(frame_fit: FrameFit, whole: Box) -> None:
    too_wide = Augmentation(scale=(1.0, 1.0), ratio=(5.0, 5.0))
    draw = too_wide.draw(np.random.default_rng(0), 30, frame_fit=frame_fit)
    assert draw.crop_box(40, 80) == whole


def test_rotation_changes_nothing_else_that_is_drawn() -> None:
    drawn = []
    for rotate in (0.0, 15.0, 180.0):
        rng = np.random.default_rng(0)
        draw = Augmentation(erase_probability=1.0, rotate=rotate).draw(rng, 100, may_flip=True)
        assert abs(draw.angle) <= rotate
        assert (draw.angle != 0) == (rotate != 0)
        drawn.append((draw, rng.uniform()))
    for draw, following in drawn:
        # What version 0.1.0 drew, which had no rotation.
        assert draw.areas[0] == pytest.approx(0.7821770123928726, rel=1e-12)
        assert draw.ratios[9] == pytest.approx(0.9554803869202312, rel=1e-12)
        assert draw.places == pytest.approx([0.02831967, 0.12428328], rel=1e-6)
        assert draw.colours == pytest.approx((1.1023746488, 1.0883137069, 1.0692310669), rel=1e-8)
        assert draw.flipped
        assert draw.erased == (57, 47, 99, 79)
        assert following == drawn[0][1]


def test_angles_fill_their_range() -> None:
    rng = np.random.default_rng(0)
    angles = [Augmentation(rotate=10.0).draw(rng, 24).angle for _ in range(200)]
    assert -10 <= min(angles) < -9
    assert 9 < max(angles) <= 10


def test_no_rotation_leaves_the_pixels_alone() -> None:
    frames_THWC = noise(2, 24, 24, 3)
    draw = Augmentation.off().draw(np.random.default_rng(0), 24)
    assert draw.finish(frames_THWC) is frames_THWC


def test_rotation_turns_all_frames_alike() -> None:
    frames_THWC = np.stack([cv2.GaussianBlur(noise(25, 25, 3), (7, 7), 0)] * 3)
    frames_THWC[2] = 255 - frames_THWC[2]
    before = frames_THWC.copy()
    draw = Augmentation.off().draw(np.random.default_rng(0), 25)
    # A quarter is exact: no pixel lies between two others.
    quarter_THWC = draw._replace(angle=90.0).finish(frames_THWC)
    assert np.array_equal(quarter_THWC, np.rot90(frames_THWC, axes=(1, 2)))
    turned_THWC = draw._replace(angle=20.0).finish(frames_THWC)
    assert np.array_equal(turned_THWC[0], turned_THWC[1])
    assert np.abs(turned_THWC[2].astype(int) - (255 - turned_THWC[0])).max() <= 1
    assert not np.array_equal(turned_THWC[0], frames_THWC[0])
    back_THWC = draw._replace(angle=-20.0).finish(turned_THWC)
    inner = (slice(None), slice(8, 17), slice(8, 17))
    assert np.abs(back_THWC[inner].astype(int) - frames_THWC[inner]).mean() < 3
    assert np.array_equal(frames_THWC, before)


def test_a_rotated_border_is_reflected() -> None:
    even_THWC = np.full((1, 24, 24, 3), 200, np.uint8)
    draw = Augmentation.off().draw(np.random.default_rng(0), 24)
    assert np.array_equal(draw._replace(angle=30.0).finish(even_THWC), even_THWC)


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


def test_tint_is_a_factor_on_each_colour() -> None:
    frames_THWC = noise(3, 24, 24, 3) // 2
    tinted = replace(Augmentation.off(), tint=0.25)
    factors = []
    for seed in range(100):
        result_THWC, draw = augmented(tinted, frames_THWC, seed, 24)
        assert np.abs(result_THWC - (frames_THWC * draw.tint).clip(0, 255)).max() <= 1
        factors.append(draw.tint)
    assert np.ptp(factors, axis=1).min() > 0  # not the same on all three: that is brightness
    assert 0.75 <= np.min(factors) < 0.77
    assert 1.23 < np.max(factors) <= 1.25


def test_grey_is_all_or_nothing() -> None:
    frames_THWC = noise(2, 24, 24, 3)
    luma_THW = frames_THWC @ np.array([0.299, 0.587, 0.114])
    often = replace(Augmentation.off(), grey_probability=0.5)
    num_grey = 0
    for seed in range(100):
        result_THWC, _ = augmented(often, frames_THWC, seed, 24)
        if np.array_equal(result_THWC, frames_THWC):
            continue
        num_grey += 1
        assert np.ptp(result_THWC, axis=-1).max() == 0
        assert np.abs(result_THWC[..., 0] - luma_THW).max() <= 1
    assert 35 < num_grey < 65


def test_another_light_changes_nothing_else_that_is_drawn() -> None:
    frames_THWC = noise(2, 40, 60, 3)
    plain = Augmentation(rotate=10.0, erase_probability=1.0)
    lit = replace(plain, tint=0.5, grey_probability=1.0)
    for seed in range(20):
        before, after = (
            augmentation.draw(np.random.default_rng(seed), 24, may_flip=True)
            for augmentation in (plain, lit)
        )
        assert (before.tint == 1).all()
        assert (after.tint != 1).any()
        assert after.colours == (*before.colours[:2], 0.0)
        for field in ("areas", "ratios", "places", "flipped", "erased", "angle"):
            assert np.array_equal(getattr(after, field), getattr(before, field))
    # Off, both leave every bit as it is.
    draw = Augmentation.off().draw(np.random.default_rng(0), 24)
    assert draw.finish(frames_THWC) is frames_THWC


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


def test_a_stretched_frame_has_one_crop() -> None:
    image_HWC = noise(30, 50, 3)
    whole_HWC = crop_views(image_HWC, 24, 1, "stretch")
    assert np.array_equal(whole_HWC, fit_image(image_HWC, 24, "stretch"))
    check_views((8, 1), "stretch", "asked")
    for refused in (
        lambda: crop_views(image_HWC, 24, 3, "stretch"),
        lambda: check_views((2, 3), "stretch", "asked"),
    ):
        with pytest.raises(ConfigError, match=r"3 crops.*frame_fit='stretch'.*Take 1"):
            refused()


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
        {"grey_probability": -0.1},
        {"tint": 1.0},
        {"speed": (0.0, 1.0)},
        {"rotate": -1.0},
        {"rotate": 181.0},
        {"rotate": float("nan")},
    ],
)
def test_wrong_values(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"Augmentation: {next(iter(wrong))}"):
        Augmentation(**wrong)  # type: ignore[arg-type]
