"""VideoFolder: metadata.csv and metadata.jsonl beside the clips."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from disk import video

from videorwkv.data.load import load_manifest
from videorwkv.data.manifest import Manifest
from videorwkv.errors import ManifestError, UsageError


def found(manifest: Manifest) -> list[tuple[str, str | None, str]]:
    return [(manifest.relative_path(row), row.label, row.split) for row in manifest.rows]


def text(path: Path, *lines: str) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def jsonl(path: Path, *rows: dict[str, Any]) -> None:
    text(path, *(json.dumps(row) for row in rows))


def test_a_csv_beside_the_clips(tmp_path: Path) -> None:
    video(tmp_path / "clips/a.mp4", tmp_path / "clips/b.mp4", tmp_path / "c, 2.mp4")
    text(
        tmp_path / "metadata.csv",
        "file_name,label,camera", "clips/a.mp4,wave,1", "clips/b.mp4,sit,1", '"c, 2.mp4",wave,2',
    )  # fmt: skip
    manifest = load_manifest(tmp_path, validation_share=0)
    assert manifest.name == "videofolder"
    assert found(manifest) == [
        ("clips/a.mp4", "wave", "train"),
        ("clips/b.mp4", "sit", "train"),
        ("c, 2.mp4", "wave", "train"),
    ]
    assert "read as VideoFolder" in manifest.notes[0]
    assert "not used: column 'camera'" in manifest.notes
    assert manifest.open(manifest.rows[2]).read_all().frames_THWC.shape[0] == 4
    # A file that is named is the same.
    assert load_manifest(f"videofolder:{tmp_path}", validation_share=0).digest == manifest.digest


def test_json_lines_in_folders_of_splits(tmp_path: Path) -> None:
    video(tmp_path / "train/a.mp4", tmp_path / "train/b.mp4", tmp_path / "test/c.mp4")
    jsonl(
        tmp_path / "train/metadata.jsonl",
        {"file_name": "a.mp4", "label": 0, "caption": ["x"]},
        {"file_name": "b.mp4", "label": 1},
    )
    jsonl(tmp_path / "test/metadata.jsonl", {"file_name": "c.mp4", "label": None})
    assert found(load_manifest(tmp_path)) == [
        ("test/c.mp4", None, "test"),
        ("train/a.mp4", "0", "train"),
        ("train/b.mp4", "1", "train"),
    ]
    text(tmp_path / "names.txt", "wave", "sit")
    named = load_manifest(tmp_path, label_names=tmp_path / "names.txt")
    assert [row.label for row in named.rows] == [None, "wave", "sit"]
    assert named.labels == ("sit", "wave")


@pytest.mark.parametrize("inner", ["", "data/"])
def test_the_splits_are_those_of_the_clips_folders(tmp_path: Path, inner: str) -> None:
    places = [f"{inner}train/a.mp4", f"{inner}val/b.mp4", f"{inner}test/c.mp4"]
    video(*(tmp_path / place for place in places))
    text(tmp_path / "metadata.csv", "file_name,action", *(f"{p},wave" for p in places))
    manifest = load_manifest(tmp_path)
    assert [row.split for row in manifest.rows] == ["train", "validation", "test"]
    assert "labels are those of the column 'action'" in manifest.notes
    # A column decides, whatever the folders are called.
    text(tmp_path / "metadata.csv", "file_name,label,split", *(f"{p},wave,dev" for p in places))
    assert load_manifest(tmp_path).splits == ("validation",)


def test_segments_and_clips_that_are_not_there(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4")
    text(
        tmp_path / "metadata.csv",
        "file_name,label,start_frame,end_frame", "a.mp4,wave,0,2", "a.mp4,sit,2,4", "b.mp4,sit,,",
    )  # fmt: skip
    manifest = load_manifest(tmp_path, validation_share=0)
    assert [manifest.open(row).read_all().frames_THWC.shape[0] for row in manifest.rows] == [2, 2]
    assert [Path(row.path).name for row in manifest.missing] == ["b.mp4"]
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(ManifestError, match="none of the 3 listed clips is on disk"):
        load_manifest(tmp_path)


GOOD = {"file_name": "a.mp4", "label": "wave"}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"label": "wave"}], "metadata.jsonl:1: no column 'file_name'; there are 'label'"),
        ([{"file_name": "a.mp4"}], "no column 'label'; there are 'file_name'"),
        ([GOOD, {"file_name": "", "label": "x"}], "metadata.jsonl:2: file_name '' is empty"),
        ([{**GOOD, "file_name": "../a.mp4"}], "lies outside of"),
        ([{**GOOD, "file_name": "x/../../a.mp4"}], "lies outside of"),
        ([{**GOOD, "file_name": "/etc/passwd"}], "lies outside of"),
        ([{**GOOD, "file_name": "C:\\a.mp4"}], "lies outside of"),
        ([{**GOOD, "file_name": "https://host/a.mp4"}], "is an address"),
        ([GOOD, GOOD], "'a.mp4' is already in"),
        ([GOOD, {**GOOD, "label": ["wave", "sit"]}], "metadata.jsonl:2: label is ['wave', 'sit']"),
        ([{**GOOD, "file_name": {"path": "a.mp4"}}], "file_name is {'path'"),
        ([{**GOOD, "path": "a.mp4"}], "the column 'path' is of another format"),
        ([{"file_name": "a.mp4", "class": "x", "action": "y"}], "'class', 'action' may all be"),
        ([{"left_file_name": "a", "right_file_name": "b", "label": "x"}], "may all be 'file_name'"),
        ([{**GOOD, "bbox": [1, 2]}], "'bbox' would change what is trained"),
        ([GOOD, {"file_name": "train/b.mp4", "label": "x"}], "metadata.jsonl:1: no split, as"),
        ([], "no row in it"),
        (["a.mp4"], "got 'a.mp4'; an object is wanted"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, rows: list[Any], words: str) -> None:
    video(tmp_path / "a.mp4")
    jsonl(tmp_path / "metadata.jsonl", *rows)
    with pytest.raises(ManifestError) as caught:
        load_manifest(f"videofolder:{tmp_path}")
    assert words in str(caught.value)


def test_metadata_that_contradict_each_other(tmp_path: Path) -> None:
    video(tmp_path / "train/a.mp4", tmp_path / "b.mp4")
    text(tmp_path / "metadata.csv", "file_name,label", "b.mp4,wave")
    jsonl(tmp_path / "metadata.jsonl", GOOD)
    with pytest.raises(ManifestError, match=r"both metadata\.csv and metadata\.jsonl"):
        load_manifest(tmp_path)
    (tmp_path / "metadata.jsonl").rename(tmp_path / "train/metadata.jsonl")
    with pytest.raises(ManifestError, match=r"metadata\.csv and in train/metadata\.jsonl"):
        load_manifest(tmp_path)
    (tmp_path / "metadata.csv").unlink()
    assert found(load_manifest(tmp_path)) == [("train/a.mp4", "wave", "train")]
    with pytest.raises(UsageError, match="unknown layout"):
        load_manifest(tmp_path, layout="flat")
    (tmp_path / "train/metadata.jsonl").write_text("{")
    with pytest.raises(ManifestError, match=r"metadata\.jsonl:1: no JSON"):
        load_manifest(f"videofolder:{tmp_path}")


def test_folders_of_classes_stay_what_they_are(tmp_path: Path) -> None:
    video(tmp_path / "wave/a.mp4", tmp_path / "sit/b.mp4")
    text(tmp_path / "metadata.csv", "camera,lens", "1,wide")
    assert load_manifest(tmp_path).name == "folder"
    with pytest.raises(ManifestError, match="no column 'file_name'"):
        load_manifest(f"videofolder:{tmp_path}")
    shutil.rmtree(tmp_path / "wave")
    (tmp_path / "metadata.csv").unlink()
    with pytest.raises(ManifestError, match=r"no metadata\.csv or metadata\.jsonl in it"):
        load_manifest(f"videofolder:{tmp_path}")
