from __future__ import annotations

import errno
import os
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from videorwkv.data.folds import folds
from videorwkv.data.hold_out import hold_out
from videorwkv.data.load import load_manifest
from videorwkv.data.manifest import Manifest, Row, make_manifest
from videorwkv.errors import DecodeError, ManifestError, UsageError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_folder_per_class(class_folder: Path) -> None:
    manifest = load_manifest(class_folder)
    assert manifest.summary().startswith(
        "folder: 12 clips, 4 classes, train 8, validation 4\nnote:"
    )
    assert manifest.labels[0] == "going down, slowly"
    assert manifest.flips is None
    for label in manifest.labels:
        held_out = [r for r in manifest.split("val").rows if r.label == label]
        assert len(held_out) == 1
    assert manifest.label_index("going left, slowly") == 1
    assert manifest.label_index(None) == -1


def test_split_does_not_depend_on_the_place(class_folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(class_folder, moved)
    one, other = load_manifest(class_folder), load_manifest(moved)
    assert one.digest == other.digest
    assert len(one.digest) == 12
    assert one.digest != load_manifest(class_folder, validation_share=0.5).digest


def test_digest_does_not_depend_on_the_order() -> None:
    rows = [Row("a", "x", "train"), Row("b", "y", "test")]
    digests = {make_manifest("m", r, root="").digest for r in (rows, rows[::-1])}
    assert len(digests) == 1
    relabelled = [Row("a", "y", "train"), Row("b", "y", "test")]
    assert make_manifest("m", relabelled, root="").digest not in digests


def test_folder_with_splits_and_frame_folders(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "train/wave/1.mp4",
        "train/wave/2/00001.jpg",
        "train/nod/a.webm",
        "train/nod/notes.txt",
        "train/.hidden/a.mp4",
        "val/wave/3.MP4",
    )
    manifest = load_manifest(tmp_path)
    assert [(r.split, r.label, Path(r.path).name) for r in manifest.rows] == [
        ("train", "nod", "a.webm"),
        ("train", "wave", "1.mp4"),
        ("train", "wave", "2"),
        ("validation", "wave", "3.MP4"),
    ]
    assert "notes.txt" in manifest.summary()
    assert "no split given" not in manifest.summary()


def test_class_called_train(tmp_path: Path) -> None:
    manifest = load_manifest(touch(tmp_path, "car/1.mp4", "bus/1.mp4", "train/1.mp4"))
    assert manifest.labels == ("bus", "car", "train")


def test_what_lies_beside_splits(tmp_path: Path) -> None:
    touch(tmp_path, "train/wave/a.mp4", "val/wave/b.mp4", "__MACOSX/wave/a.mp4")
    touch(tmp_path, "annotations/train/labels.txt", "loose.mp4", "train/c.mp4", "train/d.avi")
    manifest = load_manifest(tmp_path)
    assert [(row.label, row.split) for row in manifest.rows] == [
        ("wave", "train"),
        ("wave", "validation"),
    ]
    assert manifest.notes == (
        f"{tmp_path}: 1 video skipped, in no class folder (loose.mp4)",
        f"{tmp_path / 'train'}: 2 videos skipped, in no class folder (c.mp4, d.avi)",
    )


def test_folders_of_videos_in_a_class(tmp_path: Path) -> None:
    touch(tmp_path, "wave/1.mp4", "wave/session_1/a.mp4", "wave/session_2/b.mp4", "wave/x/n.txt")
    touch(tmp_path, "nod/1.mp4")
    manifest = load_manifest(tmp_path)
    assert len(manifest) == 2
    assert manifest.notes == (
        f"{tmp_path / 'wave'}: 2 skipped, folders of videos (session_1, session_2): put the "
        f"videos into wave itself or list them in a CSV; or give {tmp_path / 'wave'} as the data "
        "if its folders are the classes",
        f"{tmp_path / 'wave'}: 1 skipped, neither a video nor a folder of frames (x)",
    )
    touch(tmp_path / "above", "data/wave/1.mp4")
    with pytest.raises(ManifestError, match=r"1 skipped, a folder of videos \(wave\): put"):
        load_manifest(tmp_path / "above")


def test_a_folder_whose_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "wave/a.mp4")

    def fail(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(ManifestError, match="can't be listed: Input/output error"):
        load_manifest(f"folder:{tmp_path}")


def test_class_with_one_clip_is_reported(tmp_path: Path) -> None:
    manifest = load_manifest(touch(tmp_path, "wave/1.mp4", "wave/2.mp4", "nod/1.mp4"))
    assert "class 'nod' has one clip" in manifest.summary()
    assert [r.label for r in manifest.split("validation").rows] == ["wave"]


def test_no_validation(class_folder: Path) -> None:
    assert load_manifest(class_folder, validation_share=0).splits == ("train",)


def test_missing_and_empty_places(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such file or folder"):
        load_manifest(tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"'motion', 'gestures' and 'scenes' are generated"):
        load_manifest("gesture")
    with pytest.raises(ManifestError, match=r"no class folder in it.*<class>/clip\.mp4"):
        load_manifest(tmp_path)
    with pytest.raises(ManifestError, match=r"no clip in its 1 folders.*1\.txt"):
        load_manifest(touch(tmp_path, "wave/1.txt"))
    with pytest.raises(UsageError, match=r"Did you mean 'folder'"):
        load_manifest("foldr:/data")
    with pytest.raises(UsageError, match=r"a data set is a folder"):
        load_manifest(touch(tmp_path, "wave/1.bin") / "wave" / "1.bin")


def test_csv(class_folder: Path, tmp_path: Path) -> None:
    clip = next(class_folder.rglob("*.mp4"))
    path = write(
        tmp_path / "list.csv",
        '\ufeffpath,label,split,note\n"a, b.mp4","wave, slowly",train,x\n\n'
        f'"{clip}",nod,val,"two\nlines"\nc d.mp4,,test,\n',
    )
    manifest = load_manifest(path)
    assert manifest.rows == (
        Row(str(tmp_path / "a, b.mp4"), "wave, slowly", "train", 2),
        Row(str(clip), "nod", "validation", 5),
        Row(str(tmp_path / "c d.mp4"), None, "test", 6),
    )
    assert manifest.labels == ("nod", "wave, slowly")
    with manifest.open(manifest.rows[1]) as video:
        assert len(video.times()) == 20


def test_csv_with_semicolons_as_german_spreadsheets_write_it(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", 'path;label;split\n"a;b.mp4";wave, slowly;train\n')
    assert load_manifest(path).rows == (Row(str(tmp_path / "a;b.mp4"), "wave, slowly", "train", 2),)


def test_csv_without_split(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", "label,path\n" + "".join(f"x,{n}.mp4\n" for n in range(10)))
    assert load_manifest(path).summary().splitlines()[0] == (
        "csv: 10 clips, 1 class, train 8, validation 2"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,class\na.mp4,wave\n", r":1: no column 'path', 'label'"),
        ("path,label\na.mp4,wave\nb, c.mp4,nod\n", r":3: 3 fields, but the header has 2.*quotes"),
        ("path,label\na.mp4\n", r":2: 1 fields"),
        ("path,label\na.mp4,\n", r":2: the label is empty"),
        ("path,label\n,wave\n", r":2: the path is empty"),
        ("path,label,split\na.mp4,wave,\n", r":2: the split is empty"),
        ("path,label\na.mp4,wave\na.mp4,nod\n", r":3: 'a.mp4' is already in .*:2\."),
        ('path,label\n"a.mp4,wave\n', r":2: not CSV"),
        ("path,label\n", r"no row below the header"),
        ("", r":1: no column"),
    ],
)
def test_csv_errors_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "bad.csv", text)
    with pytest.raises(ManifestError, match=message) as caught:
        load_manifest(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_csv_with_a_doubled_column(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "path,label,label\na.mp4,x,z\n")
    with pytest.raises(ManifestError, match=r"d\.csv:1: column 'label' is twice"):
        load_manifest(path)


def test_csv_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_bytes(b"path,label\n\xff\xfe\x00\n")
    with pytest.raises(ManifestError, match=r"bad\.csv:2: not UTF-8"):
        load_manifest(tmp_path / "bad.csv")


def test_with_labels_of_a_run(class_folder: Path) -> None:
    manifest = load_manifest(class_folder)
    more = sorted([*manifest.labels, "going nowhere"])
    assert manifest.with_labels(more).label_index("going up, slowly") == 4
    with pytest.raises(ManifestError, match=r"S00_my clip.*unknown label 'going up, slowly'"):
        manifest.with_labels(manifest.labels[:3])


def test_unknown_label_and_split(class_folder: Path) -> None:
    manifest = load_manifest(class_folder)
    with pytest.raises(UsageError, match=r"Did you mean 'going up, slowly'"):
        manifest.label_index("going up slowly")
    with pytest.raises(UsageError, match=r"no split 'test'. Available: train, validation"):
        manifest.split("test")


def listed(count: int = 6) -> Manifest:
    """As an official data set: every third clip is not on disk."""
    rows = [Row(f"/d/{n % 2}/{n}.mp4", f"c{n % 2}", "train" if n < 4 else "test", n + 1)
            for n in range(count)]  # fmt: skip
    return replace(
        make_manifest("m", [row for n, row in enumerate(rows) if n % 3], root="/d"),
        missing=tuple(rows[::3]),
        official={"c0": 7, "c1": 8},
    )


def test_missing_clips_are_counted_and_carried() -> None:
    manifest = listed()
    assert manifest.summary().splitlines() == [
        "m: 4 clips, 2 classes, train 2 of 4 listed, test 2",
        "note: 2 listed clips are not on disk; the first: /d/0/0.mp4",
    ]
    assert [row.line for row in manifest.split("train").missing] == [1, 4]
    assert manifest.split("test").missing == ()
    by_class = manifest.split_by(lambda row: "test" if row.label == "c1" else "train")
    assert [row.line for row in by_class.split("test").missing] == [4]
    more = manifest.with_labels(("c0", "c1", "c2"))
    assert (more.missing, more.official) == (manifest.missing, manifest.official)
    assert pickle.loads(pickle.dumps(manifest)) == manifest
    # What is not on disk is not part of what was trained on.
    assert replace(manifest, missing=()).digest == manifest.digest


def test_missing_clips_are_not_held_out() -> None:
    manifest = hold_out(listed().split_by(lambda row: ""), 0.5)
    assert manifest.splits == ("train", "validation")
    assert {row.split for row in manifest.missing} == {""}
    assert "no split" not in manifest.summary().splitlines()[0]


def test_a_split_that_is_only_listed() -> None:
    manifest = listed()
    manifest = replace(manifest, rows=manifest.split("test").rows)
    with pytest.raises(UsageError, match=r"split 'train': none of its 2 listed clips.*/d/0/0\.mp4"):
        manifest.split("train")


def test_folds_of_missing_clips() -> None:
    first, second = folds(listed(), r"^(\d)/", "0,1")
    assert [row.line for row in first.split("test").missing] == [1]
    assert [row.line for row in second.split("test").missing] == [4]


def test_relative_paths() -> None:
    manifest = make_manifest("m", [Row("/d/a/b.mp4", "x"), Row("/da/c.mp4", "x")], root="/d")
    assert [manifest.relative_path(row) for row in manifest.rows] == ["a/b.mp4", "/da/c.mp4"]
    assert replace(manifest, root="/").relative_path(manifest.rows[0]) == "d/a/b.mp4"
    assert replace(manifest, root="").relative_path(manifest.rows[0]) == "/d/a/b.mp4"


def test_the_digest_does_not_change_between_versions() -> None:
    # Runs keep it: another one would refuse to resume them.
    rows = [Row("/d/a/b.mp4", "x", "train"), Row("/e/c.mp4", None, "test")]
    assert make_manifest("m", rows, root="/d").digest == "7b68f93796ba"


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    names = [os.fsdecode(b"\xe9%d.mp4" % number) for number in range(4)]
    manifest = load_manifest(touch(tmp_path, *(f"{c}/{name}" for c in "ab" for name in names)))
    assert manifest.splits == ("train", "validation")
    assert len(manifest.digest) == 12


def test_layouts_of_folders_and_options_that_do_not_fit(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.mp4", "test/1.mp4")
    with pytest.raises(ManifestError, match="no clip in its 2 folders"):
        load_manifest(tmp_path)
    assert load_manifest(tmp_path, layout="classes").labels == ("test", "train")
    touch(tmp_path, "bus/1.mp4")
    with pytest.raises(ManifestError, match=r"bus: unknown split folder 'bus'"):
        load_manifest(tmp_path, layout="splits")
    with pytest.raises(UsageError, match=r"folder: unknown layout 'kaggle'.*classes, splits"):
        load_manifest(tmp_path, layout="kaggle")
    with pytest.raises(UsageError, match=r"motion is generated and has none"):
        load_manifest("motion:train=4", layout="kaggle")
    with pytest.raises(UsageError, match=r"csv: unknown layout 'comma'. Available: none"):
        load_manifest(write(tmp_path / "l.csv", "path,label\na.mp4,x\n"), layout="comma")
    with pytest.raises(UsageError, match=r"a CSV file is wanted"):
        load_manifest(f"csv:{tmp_path}")


def test_a_folder_of_other_files_beside_splits(tmp_path: Path) -> None:
    splits = [f"{split}/{label}" for split in ("train", "val") for label in ("a", "b")]
    touch(tmp_path, *(f"{place}/clip/1.jpg" for place in splits), "meta/about.json")
    manifest = load_manifest(tmp_path)
    assert (manifest.labels, manifest.splits) == (("a", "b"), ("train", "validation"))
    assert f"{tmp_path / 'meta'}: skipped" in manifest.summary()
    assert load_manifest(tmp_path, layout="splits").labels == ("a", "b")
    # Nothing tells whether this is a split of another name or a class.
    touch(tmp_path, "holdout/a/clip/1.jpg")
    with pytest.raises(ManifestError, match="unknown split folder 'holdout'"):
        load_manifest(tmp_path, layout="splits")


def test_what_systems_leave_in_folders_is_no_class_and_no_clip(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{label}/{n}.mp4" for label in "ab" for n in range(2)))
    # A network storage keeps pictures of each clip; a disk has a folder for what it has found.
    touch(tmp_path, "@eaDir/0.mp4/shot.jpg", "a/@eaDir/0.mp4/shot.jpg", "lost+found/1/1.jpg")
    touch(tmp_path, "a/Thumbs.db", "$RECYCLE.BIN/x/1.jpg", "a/._0.mp4", "__MACOSX/a/0.mp4")
    manifest = load_manifest(tmp_path)
    assert (manifest.labels, len(manifest.rows), manifest.notes) == (("a", "b"), 4, ())


def test_a_link_in_a_circle_is_a_bad_clip(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "b/1.mp4")
    (tmp_path / "a/2.mp4").symlink_to("2.mp4")
    manifest = load_manifest(tmp_path)
    assert len(manifest.rows) == 3
    with pytest.raises(DecodeError, match=r"2\.mp4"):
        manifest.open(next(row for row in manifest.rows if row.path.endswith("a/2.mp4")))


@pytest.mark.parametrize(
    ("name", "text", "spec"),
    [
        ("train.csv", "label,youtube_id,time_start,time_end,split\nx,abcdefghijk,1,11,train\n",
         "kinetics400:"),
        ("jester-v1-train.csv", "34870;Drumming Fingers\n", "jester:"),
    ],
)  # fmt: skip
def test_a_list_of_a_large_data_set_by_itself(
    tmp_path: Path, name: str, text: str, spec: str
) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(
        UsageError, match=re.escape(f"Give the data set's folder: {spec}{tmp_path}")
    ):
        load_manifest(path)
    # With a column of paths it is the user's own.
    own = write(tmp_path / name, "path,label,youtube_id\na.mp4,x,abcdefghijk\n")
    assert len(load_manifest(own, validation_share=0).rows) == 1
