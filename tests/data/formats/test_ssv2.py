from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import disk
import pytest

from videorwkv.data.formats.ssv2 import template_label
from videorwkv.data.load import load_manifest
from videorwkv.errors import ManifestError

LEFT, RIGHT = "Pulling something from left to right", "Pulling something from right to left"
NUMBERS = {"Closing something": "5", LEFT: "86", RIGHT: "87"}
TRAIN: list[dict[str, Any]] = [
    {"id": "78687", "template": "Closing [something]", "placeholders": ["a box"]},
    {"id": "2", "label": "pulling", "template": "Pulling [something] from left to right"},
]
VALIDATION = [{"id": "74225", "template": "Pulling [something] from right to left"}]
TEST = [{"id": "1420"}, {"id": "166429"}]
ON_DISK = ("78687", "74225", "1420", "166429", "9")  # 2 is missing, 9 is in no list


def write(path: Path, values: Any) -> None:
    disk.text(path, json.dumps(values))


def twentybn(root: Path) -> None:
    disk.video(*(root / "20bn-something-something-v2" / f"{clip}.webm" for clip in ON_DISK))
    for name, values in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        write(root / f"something-something-v2-{name}.json", values)
    write(root / "something-something-v2-labels.json", NUMBERS)


def qualcomm(root: Path) -> None:
    folder = root / "videos" / "20bn-something-something-v2"
    disk.video(*(folder / f"{clip}.webm" for clip in ON_DISK))
    for name, values in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        write(root / "labels" / f"{name}.json", values)
    write(root / "labels/labels.json", NUMBERS)
    disk.text(root / "labels/test-answers.csv", f"166429;{LEFT}\n1420;Closing something\n")


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize(
    ("layout", "make", "title", "answers"),
    [
        ("20bn", twentybn, "Something-Something V2, 20BN layout", False),
        ("qualcomm", qualcomm, "Something-Something V2, Qualcomm layout", True),
    ],
)
def test_every_layout_reads_the_same(
    layout: str,
    make: Callable[[Path], None],
    title: str,
    answers: bool,
    forced: bool,
    tmp_path: Path,
) -> None:
    root = tmp_path / "my, ssv2"
    make(root)
    manifest = load_manifest(f"ssv2:{root}", layout=layout if forced else None)
    first, second = ("Closing something", LEFT) if answers else (None, None)
    assert [(Path(r.path).name, r.label, r.split) for r in manifest.rows] == [
        ("78687.webm", "Closing something", "train"),
        ("74225.webm", RIGHT, "validation"),
        ("1420.webm", first, "test"),
        ("166429.webm", second, "test"),
    ]
    assert [(Path(r.path).name, r.label) for r in manifest.missing] == [("2.webm", LEFT)]
    assert manifest.labels == tuple(sorted(NUMBERS))
    assert manifest.official == {"Closing something": 5, LEFT: 86, RIGHT: 87}
    assert manifest.flips == {"Closing something": "Closing something", LEFT: RIGHT, RIGHT: LEFT}
    summary = manifest.summary()
    assert f"note: {title}" in summary
    assert "train 1 of 2 listed, validation 1, test 2" in summary
    assert "clips on disk that are in no list: 1" in summary
    assert load_manifest(root).name == "ssv2"
    with manifest.open(manifest.rows[0]) as clip:
        assert len(clip.times()) == 4


def test_videos_come_before_extracted_frames(tmp_path: Path) -> None:
    twentybn(tmp_path)
    disk.frames(tmp_path / "20bn-something-something-v2" / "78687")
    disk.frames(tmp_path / "20bn-something-something-v2" / "2")
    manifest = load_manifest(f"ssv2:{tmp_path}")
    assert not manifest.missing
    assert [Path(row.path).name for row in manifest.split("train").rows] == ["78687.webm", "2"]


def test_videos_come_before_frames_in_another_folder(tmp_path: Path) -> None:
    twentybn(tmp_path)
    disk.frames(tmp_path / "frames" / "78687")
    disk.frames(tmp_path / "frames" / "2")
    (tmp_path / "20bn-something-something-v2").rename(tmp_path / "videos")
    manifest = load_manifest(f"ssv2:{tmp_path}")
    assert [Path(row.path).name for row in manifest.split("train").rows] == ["78687.webm", "2"]


def test_brackets_of_every_kind() -> None:
    template = "Putting [number of] [something] onto [something]"
    assert template_label(template) == "Putting number of something onto something"


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (
            "train.json",
            [*TRAIN, {"id": "3", "template": "Closeing [something]"}],
            r"train\.json: item 3 \(id 3\): template 'Closeing \[something\]' is not in .*Did you",
        ),
        ("train.json", [*TRAIN, {"id": "4"}], r'item 3 \(id 4\): no "template"'),
        ("train.json", [{"template": "Closing [something]"}], r'train\.json: item 1: no "id"'),
        ("train.json", ["78687"], r'train\.json: item 1: no "id"'),
        (
            "train.json",
            [*TRAIN, TRAIN[0]],
            r"item 3 \(id 78687\): clip 78687 is already in .*item 1",
        ),
        ("train.json", {"id": 3}, r"train\.json: wanted a list"),
        ("labels.json", [], r"labels\.json: wanted an object"),
        ("labels.json", {"a": "x"}, r"label 'a': 'x' is not a number"),
        ("labels.json", {"a": "1", "b": "1"}, r"number 1 is that of 'a' and 'b'"),
    ],
)
def test_errors_name_the_item(name: str, values: Any, message: str, tmp_path: Path) -> None:
    twentybn(tmp_path)
    write(tmp_path / f"something-something-v2-{name}", values)
    with pytest.raises(ManifestError, match=message):
        load_manifest(f"ssv2:{tmp_path}")


def test_broken_json_and_answers_name_the_line(tmp_path: Path) -> None:
    qualcomm(tmp_path)
    disk.text(tmp_path / "labels/test-answers.csv", "1420;Closing something\n166429\n")
    with pytest.raises(ManifestError, match=r"test-answers\.csv:2: '166429'; wanted id;template"):
        load_manifest(f"ssv2:{tmp_path}")
    disk.text(tmp_path / "labels/test-answers.csv", "1420;Closeing something\n")
    with pytest.raises(ManifestError, match=r"test-answers\.csv:1: unknown label 'Closeing"):
        load_manifest(f"ssv2:{tmp_path}")
    disk.text(tmp_path / "labels/train.json", '[\n{"id": "1"},\n{"id": 2\n]')
    with pytest.raises(ManifestError, match=r"train\.json:4: not JSON"):
        load_manifest(f"ssv2:{tmp_path}")


def test_lists_without_labels_are_not_enough(tmp_path: Path) -> None:
    twentybn(tmp_path)
    (tmp_path / "something-something-v2-labels.json").unlink()
    with pytest.raises(ManifestError, match=r"labels and one of the others are needed"):
        load_manifest(f"ssv2:{tmp_path}")
