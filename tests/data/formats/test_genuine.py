"""The annotation files as they are distributed. Their videos are not here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from videorwkv.data import formats
from videorwkv.data.load import load_manifest
from videorwkv.data.manifest import Manifest
from videorwkv.errors import ManifestError


def read(shared_dir: Path, name: str) -> Manifest:
    manifest = formats.read(f"{name}:{shared_dir / 'annotations' / name}")
    assert not manifest.rows
    return manifest


def test_jester(shared_dir: Path) -> None:
    manifest = read(shared_dir, "jester")
    assert len(manifest.labels) == 27
    counts = Counter(row.split for row in manifest.missing)
    assert counts == {"train": 118_562, "validation": 14_787, "test": 14_743}
    assert {row.label for row in manifest.missing if row.split == "train"} == set(manifest.labels)
    assert {row.label for row in manifest.missing if row.split == "test"} == {None}
    assert manifest.flips is not None
    # Every label that names a side or a sense of rotation changes, and no other.
    for label, flipped in manifest.flips.items():
        sided = {"Left", "Right", "Clockwise", "Counterclockwise"} & set(label.split())
        assert bool(sided) == (flipped != label), label
    assert manifest.flips["Turning Hand Clockwise"] == "Turning Hand Counterclockwise"
    assert sum(a != b for a, b in manifest.flips.items()) == 6


def test_lists_alone_are_recognised_and_are_no_data_set(shared_dir: Path) -> None:
    with pytest.raises(
        ManifestError, match=r"none of the 51,934 listed clips is on disk"
    ) as caught:
        load_manifest(shared_dir / "annotations" / "ssv2")
    assert "read as Something-Something V2" in str(caught.value)


def test_ssv2(shared_dir: Path) -> None:
    manifest = read(shared_dir, "ssv2")
    assert len(manifest.labels) == 174
    counts = Counter(row.split for row in manifest.missing)
    assert counts == {"validation": 24_777, "test": 27_157}
    # Every template is found, and every class has a clip.
    assert {r.label for r in manifest.missing if r.split == "validation"} == set(manifest.labels)
    assert manifest.official is not None
    assert sorted(manifest.official.values()) == list(range(174))
    assert manifest.flips is not None
    # "Pulling it right out" means at once, not to the right.
    no_side = "Plugging something into something but pulling it right out as you remove your hand"
    for label, flipped in manifest.flips.items():
        sided = {"left", "right"} & set(label.lower().split())
        assert (bool(sided) and label != no_side) == (flipped != label), label
    swapped = {
        frozenset((manifest.official[a], manifest.official[b]))
        for a, b in manifest.flips.items()
        if a != b
    }
    assert swapped == {frozenset({86, 87}), frozenset({93, 94}), frozenset({166, 167})}


def test_kinetics(shared_dir: Path) -> None:
    manifest = read(shared_dir, "kinetics400")
    assert len(manifest.labels) == 400
    counts = Counter(row.split for row in manifest.missing)
    assert counts == {"validation": 17_778, "test": 34_826}
    assert len({Path(row.path).name for row in manifest.missing}) == 17_778 + 34_826
    assert manifest.flips is not None
    assert all(label == flipped for label, flipped in manifest.flips.items())
    sides = {"left", "right", "clockwise", "counterclockwise", "leftwards", "rightwards"}
    assert not any(sides & set(label.lower().split()) for label in manifest.labels)


def test_real_kinetics_clips_by_class_and_id(shared_dir: Path, tmp_path: Path) -> None:
    for part in (shared_dir / "annotations/kinetics400").iterdir():
        (tmp_path / part.name).symlink_to(part)
    clips = sorted((shared_dir / "clips/kinetics400").iterdir())
    for clip in clips:
        (tmp_path / clip.name).symlink_to(clip)
    manifest = load_manifest(f"kinetics400:{tmp_path}")
    assert sorted(Path(row.path).name for row in manifest.rows) == [clip.name for clip in clips]
    for row in manifest.rows:
        assert row.label is not None
        assert Path(row.path).name.startswith(row.label.replace(" ", "_"))
