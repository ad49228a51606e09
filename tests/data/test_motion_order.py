from __future__ import annotations

from math import factorial

import numpy as np
import pytest
from numpy.typing import NDArray

from videorwkv.data.manifest import load_manifest
from videorwkv.data.motion import mirrored, render
from videorwkv.data.motion_order import backwards, lengths, orders


@pytest.mark.parametrize("count", [2, 3, 4])
def test_classes_are_all_orders(count: int) -> None:
    manifest = load_manifest(f"motion:order={count},frames=16,train=48,validation=0,test=0,size=16")
    assert manifest.labels == orders(count)
    assert len(manifest.labels) == factorial(count)
    assert {row.label for row in manifest.rows} == set(manifest.labels)
    assert len(manifest.open(manifest.rows[0]).read_all()) == 16


@pytest.mark.parametrize(("count", "frames"), [(2, 16), (3, 50), (4, 128)])
def test_lengths_add_up_and_do_not_know_their_place(count: int, frames: int) -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([lengths(count, frames, rng) for _ in range(3000)])
    assert (drawn.sum(1) == frames).all()
    assert drawn.min() >= frames // (2 * count)
    assert drawn.std() > 0
    error = drawn.std() / np.sqrt(len(drawn))
    assert np.abs(drawn.mean(0) - frames / count).max() < 4 * error


def test_a_mirror_swaps_left_and_right_within_the_order() -> None:
    assert mirrored("left-up-right") == "right-up-left"
    flips = load_manifest("motion:order=3,frames=16,train=6").flips
    assert flips is not None
    assert flips["up-left-right"] == "up-right-left"


def test_what_a_clip_shows_backwards() -> None:
    assert backwards("left-right") == "left-right"
    assert backwards("left-up-right-down") == "up-left-down-right"
    assert backwards("left-right-up") is None  # it ends in a movement down
    assert backwards("left") == "right"
    assert backwards("shake") == "shake"


def test_movements_come_in_turn() -> None:
    """A template of the whole ground and subject tells the way they go in each half."""
    rng = np.random.default_rng(1)
    shifts = []
    for _ in range(12):
        frames_THWC = render("left-right", rng, size=32, frames=24)
        shifts.append([_way(frames_THWC[:6]), _way(frames_THWC[-6:])])
    first, last = np.mean(shifts, axis=0)
    assert first < 0 < last


def _way(frames_THWC: NDArray[np.uint8]) -> float:
    """Below 0: two frames are more alike after a shift to the left than to the right."""
    grey_THW = frames_THWC.mean(axis=-1)
    left, right = (
        np.abs(np.roll(grey_THW[:-1], shift, axis=2) - grey_THW[1:]).mean() for shift in (-1, 1)
    )
    return float(left - right)


def test_the_set_of_frames_is_the_same_in_every_class() -> None:
    """Frames sorted by light: what is left without their order does not tell the class."""
    manifest = load_manifest("motion:order=2,frames=8,train=1200,validation=0,test=0,size=16")
    sets = np.array(
        [
            np.sort(manifest.open(row).read_all().frames_THWC.mean(axis=(1, 2, 3)))
            for row in manifest.rows
        ]
    )
    first = np.array([row.label == manifest.labels[0] for row in manifest.rows])
    gap = sets[first].mean(0) - sets[~first].mean(0)
    assert np.abs(gap).max() < 4 * (sets.std(0) * 2 / np.sqrt(len(sets))).max()


def test_exact_by_seed() -> None:
    spec = "motion:order=3,frames=12,train=4,validation=0,test=0,size=16"
    one, same, other = (load_manifest(spec + more) for more in ("", "", ",seed=2"))
    read = [m.open(m.rows[3]).read_all().frames_THWC for m in (one, same, other)]
    assert np.array_equal(read[0], read[1])
    assert not np.array_equal(read[0], read[2])
