"""Generated scenes: exact by their number, and what the labels say is what the frames show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from videorwkv.data.load import load_manifest
from videorwkv.data.motion.actors import Actor
from videorwkv.data.motion.clips import clip_generator
from videorwkv.data.motion.scenes import (
    CAMERAS,
    LABELS,
    Scene,
    draw_scene,
    flipped,
    paint_scene,
)
from videorwkv.errors import ConfigError, UsageError

FRAMES = 16
STILL_T23 = np.tile(np.array([[1.0, 0, 0], [0, 1, 0]]), (FRAMES, 1, 1))
FEW = "scenes:train=6,validation=3,test=3,size=32"


def actor(**changes: Any) -> Actor:
    """A disc in the middle that rests."""
    zeros = np.zeros(FRAMES)
    values: dict[str, Any] = {
        "place_T2": np.full((FRAMES, 2), 0.5),
        "spin_T": zeros,
        "size_T": zeros + 1,
        "squeeze_T": zeros,
        "limbs_TL": np.zeros((FRAMES, 0)),
        "radius": 0.1,
        "outline_P": np.ones(40),
        "limb_length": 2.5,
    }
    return Actor(**{**values, **changes})


def scene(*actors: Actor, **changes: Any) -> Scene:
    base = Scene(actors, (), "", STILL_T23, "", np.ones(FRAMES))
    return replace(base, **changes)


def way(*corners: tuple[float, float]) -> np.ndarray:
    """From corner to corner at one speed, [T, 2]."""
    at = np.linspace(0, len(corners) - 1, FRAMES)
    x, y = zip(*corners, strict=True)
    return np.stack([np.interp(at, range(len(corners)), values) for values in (x, y)], 1)


def test_splits_and_labels() -> None:
    manifest = load_manifest(FEW)
    assert [len(manifest.split(split)) for split in manifest.splits] == [6, 3, 3]
    assert manifest.multilabel
    assert manifest.labels == LABELS
    with manifest.open(manifest.rows[0]) as video:
        clip = video.read_all()
    assert clip.frames_THWC.shape == (16, 32, 32, 3)
    assert clip.times[1] == 0.125


def test_a_clip_is_a_function_of_its_number() -> None:
    def clip(spec: str, split: str, number: int) -> tuple[str | None, bytes]:
        manifest = load_manifest(spec)
        row = manifest.split(split).rows[number]
        with manifest.open(row) as video:
            return row.label, video.read_all().frames_THWC.tobytes()

    one = clip(FEW, "train", 1)
    assert one == clip("scenes:train=2,validation=0,test=0,size=32", "train", 1)
    for other in (
        clip(FEW, "train", 2),
        clip(FEW, "test", 1),
        clip(f"{FEW},seed=2", "train", 1),
    ):
        assert one[1] != other[1]


@pytest.mark.parametrize(
    ("shown", "said", "unsaid"),
    [
        (
            actor(place_T2=way((0.2, 0.5), (0.8, 0.5))),
            {"early:right", "middle:right", "late:right", "at middle left", "at middle right"},
            {"early:left", "early:up", "early:rest", "there and back", "at top left"},
        ),
        (
            actor(place_T2=way((0.5, 0.8), (0.5, 0.2), (0.5, 0.8))),
            {"early:up", "late:down", "there and back"},
            {"early:down", "late:up", "early:right"},
        ),
        (actor(), {"early:rest", "middle:rest", "late:rest"}, {"fast", "slow", "grows"}),
        (actor(size_T=np.linspace(1, 1.5, FRAMES)), {"grows"}, {"shrinks", "pulses"}),
        (actor(size_T=np.linspace(1.5, 1, FRAMES)), {"shrinks"}, {"grows", "pulses"}),
        (
            actor(spin_T=np.linspace(0, 0.5, FRAMES)),
            {"spin clockwise"},
            {"spin counterclockwise", "early:right"},
        ),
        (
            actor(limbs_TL=np.linspace(0, 0.5, FRAMES)[:, None]),
            {"limb raised", "middle:limb"},
            {"limb waves", "middle:rest"},
        ),
        (
            actor(limbs_TL=0.2 * np.sin(np.linspace(0, 2 * np.pi, FRAMES))[:, None]),
            {"limb waves"},
            {"limb raised"},
        ),
        (
            actor(
                place_T2=0.5
                + 0.2
                * np.stack([f(np.linspace(0, 2 * np.pi, FRAMES)) for f in (np.cos, np.sin)], 1)
            ),
            {"arc clockwise"},  # y points down
            {"arc counterclockwise"},
        ),
    ],
)
def test_labels_are_read_off_what_a_body_does(
    shown: Actor, said: set[str], unsaid: set[str]
) -> None:
    found = set(scene(shown).labels)
    assert said <= found
    assert not unsaid & found


def test_labels_of_two_bodies() -> None:
    left = actor(place_T2=way((0.1, 0.5), (0.4, 0.5)))
    right = actor(place_T2=way((0.9, 0.5), (0.9, 0.5), (0.55, 0.5)))
    found = set(scene(left, right).labels)
    assert {"together", "both move", "touch", "left one first"} <= found
    assert not {"apart", "right one first"} & found
    back = scene(
        replace(left, place_T2=left.place_T2[::-1]), replace(right, place_T2=right.place_T2[::-1])
    )
    assert {"apart", "touch"} <= set(back.labels)
    assert "together" not in back.labels


def test_camera_and_light_are_labels() -> None:
    found = scene(actor(), camera="closer", lamp="flicker").labels
    assert {"camera closer", "light flicker"} <= set(found)


def test_the_mirrored_scene_has_the_flipped_labels() -> None:
    assert {flipped(label) for label in LABELS} == set(LABELS)
    assert flipped("left one first") == "right one first"
    assert flipped("camera turn clockwise") == "camera turn counterclockwise"
    differ = 0
    for number in range(60):
        drawn = draw_scene(clip_generator(1, "test", number, stream=4), FRAMES)
        mirrored = replace(
            drawn,
            actors=tuple(
                replace(
                    one,
                    place_T2=one.place_T2 * (-1, 1) + (1, 0),
                    spin_T=-one.spin_T,
                    limbs_TL=-one.limbs_TL,
                )
                for one in drawn.actors
            ),
            camera=flipped(drawn.camera),
        )
        assert mirrored.labels == tuple(sorted(map(flipped, drawn.labels)))
        differ += mirrored.labels != drawn.labels
    assert differ > 40


def test_frames_show_what_the_labels_say() -> None:
    frames_THWC = paint_scene(
        scene(actor(place_T2=way((0.2, 0.3), (0.8, 0.7)))), np.random.default_rng(0), 64
    ).astype(float)
    ground_HWC = np.median(frames_THWC, axis=0)
    x_T, y_T = [], []
    for image_HWC in frames_THWC:
        change_HW = np.abs(image_HWC - ground_HWC).mean(-1)
        change_HW[change_HW < 12] = 0  # noise
        weights = change_HW / change_HW.sum()
        y_T.append((weights.sum(1) * np.arange(64)).sum() / 63)
        x_T.append((weights.sum(0) * np.arange(64)).sum() / 63)
    assert np.abs(np.array(x_T) - np.linspace(0.2, 0.8, FRAMES)).max() < 0.08
    assert np.abs(np.array(y_T) - np.linspace(0.3, 0.7, FRAMES)).max() < 0.08


def test_a_camera_that_pans_moves_the_picture_the_other_way() -> None:
    camera_T23 = STILL_T23.copy()
    camera_T23[:, 0, 2] = -np.linspace(0, 0.25, FRAMES)  # to the right: 16 pixels
    first_HWC, *_, last_HWC = paint_scene(
        scene(camera="pan right", camera_T23=camera_T23), np.random.default_rng(0), 64
    ).astype(float)
    same = np.abs(first_HWC[:, 16:] - last_HWC[:, :-16]).mean()
    other = np.abs(first_HWC[:, :-16] - last_HWC[:, 16:]).mean()
    assert same < 8 < other  # of noise alone, and of the picture


def test_every_label_occurs_and_every_camera_moves() -> None:
    found: set[str] = set()
    for number in range(400):
        drawn = draw_scene(clip_generator(1, "train", number, stream=4), FRAMES)
        assert drawn.labels
        found |= set(drawn.labels)
        moved = np.abs(drawn.camera_T23[-1] - drawn.camera_T23[0]).max()
        if drawn.camera != "shake":
            assert (moved > 0.03) == bool(drawn.camera)
    assert found == set(LABELS)
    assert {f"camera {camera}" for camera in CAMERAS} <= found


def test_wrong_options_are_named() -> None:
    with pytest.raises(ConfigError, match=r"scenes: size \(16\) must be at least 32"):
        load_manifest("scenes:size=16")
    with pytest.raises(ConfigError, match="unknown option 'sice'"):
        load_manifest("scenes:sice=16")
    with pytest.raises(UsageError, match="--layout"):
        load_manifest(FEW, layout="classes")
