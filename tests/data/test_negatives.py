"""Clips of nothing among the training clips, and the class that they belong to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from videorwkv.cli.main import main
from videorwkv.data import Augmentation
from videorwkv.data.background import background_of, background_places, with_background
from videorwkv.data.dataset import Sample, make_dataset
from videorwkv.data.negatives import KINDS, negative
from videorwkv.errors import ConfigError
from videorwkv.inference.evaluate import evaluate
from videorwkv.inference.recogniser import load_run
from videorwkv.inference.stream_options import StreamOptions


@pytest.fixture
def clip_THWC() -> np.ndarray:
    return np.random.default_rng(0).integers(40, 200, (6, 32, 32, 3), dtype=np.uint8)


def test_what_each_kind_shows(clip_THWC: np.ndarray) -> None:
    for seed in range(20):
        made = {name: make(clip_THWC, np.random.default_rng(seed)) for name, make in KINDS.items()}
        assert all(x.shape == clip_THWC.shape and x.dtype == np.uint8 for x in made.values())
        assert any(np.array_equal(made["still"][0], frame) for frame in clip_THWC)
        assert all(np.array_equal(made["still"][0], frame) for frame in made["still"])
        assert made["black"].mean() < 60
        assert not np.array_equal(made["noise"][0], made["noise"][1])
    assert not np.array_equal(made["flicker"][0], made["flicker"][-1])
    # Whatever moved in the clip is gone: a still picture, its light taken out, stays the same.
    lit = KINDS["flicker"](clip_THWC, np.random.default_rng(5)).astype(float)
    np.testing.assert_allclose(np.corrcoef(lit[0].ravel(), lit[1].ravel())[0, 1], 1, atol=0.3)


def test_a_clip_of_nothing_is_a_function_of_its_seed(clip_THWC: np.ndarray) -> None:
    assert np.array_equal(negative(clip_THWC, 3), negative(clip_THWC, 3))
    first = [negative(clip_THWC, seed) for seed in range(12)]
    assert len({x.tobytes() for x in first}) > 8  # black is black


def labels_of(negatives: float, count: int = 40) -> list[str]:
    recipe = tiny.recipe(augmentation=replace(Augmentation.off(), negatives=negatives))
    data = make_dataset(
        recipe.model, tiny.manifest().split("train"), recipe.sampling,
        augmentation=recipe.augmentation, seed=1,
    )  # fmt: skip
    samples = [data[epoch, index] for epoch in range(2) for index in range(count // 2)]
    assert all(isinstance(sample, Sample) for sample in samples)
    return [data.manifest.labels[sample.label] for sample in samples]  # type: ignore[union-attr]


def test_the_share_of_negatives() -> None:
    none, some, every = labels_of(0.0), labels_of(0.3), labels_of(1.0)
    assert "background" not in none
    assert 4 <= some.count("background") <= 22
    # The others are what they were.
    assert all(a in ("background", b) for a, b in zip(some, none, strict=True))
    assert set(every) == {"background"}
    with pytest.raises(ConfigError, match="negatives"):
        Augmentation(negatives=1.5)


def test_the_class_of_nothing() -> None:
    assert background_of(["a", "none"]) == "none"
    assert background_of(["a", "None at all"]) is None
    assert background_places(["background", "a", "none"]) == (0, 2)
    added = with_background(tiny.manifest())
    assert "background" in added.labels
    assert added.flips is not None
    assert added.flips["background"] == "background"
    assert with_background(added) is added


def test_a_background_class_is_never_named() -> None:
    name = StreamOptions(threshold=0.6).label
    assert name(np.float32([0.7, 0.3]), 1, {0}) is None
    assert name(np.float32([0.3, 0.7]), None, {0}) == 1
    assert name(np.float32([0.5, 0.5]), 1, {0}) == 1  # hysteresis
    assert name(np.float32([0.7, 0.3]), None) == 0


def test_training_with_background(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    command = ["train", tiny.MOTION, *tiny.OPTIONS, "--no-baselines", f"--out={folder}"]
    assert main([*command, "--steps=2", "--negatives=0.5"]) == 0
    run = load_run(folder)
    assert run.recipe.augmentation.negatives == 0.5
    assert run.labels == with_background(tiny.manifest()).labels
    found = evaluate(run, tiny.manifest().split("validation"))
    assert found.n_ok == 8
    assert "background" not in found.per_class
    assert main([*command, "--steps=2", "--negatives=0.5", "--resume"]) == 0
    assert main([*command, "--steps=2", "--resume"]) == 2
    assert "was trained with" in capsys.readouterr().err
    assert main([*command, "--steps=2", "--negatives=2", f"--out={tmp_path / 'other'}"]) == 2
    assert "negatives" in capsys.readouterr().err
