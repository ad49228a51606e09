from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from videorwkv.data.manifest import Manifest, Row, load_manifest, make_manifest, read_flip_table
from videorwkv.errors import ManifestError, UsageError


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


def test_class_with_one_clip_is_reported(tmp_path: Path) -> None:
    manifest = load_manifest(touch(tmp_path, "wave/1.mp4", "wave/2.mp4", "nod/1.mp4"))
    assert "class 'nod' has one clip" in manifest.summary()
    assert [r.label for r in manifest.split("validation").rows] == ["wave"]


def test_no_validation(class_folder: Path) -> None:
    assert load_manifest(class_folder, validation_share=0).splits == ("train",)


def test_missing_and_empty_places(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such file or folder"):
        load_manifest(tmp_path / "nothing")
    with pytest.raises(ManifestError, match=r"no class folder in it.*<class>/clip\.mp4"):
        load_manifest(tmp_path)
    with pytest.raises(ManifestError, match=r"no clip in its 1 folders.*1\.txt"):
        load_manifest(touch(tmp_path, "wave/1.txt"))
    with pytest.raises(UsageError, match=r"Did you mean 'folder'"):
        load_manifest("foldr:/data")
    with pytest.raises(UsageError, match=r"a data set is a folder"):
        load_manifest(tmp_path / "wave" / "1.txt")


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


def test_csv_without_split(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", "label,path\n" + "".join(f"x,{n}.mp4\n" for n in range(10)))
    assert load_manifest(path).summary().splitlines()[0] == (
        "csv: 10 clips, 1 class, train 8, validation 2"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.mp4,wave\nb.mp4,nod\n", r":1: no column 'path', 'label'"),
        ("path;label\na.mp4;wave\n", r":1: no column 'path', 'label'.*comma-separated"),
        ("path,label\na.mp4,wave\nb, c.mp4,nod\n", r":3: 3 fields, but the header has 2.*quotes"),
        ("path,label\na.mp4\n", r":2: 1 fields"),
        ("path,label\na.mp4,\n", r":2: the label is empty"),
        ("path,label\n,wave\n", r":2: the path is empty"),
        ("path,label,split\na.mp4,wave,\n", r":2: the split is empty"),
        ("path,label\na.mp4,wave\na.mp4,nod\n", r":3: 'a.mp4' stands in line 2 already"),
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


def test_csv_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_bytes(b"path,label\n\xff\xfe\x00\n")
    with pytest.raises(ManifestError, match=r"not UTF-8"):
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


LABELS = ("left", "right", "up")


def test_flip_table(tmp_path: Path) -> None:
    path = write(tmp_path / "flips.csv", "label,flipped\nleft,right\n")
    table = read_flip_table(path, LABELS)
    assert table == {"left": "right", "right": "left", "up": "up"}
    both = write(tmp_path / "both.csv", "label,flipped\nleft,right\nright,left\nup,up\n")
    assert read_flip_table(both, LABELS) == table
    data = write(tmp_path / "d.csv", "path,label\na,left\nb,right\nc,up\n")
    assert load_manifest(data, flips=path).flips == table


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,flipped\nleft,rigth\n", ":2: unknown label 'rigth'. Did you mean 'right'"),
        ("label,flipped\nleft,right\nleft,up\n", ":3: 'left' becomes 'up' here and 'right' above"),
        ("label,flipped\nleft,right\nright,up\n", ":3: 'right' becomes 'up' here and 'left' above"),
        ("from,to\nleft,right\n", ":1: no column 'label', 'flipped'"),
    ],
)
def test_wrong_flip_table(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "flips.csv", text)
    with pytest.raises(ManifestError, match=re.escape(message)):
        read_flip_table(path, LABELS)


def test_flips_are_checked_where_given_directly() -> None:
    rows = (Row("a", "left"), Row("b", "right"))
    labels = ("left", "right")
    with pytest.raises(ManifestError, match="mirroring twice"):
        Manifest(name="m", rows=rows, labels=labels, flips={"left": "right", "right": "right"})
    with pytest.raises(ManifestError, match="odd: right"):
        Manifest(name="m", rows=rows, labels=labels, flips={"left": "left"})
