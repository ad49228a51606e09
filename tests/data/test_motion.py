from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from videorwkv.data.load import load_manifest
from videorwkv.data.manifest import Manifest
from videorwkv.data.motion.clips import (
    CLASSES,
    ROTATIONS,
    MotionOptions,
    motion_manifest,
    move,
    render,
)
from videorwkv.errors import ConfigError, UsageError

CLIPS = 1600


@pytest.fixture(scope="module")
def clips() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Frames [N, T, H, W, 3] of a small data set, and its classes [N]."""
    manifest = load_manifest(f"motion:train={CLIPS},validation=0,test=0,size=32,frames=8,seed=3")
    frames_NTHWC = np.stack([manifest.open(r).read_all().frames_THWC for r in manifest.rows])
    return frames_NTHWC, np.array([manifest.label_index(r.label) for r in manifest.rows])


def features(frames_NHWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """16x16 grey and each colour's mean and deviation, standardised: [N, 262]."""
    grey_NHW = frames_NHWC.mean(axis=-1).reshape(len(frames_NHWC), 16, 2, 16, 2).mean(axis=(2, 4))
    statistics = [frames_NHWC.mean(axis=(1, 2)), frames_NHWC.std(axis=(1, 2))]
    found = np.hstack([grey_NHW.reshape(len(grey_NHW), -1), *statistics])
    return (found - found.mean(axis=0)) / found.std(axis=0)


def ridge_accuracy(found: NDArray[np.float64], classes: NDArray[np.int64]) -> float:
    """Trained on the first half, tested on the second."""
    half = len(found) // 2
    x, y = found[:half], np.eye(8)[classes[:half]] - 1 / 8
    weights = np.linalg.solve(x.T @ x + 0.3 * half * np.eye(x.shape[1]), x.T @ y)
    return float(np.mean((found[half:] @ weights).argmax(axis=1) == classes[half:]))


def nearest_accuracy(found: NDArray[np.float64], classes: NDArray[np.int64]) -> float:
    half = len(found) // 2
    train, test = found[:half], found[half:]
    distance = (train**2).sum(axis=1) - 2 * test @ train.T
    return float(np.mean(classes[:half][distance.argmin(axis=1)] == classes[half:]))


