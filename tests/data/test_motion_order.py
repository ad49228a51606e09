from __future__ import annotations

import re
from math import factorial

import numpy as np
import pytest
from numpy.typing import NDArray

from videorwkv.data.load import load_manifest
from videorwkv.data.motion.clips import flipped, render
from videorwkv.data.motion.order import backwards, lengths, orders, scenes
from videorwkv.errors import ConfigError


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
    assert flipped("left-up-right") == "right-up-left"
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


def test_pauses_stand_around_every_movement() -> None:
    """No clean frame changes but while something moves, and at the cut between two movements."""
    spec = "motion:order=2,frames=40,pause=4,train=8,validation=0,test=0,size=32"
    manifest = load_manifest(spec)
    for row in manifest.rows:
        frames_THWC = manifest.open(row).read_all().frames_THWC.astype(float)
        change_T = np.abs(np.diff(frames_THWC, axis=0)).mean(axis=(1, 2, 3))
        quiet = change_T < 1.2 * change_T.min()  # noise alone
        runs = "".join("-" if q else "x" for q in quiet)
        # The first still frame after a movement is where it has arrived; a cut is between scenes.
        assert re.fullmatch(r"-{3,6}x-{4}x{3,}-{3}x-{4}x{3,}-{3}x-{3,6}", runs), runs
    assert "-pause4/" in manifest.rows[0].path


def test_with_pauses_a_movement_does_not_know_its_place() -> None:
    """Where it begins is as random in the first as in the last, at every step of a sampling, and
    more still frames lie before it and after it than a pause has."""
    rng, pause = np.random.default_rng(0), 4
    begins = []
    for _ in range(4000):
        shown = scenes(["left", "right", "up"], 64, pause, rng)
        assert sum(scene.frames for scene in shown) == 64
        assert [scene.label for scene in shown] == ["", "left", "right", "up", ""]
        cuts = np.cumsum([0, *(scene.frames for scene in shown)])
        first = [cut + scene.still for cut, scene in zip(cuts, shown, strict=False)][1:-1]
        last = [begin + scene.moving for begin, scene in zip(first, shown[1:], strict=False)]
        assert first[0] >= 2 * pause
        assert 64 - last[-1] >= 2 * pause
        assert all(b - a == 2 * pause for a, b in zip(last, first[1:], strict=False))
        begins.append(first)
    for step in (2, 4):
        counts = np.stack([np.bincount(place % step) for place in np.array(begins).T])
        assert np.abs(counts - 4000 / step).max() < 5 * np.sqrt(4000 / step)


def test_a_pause_leaves_other_clips_as_they_were() -> None:
    spec = "motion:order=2,frames=16,train=2,validation=0,test=0,size=16"
    assert load_manifest(spec).digest == load_manifest(spec + ",pause=0").digest


@pytest.mark.parametrize(
    ("options", "message"),
    [("pause=4", "needs order"), ("order=2,pause=4,frames=34", "must be at least 35")],
)
def test_impossible_pauses(options: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_manifest(f"motion:{options}")


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
