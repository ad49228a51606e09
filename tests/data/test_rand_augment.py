from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from videorwkv.data.rand_augment import (
    OPERATIONS,
    Operation,
    apply_operation,
    draw_operations,
)
from videorwkv.data.transforms import Augmentation
from videorwkv.errors import ConfigError


def clip(seed: int = 0) -> NDArray[np.uint8]:
    """Three frames of 24x32: the first two are equal, so what differs between them is a fault."""
    rng = np.random.default_rng(seed)
    frames_THWC = rng.integers(20, 200, (3, 24, 32, 3), np.uint8)
    frames_THWC[1] = frames_THWC[0]
    return frames_THWC


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("strength", [0.3, -0.3, 1.0])
def test_all_frames_get_the_same(name: str, strength: float) -> None:
    strength = abs(strength) if name in ("posterize", "solarize") else strength
    given = clip()
    found = apply_operation(given, Operation(name, strength))
    assert found.dtype == np.uint8
    assert found.shape == given.shape
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(given, clip())
    assert np.array_equal(found, given) == (name == "identity")


@pytest.mark.parametrize(
    "name", ["shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness",
             "saturation", "contrast", "sharpness", "posterize"]
)  # fmt: skip
def test_without_strength_nothing_changes(name: str) -> None:
    assert np.array_equal(apply_operation(clip(), Operation(name, 0.0)), clip())


def test_values_by_hand() -> None:
    frames_THWC = np.zeros((1, 1, 2, 3), np.uint8)
    frames_THWC[0, 0] = [[10, 100, 200], [90, 100, 255]]

    def values(name: str, strength: float = 0.0) -> list[list[int]]:
        return apply_operation(frames_THWC, Operation(name, strength))[0, 0].tolist()

    assert values("brightness", 1 / 0.9) == [[20, 200, 255], [180, 200, 255]]
    assert values("posterize", 1.0) == [[0, 96, 192], [80, 96, 240]]
    assert values("solarize", 0.5) == [[10, 100, 55], [90, 100, 0]]
    assert values("autocontrast") == [[0, 100, 0], [255, 100, 255]]
    grey = 0.299 * 10 + 0.587 * 100 + 0.114 * 200
    assert values("saturation", -1 / 0.9)[0] == pytest.approx([grey] * 3, abs=1)  # rounding


def test_equalized_values_are_spread() -> None:
    ramp = np.repeat(np.arange(100, 116, dtype=np.uint8), 256).reshape(1, 64, 64, 1)
    found = apply_operation(np.repeat(ramp, 3, axis=3), Operation("equalize", 0.0))
    levels = np.unique(found).astype(int)
    assert (levels[0], levels[-1]) == (0, 255)
    assert len(levels) == 16
    assert np.diff(levels).max() <= 18


def test_directions() -> None:
    frames_THWC = np.zeros((1, 33, 33, 3), np.uint8)
    frames_THWC[0, 16, 16] = 200

    def centre(name: str, strength: float) -> list[int]:
        found = apply_operation(frames_THWC, Operation(name, strength))[0, :, :, 0]
        return [int(x) for x in np.unravel_index(found.argmax(), found.shape)]

    assert centre("translate_x", 0.2) == [16, 19]
    assert centre("translate_y", -0.2) == [13, 16]
    for name in ("rotate", "shear_x", "shear_y"):
        assert centre(name, 0.7) == [16, 16]


def test_draws() -> None:
    found = [draw_operations(np.random.default_rng(n), 2, 15.0) for n in range(300)]
    assert {op.name for ops in found for op in ops} == set(OPERATIONS)
    assert {op.strength for ops in found for op in ops} == {-0.5, 0.5}
    assert all(op.strength > 0 for ops in found for op in ops if op.name == "posterize")
    assert draw_operations(np.random.default_rng(0), 0, 9.0) == ()


def test_as_a_part_of_the_augmentation() -> None:
    plain, more = Augmentation(), Augmentation(rand_augment=3)
    one = plain.draw(np.random.default_rng(0), 24)
    other = more.draw(np.random.default_rng(0), 24)
    # What was drawn before is the same.
    assert one.places.tolist() == other.places.tolist()
    assert (one.angle, one.flipped, one.erased) == (other.angle, other.flipped, other.erased)
    assert len(other.operations) == 3
    assert not np.array_equal(one.finish(clip()), other.finish(clip()))
    for wrong in ({"rand_augment": 15}, {"rand_magnitude": 31.0}, {"rand_augment": -1}):
        with pytest.raises(ConfigError, match="2 and 9 are usual"):
            Augmentation(**wrong)
