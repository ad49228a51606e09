"""What lists and tables say of a clip, and what contradicts it."""

from __future__ import annotations

import os
from pathlib import Path

import disk
import pytest

from videorwkv.data.load import load_manifest
from videorwkv.errors import ManifestError
from videorwkv.video.segment import Segment


@pytest.fixture
def root(tmp_path: Path) -> Path:
    disk.video(*(tmp_path / f"{name}.mp4" for name in "abcd"))
    disk.frames(tmp_path / "f", range(1, 13))
    disk.frames(tmp_path / "g", range(1, 13))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("f 0 4\ng 1 4\n", r"l\.txt:1: f 0 4: read as .* but that clip has 12 frames"),
        ("a.mp4 0 4 1\nb.mp4 0 3 1\n", r"a.mp4 with the numbers 0 4 1: which of them are"),
        ("a.mp4 up|\nb.mp4 up\n", r"l.txt:1: 'up\|': there is nothing on one side of a |"),
        ("a.mp4 0.0 2.5 up\nb.mp4 2.5 4 up\n", r"'0.0 2.5 up', with two numbers beside a name"),
        ("a.mp4 up 0 2\nb.mp4 up 2 4\n", r"'up 0 2', with two numbers beside a name"),
        ("a.mp4,up;x\nb.mp4,up;y\nc.mp4,x;y\n", r"label 'up;x' names several"),
        ("a.mp4 Up\nb.mp4 up\n", r"l\.txt:2: label 'up' differs from 'Up' \(.*:1\) in its spell"),
        ("a.mp4 look_up\nb.mp4 look up\n", r"'look up' differs from 'look_up'"),
        ("a.mp4 01\nb.mp4 1\n", r"'1' differs from '01'"),
        ("a.mp4 caf\u00e9\nb.mp4 cafe\u0301\n", r"in its spelling alone"),
        ("a.mp4 train\nb.mp4 test\n", r"to which split a clip belongs and not what it shows"),
        ("http://x.org/a.mp4 up\nb.mp4 up\n", r"l\.txt:1: 'http://x.org/a.mp4' is an address"),
        ("a.mp4 up\nb.mp4 up\na.mp4 down\n", r"in .*:1. It is 'up' there and 'down' here. A clip"),
    ],
)  # fmt: skip
def test_a_row_is_one_clip_with_one_label(text: str, message: str, root: Path) -> None:
    with pytest.raises(ManifestError, match=message):
        load_manifest(disk.text(root / "l.txt", text))


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a.mp4 0 4\nb.mp4 1 4\n", ["0|4", "1|4"]),
        ("a.mp4 0 4\nb.mp4 1\nc.mp4 1\nd.mp4 1\n", ["0|4", "1", "1", "1"]),
        ("a.mp4 0 4 5\nb.mp4 1 4 5\n", ["0|4|5", "1|4|5"]),
        ("a.mp4 0 4 5\nb.mp4 1 4\n", ["0|4|5", "1|4"]),
        ("a.mp4,0,4\nb.mp4,4,1\n", ["0|4", "1|4"]),
        ("a.mp4 up|person\nb.mp4 up\n", ["person|up", "up"]),
        ("a.mp4,up | person\nb.mp4,up\n", ["person|up", "up"]),
        ("f 12 0 4\ng 12 1 4\n", ["0|4", "1|4"]),
        ("f 12 0 4\ng 12 1\n", ["0|4", "1"]),
        ("f 0 4\ng 1\n", ["0|4", "1"]),
        ("path,label\na.mp4,up|person\nb.mp4,up\n", ["person|up", "up"]),
    ],
)
def test_a_row_has_several_labels(text: str, labels: list[str], root: Path) -> None:
    name = "l.csv" if text.startswith("path") else "l.txt"
    manifest = load_manifest(disk.text(root / name, text), validation_share=0)
    assert [row.label for row in manifest.rows] == labels
    assert manifest.multilabel
    assert manifest.labels == tuple(sorted({part for one in labels for part in one.split("|")}))
    assert any("clips have several labels" in note for note in manifest.notes)