@pytest.mark.parametrize("frame", [0, 4, 7])
def test_single_frame_is_at_chance(
    clips: tuple[NDArray[np.uint8], NDArray[np.int64]], frame: int
) -> None:
    frames_NTHWC, classes = clips
    found = features(frames_NTHWC[:, frame])
    # Three standard errors of an accuracy of 1/8 over the tested half.
    margin = 3 * np.sqrt(1 / 8 * 7 / 8 / (CLIPS // 2))
    assert abs(ridge_accuracy(found, classes) - 1 / 8) < margin
    assert abs(nearest_accuracy(found, classes) - 1 / 8) < margin


def test_baselines_would_see_a_frame_that_tells(
    clips: tuple[NDArray[np.uint8], NDArray[np.int64]],
) -> None:
    """The same baselines on frames into which the class was leaked, a little light in a row."""
    frames_NTHWC, classes = clips
    leaking_NHWC = frames_NTHWC[:, 4].astype(np.int64)
    for number in range(8):
        leaking_NHWC[classes == number, 4 * number : 4 * number + 4] += 40
    found = features(leaking_NHWC.clip(0, 255).astype(np.uint8))
    assert ridge_accuracy(found, classes) > 0.3


def test_motion_tells_left_from_right(
    clips: tuple[NDArray[np.uint8], NDArray[np.int64]],
) -> None:
    """Which shift, to the left or to the right, makes one frame more like the next."""
    frames_NTHWC, classes = clips
    chosen = np.isin(classes, [CLASSES.index("left"), CLASSES.index("right")])
    grey_NTHW = frames_NTHWC[chosen].mean(axis=-1)
    right = classes[chosen] == CLASSES.index("right")
    errors = [
        np.abs(np.roll(grey_NTHW[:, :-2], shift, axis=3) - grey_NTHW[:, 2:]).mean(axis=(1, 2, 3))
        for shift in (-1, 1)
    ]
    # The ground drifts by itself, so this crude measure is not perfect: 0.5 is chance.
    assert np.mean((errors[0] > errors[1]) == right) > 0.65


def test_noise_free_mean_is_the_same_in_every_class(
    clips: tuple[NDArray[np.uint8], NDArray[np.int64]],
) -> None:
    frames_NTHWC, classes = clips
    light_N = frames_NTHWC[:, 7].mean(axis=(1, 2, 3))
    error = light_N.std() / np.sqrt(CLIPS / 8)
    for number in range(8):
        assert abs(light_N[classes == number].mean() - light_N.mean()) < 4 * error


@pytest.mark.parametrize("label", [*CLASSES, *ROTATIONS])
def test_states_stay_uniform(label: str) -> None:
    """Place, angle and size of the last frame fill the circle evenly, in every class."""
    from videorwkv.data.motion.clips import draw_attributes

    rng = np.random.default_rng(0)
    last = []
    for _ in range(2000):
        motion = move(label, draw_attributes(rng), 16)
        last.append([*motion.place[-1], motion.angle[-1], motion.zoom[-1]])
    counts = np.stack([np.histogram(column, 10, (0, 1))[0] for column in np.array(last).T])
    # Chi-squared with 9 degrees of freedom: above 33 once in ten thousand times.
    assert (((counts - 200) ** 2 / 200).sum(axis=1) < 33).all()


def test_movement_goes_the_way_its_name_says() -> None:
    from videorwkv.data.motion.clips import draw_attributes

    start = draw_attributes(np.random.default_rng(0))
    for label, (x, y) in {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.items():
        step = (np.diff(move(label, start, 2).place, axis=0)[0] + 0.5) % 1 - 0.5
        assert np.sign(np.round(step, 9)).tolist() == [x, y]
    for label, sign in {"clockwise": 1, "counterclockwise": -1}.items():
        assert np.sign((np.diff(move(label, start, 2).angle) + 0.5) % 1 - 0.5) == sign
    for label, sign in {"approach": 1, "recede": -1}.items():
        assert np.sign((np.diff(move(label, start, 2).zoom) + 0.5) % 1 - 0.5) == sign
    for label, axis in {"shake": 0, "bounce": 1}.items():
        place = move(label, start._replace(place=np.array([0.5, 0.5])), 32).place
        assert np.ptp(place[:, 1 - axis]) == 0
        # There and back: it turns round, and stays near the middle of its swing.
        assert len(set(np.sign(np.diff(place[:, axis])))) == 2
        assert np.ptp(place[:, axis]) < 0.25


def test_class_draws_nothing() -> None:
    """Two classes with one generator differ in movement only: their first frames are equal."""
    first = [render(c, np.random.default_rng(5), size=32, frames=3) for c in ("left", "approach")]
    noise = first[0][0].astype(int) - first[1][0]
    assert not noise.any()
    assert (first[0][2] != first[1][2]).any()


def test_flip_table_swaps_what_a_mirror_swaps() -> None:
    flips = load_manifest("motion:train=8").flips
    assert flips is not None
    assert {label for label, flipped in flips.items() if label != flipped} == {"left", "right"}
    flips = load_manifest("motion:train=10,rotation=1").flips
    assert flips is not None
    swapped = {label for label, flipped in flips.items() if label != flipped}
    assert swapped == {"left", "right", "clockwise", "counterclockwise"}
    assert flips["left"] == "right"
    assert flips["counterclockwise"] == "clockwise"


@pytest.mark.parametrize("label", ["left", "down", "clockwise"])
def test_ground_moves_by_itself_only(label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from videorwkv.data.motion import clips as motion

    draw = motion.draw_attributes

    def still(rng: np.random.Generator) -> motion.Attributes:
        return draw(rng)._replace(drift=np.zeros(2), noise=1e-9)

    monkeypatch.setattr(motion, "draw_attributes", still)
    frames_THWC = render(label, np.random.default_rng(2), size=64, frames=8)
    same_HW = (frames_THWC == frames_THWC[0]).all(axis=(0, 3))
    assert 0.3 < same_HW.mean() < 0.99


def test_every_option_changes_the_digest() -> None:
    options = MotionOptions(train=16, validation=8, test=8, size=32, frames=12, event=4, at=2)
    still = {"rotation": 1, "order": 2, "pause": 1, "event": 5, "at": 3}
    changed = []
    # A timeline is made of films: tests/data/test_timeline_dataset.py.
    own = [field for field in fields(options) if field.name != "timeline"]
    for field in own:
        value = still.get(field.name, getattr(options, field.name) + 8)
        other = options
        if field.name in ("order", "pause"):
            other = replace(options, event=0, at=0, order=2, frames=20)
        changed.append(replace(other, **{field.name: value}))
    digests = {motion_manifest(o).digest for o in (options, *changed)}
    assert len(digests) == 1 + len(own)
    # And the data set of a resumed run keeps its own.
    assert motion_manifest(replace(options)).digest in digests


def test_names_of_older_data_sets_stay() -> None:
    row = load_manifest("motion:train=1,rotation=1").rows[0]
    assert row.path == "motion-1-64px-16f-rotation/train/000000"


def test_event_moves_and_then_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    from videorwkv.data.motion import clips as motion

    draw = motion.draw_attributes

    def quiet(rng: np.random.Generator) -> motion.Attributes:
        return draw(rng)._replace(noise=1e-9)

    monkeypatch.setattr(motion, "draw_attributes", quiet)
    manifest = load_manifest("motion:train=8,validation=0,test=0,size=32,frames=20,event=6,at=5")
    for row in manifest.rows:
        frames_THWC = manifest.open(row).read_all().frames_THWC
        changes_T = np.abs(np.diff(frames_THWC.astype(int), axis=0)).max(axis=(1, 2, 3)) > 0
        assert not changes_T[:5].any(), row.label
        assert changes_T[5:11].any(), row.label
        assert not changes_T[11:].any(), row.label


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("frames=16,event=8,at=9", "must lie within"),
        ("at=3", "must lie within"),
        ("order=2,event=4", "can't be combined with rotation or event"),
        ("order=5", "0, 2, 3 or 4"),
        ("order=4,frames=15", "at least 16"),
    ],
)
def test_wrong_orders_and_events(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_manifest(f"motion:{spec}")


def test_exact_by_seed_split_and_index() -> None:
    one = load_manifest("motion:train=16,validation=8,test=8,size=32,frames=4")
    other = load_manifest("motion:train=16,validation=8,test=8,size=32,frames=4")
    assert one.digest == other.digest
    read = [m.open(m.rows[5]).read_all().frames_THWC for m in (one, other)]
    assert np.array_equal(*read)
    reseeded = load_manifest("motion:train=16,validation=8,test=8,size=32,frames=4,seed=2")
    assert reseeded.digest != one.digest
    assert not np.array_equal(read[0], reseeded.open(reseeded.rows[5]).read_all().frames_THWC)
    firsts = [one.open(one.split(s).rows[0]).read_all().frames_THWC for s in one.splits]
    assert not np.array_equal(firsts[0], firsts[1])


def test_longer_data_set_begins_with_the_shorter() -> None:
    short, long = (load_manifest(f"motion:train={n},validation=0,test=0") for n in (8, 80))
    assert long.rows[:8] == short.rows


def test_classes_are_balanced() -> None:
    manifest: Manifest = load_manifest("motion:train=80,validation=16,test=0")
    labels = [row.label for row in manifest.split("train").rows]
    assert {labels.count(c) for c in CLASSES} == {10}
    assert labels[:8] != labels[8:16]
    turning = load_manifest("motion:train=80,validation=0,test=0,rotation=1")
    labels = [row.label for row in turning.rows]
    assert {labels.count(c) for c in turning.labels} == {8}
    assert set(turning.labels) == {*CLASSES, *ROTATIONS}


def test_sizes_and_lengths() -> None:
    manifest = load_manifest("motion:train=1,size=49,frames=3")
    clip = manifest.open(manifest.rows[0]).read_all()
    assert clip.frames_THWC.shape == (3, 49, 49, 3)
    assert clip.times.tolist() == [0, 0.125, 0.25]
    assert manifest.open(manifest.rows[0]).read([1, 1, 2], short_side=20).frames_THWC.shape == (
        3,
        20,
        20,
        3,
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("motion:sise=64", "Did you mean 'size'"),
        ("motion:size=big", "must be a whole number"),
        ("motion:size=4", "at least 16"),
        ("motion:frames", "must be a whole number"),
    ],
)
def test_wrong_options(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_manifest(spec)


def test_unknown_split_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"Available: train, validation, test"):
        load_manifest("motion").split("trian")


def test_options_have_defaults() -> None:
    assert MotionOptions.parse("") == MotionOptions()
