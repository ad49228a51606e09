from __future__ import annotations

import re
from pathlib import Path

import pytest

from videorwkv.data.folds import folds
from videorwkv.data.load import load_manifest
from videorwkv.errors import ManifestError, UsageError


def test_every_clip_is_tested_once(class_folder: Path) -> None:
    manifest = load_manifest(class_folder)
    made = folds(manifest, r"S(\d+)_", "00+01,02")
    tested = [{row.path for row in fold.split("test").rows} for fold in made]
    assert [len(paths) for paths in tested] == [8, 4]
    assert not tested[0] & tested[1]
    assert tested[0] | tested[1] == {row.path for row in manifest.rows}
    assert all("S02_" in path for path in tested[1])
    assert len(made[1].split("train").rows) == 8
    assert r"fold 1 (of 0 to 1): test is 02 by 'S(\d+)_'" in made[1].summary()
    assert "no split given" not in made[1].summary()


@pytest.mark.parametrize(
    ("pattern", "groups", "message"),
    [
        (r"S\d+_", "00+01,02", "needs a capture group"),
        (r"S(\d+_", "00,01", r"Fold pattern 'S(\d+_'"),
        (r"S(\d+)_", "00+01+02", "at least two"),
        (r"S(\d+)_", "00+01,01+02", "'01' is empty or given twice"),
        (r"S(\d+)_", "00+01,02,03", "no clip of group 03"),
    ],
)
def test_wrong_arguments(class_folder: Path, pattern: str, groups: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        folds(load_manifest(class_folder), pattern, groups)


def test_clip_outside_all_folds(class_folder: Path) -> None:
    with pytest.raises(ManifestError, match="its group '02' is in no fold"):
        folds(load_manifest(class_folder), r"S(\d+)_", "00,01")
    with pytest.raises(ManifestError, match="is not found in it"):
        folds(load_manifest(class_folder), r"Session(\d+)_", "00,01")


def test_handwash_protocol(shared_dir: Path) -> None:
    manifest = load_manifest(shared_dir / "data" / "handwash")
    made = folds(manifest, r"HandWash_(\d+)_", "001+002,003+004,005+006,007+008")
    assert [len(fold.split("test").rows) for fold in made] == [23, 23, 21, 21]
