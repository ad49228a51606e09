"""A config.json that is damaged, edited or hostile is refused with a message, and costs nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from mutants import changed_values, flipped_bits

from videorwkv.errors import CheckpointError, VideoRWKVError
from videorwkv.run.description import read_description
from videorwkv.run.run import read_run
from videorwkv.utils.values import sealed, unsealed


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_run, tmp_path / "run")


def set_to(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda config: config.update(values)


def recipe(part: str, **values: Any) -> Callable[[dict[str, Any]], object]:
    if part:
        return lambda config: config["recipe"][part].update(values)
    return lambda config: config["recipe"].update(values)


@pytest.mark.parametrize(
    ("edit", "part"),
    [
        (set_to(labels="abcdefgh"), "labels: got 'abcdefgh'; allowed: values in a list, each text"),
        (set_to(labels=["a"] * 8), "labels: 'a' is there twice"),
        (set_to(labels=list("abc")), "labels: 3 for a model of 8 classes"),
        (set_to(labels=[*"abcdefg", 8]), "labels: got 8"),
        (set_to(labels=None), "labels: got None"),
        (set_to(labels=[["a"]] * 8), "labels: got ['a']"),
        (set_to(flips=["left"]), "flips: got ['left']"),
        (set_to(flips={"left": 3}), "flips.left: got 3"),
        (set_to(data=[]), "data: got []"),
        (set_to(data={"digest": 3, "name": "x"}), "data.digest: got 3"),
        (set_to(data={"digest": "x", "name": "x", "splits": {"train": "8"}}), "data.splits"),
        (
            set_to(data={"digest": "x", "name": "x", "frame_rate": "25"}),
            "data.frame_rate: got '25'; allowed: a number above 0",
        ),
        (set_to(versions=None), "versions: got None"),
        (set_to(recipe="default"), "recipe: got 'default'"),
        (set_to(format=[]), "format []"),
        (set_to(format=1.5), "format 1.5"),
        (lambda config: config.pop("labels"), "labels: missing"),
        (recipe("", lr=10**400), "recipe.lr"),
        (recipe("", seed=10**30), "recipe.seed"),
        (recipe("", workers=10**6), "recipe.workers are 1,000,000; at most 1,024"),
        (recipe("", views=[10**9, 1]), "recipe.views"),
        (recipe("", weight_decay="x" * 10**6), "recipe.weight_decay: got 'xxx"),
        (recipe("sampling", num_frames=10**9), "sampling.num_frames"),
        (recipe("model", image_size=2**20), "image_size"),
        (recipe("model", **{"x" * 10**5: 1}), "unknown option"),
    ],
)
def test_what_is_wrong_is_said(
    run: Path, edit: Callable[[dict[str, Any]], object], part: str
) -> None:
    tiny.edit_config(run, edit)
    with pytest.raises(CheckpointError) as caught:
        read_run(run)
    assert part in str(caught.value)
    assert "config.json" in str(caught.value)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"format": NaN}', '{"format": 1e999}', "7", '"format"', "\x00" * 99]
)
def test_text_that_is_no_description(run: Path, text: str) -> None:
    (run / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_run(run)


@pytest.mark.parametrize("options", [{"width": 2**20, "head_width": 2**20}, {"depth": 10**7},
                                     {"width": 2**15, "head_width": 2**15}])  # fmt: skip
def test_a_model_that_no_machine_holds_is_never_built(run: Path, options: dict[str, int]) -> None:
    tiny.edit_config(run, recipe("model", **options))
    with pytest.raises(CheckpointError, match=r"holds [\d,]+ numbers; a model .* has at least"):
        read_run(run).model()


def test_an_edit_is_noticed_and_can_be_kept(run: Path) -> None:
    path = run / "config.json"
    edited = json.loads(path.read_text())
    edited["labels"][0] = "renamed"
    path.write_text(json.dumps(edited))
    with pytest.raises(CheckpointError, match=r'has changed since.*the line "crc32"'):
        read_run(run)
    path.write_text(json.dumps({key: value for key, value in edited.items() if key != "crc32"}))
    assert read_run(run).labels[0] == "renamed"


def test_every_flipped_bit_of_a_config_is_told(run: Path) -> None:
    path = run / "config.json"
    whole = read_run(run)
    for changed in flipped_bits(path.read_bytes(), 100, seed=0):
        path.write_bytes(changed)
        try:
            assert read_run(run) == whole
        except CheckpointError:
            continue


def test_mutants_are_refused_or_sound(run: Path) -> None:
    written = unsealed(json.loads((run / "config.json").read_text()))
    refused = 0
    for mutant in changed_values(written, 60, seed=0):
        try:
            described = read_description(mutant)
        except VideoRWKVError:
            refused += 1
            continue
        assert len(set(described.labels)) == described.recipe.model.num_classes
        assert all(isinstance(label, str) for label in described.labels)
    assert refused >= 30


def test_a_sealed_config_has_one_line_for_the_seal(tiny_run: Path) -> None:
    values = json.loads((tiny_run / "config.json").read_text())
    assert sealed(unsealed(values)) == values