def test_several_numbers_have_names(root: Path) -> None:
    names = disk.text(root / "names.txt", "0 left\n1 right\n4 person\n")
    listed = disk.text(root / "l.txt", "a.mp4 0 4\nb.mp4 1 4\n")
    for path in (listed, disk.text(root / "t.csv", "path,label\na.mp4,0|4\nb.mp4,4|1\n")):
        manifest = load_manifest(path, label_names=names, validation_share=0)
        assert [row.label for row in manifest.rows] == ["left|person", "person|right"]


@pytest.mark.parametrize(
    ("text", "layout", "segments"),
    [
        ("f 0 6 1\nf 6 6 0\ng 3 4 1\n", None, [(0, 6), (6, 12), (3, 7)]),
        ("f 0 6 1\ng 3 4 0\n", None, [(0, 6), (3, 7)]),
        ("a.mp4 0 2 1\na.mp4 2 2 0\n", None, [(0, 2), (2, 4)]),
        ("f 0 6 1 4\ng 3 4 0\n", "segments", [(0, 6), (3, 7)]),
    ],
)
def test_a_row_is_a_segment(
    text: str, layout: str | None, segments: list[tuple[int, int]], root: Path
) -> None:
    path = disk.text(root / "l.txt", text)
    manifest = load_manifest(path, layout=layout, validation_share=0)
    assert [row.segment for row in manifest.rows] == [Segment(*s, in_frames=True) for s in segments]
    assert manifest.rows[0].path == str(root / text.split()[0])
    for row, (first, stop) in zip(manifest.rows, segments, strict=True):
        with manifest.open(row) as video:
            clip = video.read_all()
        assert len(clip) == stop - first
        if "f" in Path(row.path).name:  # frame n is grey of level 10 n, from 1
            levels = clip.frames_THWC.mean((1, 2, 3)).round(-1)
            assert levels.tolist() == [10 * (n + 1) for n in range(first, stop)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("f 0 0 1\nf 6 6 0\n", "l.txt:1: a segment of 0 frames"),
        ("f 0 6 1\nf 6 0\n", "l.txt:2: f has 2 numbers behind it; wanted `folder start n_fr"),
        ("f 0 6 1\nf 0 6 0\n", "'f', frames 0 to 5, is already in"),
    ],
)
def test_what_is_no_segment_in_a_list(text: str, message: str, root: Path) -> None:
    with pytest.raises(ManifestError, match=message):
        load_manifest(disk.text(root / "l.txt", text), layout="segments")


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a.mp4 4 0\nb.mp4 4 1\nc.mp4 5 1\n", ("0", "1")),  # four frames each
        ("f 12 0\ng 11 1\n", ("0", "1")),
        ("a.mp4 put down, slowly\nb.mp4 put down\n", ("put down", "put down, slowly")),
        ("a.mp4 A\nb.mp4 a\n", ("A", "a")),
        ("a.mp4,left, slowly\nb.mp4,right\n", ("left, slowly", "right")),
        ("path label\na.mp4 up\nb.mp4 down\n", ("down", "up")),
        ("a.mp4 train\nb.mp4 bus\n", ("bus", "train")),
    ],
)
def test_what_is_read_as_it_is(text: str, labels: tuple[str, ...], root: Path) -> None:
    manifest = load_manifest(disk.text(root / "l.txt", text))
    assert (manifest.labels, manifest.missing) == (labels, ())


def test_a_layout_that_is_named_is_obeyed(root: Path) -> None:
    path = disk.text(root / "l.txt", "f 200 0\ng 200 1\n")  # another frame rate
    with pytest.raises(ManifestError, match="has 12 frames"):
        load_manifest(path)
    assert len(load_manifest(path, layout="frames")) == 2


