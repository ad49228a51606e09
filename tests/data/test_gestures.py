"""A generated hand that draws: exact by its number, every class alike but for what is drawn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from videorwkv.data.load import load_manifest
from videorwkv.data.motion.gestures import FIGURES, FPS, GestureOptions, trajectory
from videorwkv.errors import ConfigError, UsageError
from videorwkv.inference.baselines import baselines


def test_splits_classes_and_lengths() -> None:
    manifest = load_manifest("gestures")
    assert {split: len(manifest.split(split)) for split in manifest.splits} == {
        "train": 100,
        "validation": 50,
        "test": 200,
    }
    assert manifest.labels == tuple(sorted(FIGURES))
    for split in manifest.splits:
        counts = Counter(row.label for row in manifest.split(split).rows)
        assert len(counts) == 10
        assert len(set(counts.values())) == 1
    seconds = []
    for row in manifest.rows[:30]:
        with manifest.open(row) as video:
            clip = video.read_all()
        assert clip.frames_THWC.shape[1:] == (96, 128, 3)
        seconds.append(len(clip) / FPS)
        assert np.allclose(np.diff(clip.times), 1 / FPS)
    assert min(seconds) < 2
    assert max(seconds) > 6
    assert 0.9 <= min(seconds) <= max(seconds) <= 9.1


def test_a_clip_is_a_function_of_its_number() -> None:
    def frames(spec: str, split: str, number: int) -> bytes:
        manifest = load_manifest(spec)
        row = manifest.split(split).rows[number]
        with manifest.open(row) as video:
            return bytes(video.read_all().frames_THWC.tobytes())

    one = frames("gestures:size=32", "train", 3)
    assert one == frames("gestures:size=32,train=20,test=10", "train", 3)
    others = [
        frames("gestures:size=32", "test", 3),
        frames("gestures:size=32", "train", 4),
        frames("gestures:size=32,seed=2", "train", 3),
    ]
    assert one not in others
    digests = {
        load_manifest(spec).digest
        for spec in ("gestures", "gestures:seed=2", "gestures:none=1", "gestures:size=64")
    }
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("label", "along"), [("left", (-1, 0)), ("right", (1, 0)), ("up", (0, -1)), ("down", (0, 1))]
)
def test_the_hand_comes_draws_and_leaves(label: str, along: tuple[int, int]) -> None:
    for seed in range(20):
        place_T2, shown_T = trajectory(label, np.random.default_rng(seed), 60)
        assert not shown_T[0]
        assert not shown_T[-1]
        inside = np.flatnonzero(shown_T)
        assert np.array_equal(inside, np.arange(inside[0], inside[-1] + 1))  # in one piece
        assert len(inside) > 40
        # Between the rests, in the middle of the clip, it moves along its direction.
        moved = (place_T2[42] - place_T2[18]) @ along
        across = abs((place_T2[42] - place_T2[18]) @ along[::-1])
        assert moved > 0.2
        assert across < 0.6 * moved


def test_clips_of_none() -> None:
    manifest = load_manifest("gestures:none=1,train=11,size=32")
    assert Counter(row.label for row in manifest.split("train").rows)["none"] == 1
    assert len(manifest.labels) == 11


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("gestures:sise=3", "gestures: unknown option 'sise'. Did you mean 'size'"),
        ("gestures:size=8", r"gestures: size \(8\) must be at least 32"),
        ("gestures:none=2", r"gestures: none \(2\) must be 0 or 1"),
        ("gestures:train=x", "must be a whole number"),
    ],
)
def test_wrong_options(spec: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        load_manifest(spec)


def test_it_is_generated_and_has_no_layout(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gestures is generated and has none"):
        load_manifest("gestures", layout="20bn")
    assert GestureOptions.parse("").classes == tuple(sorted(FIGURES))


def test_change_tells_the_classes_apart_and_a_frame_does_not() -> None:
    manifest = load_manifest("gestures:size=48,train=100,test=60")
    found = {b.name: b for b in baselines(manifest.split("train"), manifest.split("test"))}
    assert found["motion pieces"].ridge > 0.6
    assert found["middle frame"].ridge < 0.3
    assert found["middle frame"].nearest < 0.3