def test_a_header_with_times_is_refused(root: Path) -> None:
    path = disk.text(root / "l.txt", "path label start end\na.mp4 up 0 1\n")
    with pytest.raises(ManifestError, match=r"l\.txt:1: columns of segments are read from a CSV"):
        load_manifest(path)


def test_split_files_of_hmdb51(tmp_path: Path) -> None:
    names = [f"April_09_brush_hair_u_nm_np1_ba_goo_{n}.avi" for n in range(3)]
    disk.video(*(tmp_path / name for name in names))
    text = "".join(f"{name} {n} \n" for n, name in enumerate(names))
    for name in ("brush_hair_test_split1.txt", "renamed.txt"):
        with pytest.raises(ManifestError, match="0, 1 and 2 stand for unused, training and test"):
            load_manifest(disk.text(tmp_path / name, text))
    short = disk.text(tmp_path / "wave_test_split1.txt", "wave_1.mp4 1\nwave_2.mp4 2\n")
    with pytest.raises(ManifestError, match="stand for unused"):
        load_manifest(short)
    # Numbers of classes, each with its folder.
    for label, name in enumerate(names):
        disk.video(tmp_path / str(label) / name)
    text = "".join(f"{n}/{name} {n}\n" for n, name in enumerate(names))
    assert len(load_manifest(disk.text(tmp_path / "hmdb51_train_split_1.txt", text))) == 3


def test_lists_without_labels_go_by_the_folder(tmp_path: Path) -> None:
    disk.video(tmp_path / "Archery" / "v.avi", tmp_path / "Baby Crawling" / "v w.avi")
    path = disk.text(tmp_path / "testlist01.txt", "Archery/v.avi\nBaby Crawling/v w.avi\n")
    names = disk.text(tmp_path / "classInd.txt", "1 Archery\n2 Baby Crawling\n")
    manifest = load_manifest(path, label_names=names)
    assert [row.label for row in manifest.rows] == ["Archery", "Baby Crawling"]
    assert "a list of `class/clip.mp4`" in manifest.summary()


def test_paths_of_windows(root: Path) -> None:
    disk.video(root / "up" / "a.mp4", root / "up" / "b\\c.mp4")
    text = "path,label\nup\\a.mp4,up\nup/b\\c.mp4,up\na.mp4,down\n"
    rows = load_manifest(disk.text(root / "t.csv", text), validation_share=0).rows
    assert [Path(row.path).is_file() for row in rows] == [True] * 3
    rows = load_manifest(disk.text(root / "l.txt", "up\\a.mp4 up\na.mp4 down\n")).rows
    assert [Path(row.path).is_file() for row in rows] == [True] * 2
    # The list lies above the folder of the clips.
    disk.video(root / "videos/down/c.mp4")
    manifest = load_manifest(disk.text(root / "m.txt", "down\\c.mp4 down\n"), validation_share=0)
    assert [Path(row.path) for row in manifest.rows] == [root / "videos/down/c.mp4"]


@pytest.mark.parametrize(
    ("name", "start", "line"),
    [("l.txt", "", "{} {}\n"), ("t.csv", "path,label\n", "{},{}\n")],
)
def test_the_disk_is_not_asked_about_each_path_of_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, start: str, line: str
) -> None:
    count = 500
    (tmp_path / "up").mkdir()
    for number in range(count):
        (tmp_path / f"up/{number}.mp4").touch()
    lines = [line.format(f"up\\{number}.mp4", number % 2) for number in range(count)]
    path = disk.text(tmp_path / name, start + "".join(lines))
    asked: list[str] = []
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: asked.append(str(path)) or exists(path))
    rows = load_manifest(path).rows
    assert {row.path for row in rows} == {f"{tmp_path}/up/{number}.mp4" for number in range(count)}
    assert len({path for path in asked if path.endswith(".mp4")}) < count / 2


def test_files_in_a_folder_that_may_not_be_listed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: str) -> list[str]:
        raise PermissionError(13, "Permission denied", folder)

    path = disk.text(root / "l.txt", "a.mp4 up\ngone.mp4 down\n")
    monkeypatch.setattr(os, "listdir", refuse)
    manifest = load_manifest(path, validation_share=0)
    assert (len(manifest.rows), len(manifest.missing)) == (1, 1)


def test_class_folders_that_differ_in_capitals_alone(tmp_path: Path) -> None:
    for name in ("Left", "left", "right"):
        disk.video(tmp_path / name / "a.mp4")
    with pytest.raises(ManifestError, match=r"label 'left' differs from 'Left' \(.*Left\)"):
        load_manifest(tmp_path)


def table(root: Path, header: str, values: str = "") -> Path:
    rows = "".join(
        f"{name}.mp4,{label}{values}\n" for name, label in zip("abcd", "xyxy", strict=True)
    )
    return disk.text(root / "t.csv", f"path,label{header}\n{rows}")


@pytest.mark.parametrize(
    "name",
    ["t_start", "startTime", "End Frame", "stop_timestamp", "from",
     "segment", "weight", "sample_weight", "bbox", "x1", "xmin", "label2", "labels", "exclude",
     "fold", "cv_fold", "subset", "is_train", "Partition", "repeats", "sampling_weight"],
)  # fmt: skip
def test_columns_that_would_change_the_training_are_refused(name: str, root: Path) -> None:
    with pytest.raises(ManifestError, match=rf"t\.csv:1: column '{name}' would change what is tr"):
        load_manifest(table(root, f",{name}", ",1"))


def test_a_column_that_holds_splits_is_refused(root: Path) -> None:
    path = disk.text(root / "t.csv", "path,label,part of\na.mp4,x,Train\nb.mp4,y,val\n")
    with pytest.raises(ManifestError, match=r"'part of' would .* from a column called split"):
        load_manifest(path)
    path = disk.text(root / "t.csv", "path,label,split,fold,part of\na.mp4,x,train,1,test\n")
    assert load_manifest(path).notes == ("not used: columns 'fold', 'part of'",)


def test_other_columns_are_named_once(root: Path) -> None:
    path = table(root, ",fps,start_date,weekend,body weight", ",1,2,3,4")
    assert load_manifest(path).notes == (
        "not used: columns 'fps', 'start_date', 'weekend', 'body weight'",
    )
    assert load_manifest(table(root, ",note", ",n")).notes == ("not used: column 'note'",)
    text = ",Path,LABEL,Split\n0,a.mp4,x,train\n1,b.mp4,y,val\n"
    manifest = load_manifest(disk.text(root / "pandas.csv", text))
    assert (manifest.splits, manifest.notes) == (("train", "validation"), ())


def test_a_column_may_be_called_otherwise(root: Path) -> None:
    path = disk.text(root / "t.csv", "file,class\na.mp4,x\n")
    with pytest.raises(ManifestError, match="Rename 'file' to 'path', 'class' to 'label'"):
        load_manifest(path)


@pytest.mark.parametrize("name", ["patient", "subject_id", "PersonID", "Session", "participants"])
def test_columns_with_groups(name: str, root: Path) -> None:
    rows = load_manifest(table(root, f",{name}", ",p1"), validation_share=0).rows
    assert {row.group for row in rows} == {"p1"}
    manifest = load_manifest(table(root, f",{name},split", ",p1,train"))
    assert manifest.notes == (f"not used: column '{name}'",)
    assert {row.group for row in manifest.rows} == {""}


def test_a_list_of_a_split_with_few_classes(tmp_path: Path) -> None:
    names = [f"train/{n}.mp4" for n in range(6)]
    disk.video(*(tmp_path / name for name in names))
    text = "".join(f"{name} {n % 3}\n" for n, name in enumerate(names))
    path = disk.text(tmp_path / "train_split1.txt", text)
    assert load_manifest(path).labels == ("0", "1", "2")
