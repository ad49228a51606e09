"""UCF101 and HMDB51 as they are distributed, labels in names, and columns of groups."""

from __future__ import annotations

from pathlib import Path

import disk
import pytest

from videorwkv.data.load import load_manifest
from videorwkv.data.manifest import Manifest
from videorwkv.errors import ManifestError, UsageError

CLASSES = ("ApplyEyeMakeup", "Archery")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "set"


def ucf101(root: Path, lists: str) -> None:
    train, test = "", ""
    for number, label in enumerate(CLASSES, start=1):
        for group in range(1, 4):
            name = f"{label}/v_{label}_g0{group}_c01.avi"
            disk.video(root / "UCF-101" / name)
            if group == 1:
                test += f"{name}\n"
            else:
                train += f"{name} {number}\n"
    for split, text in (("trainlist01", train), ("testlist01", test)):
        disk.text(root / lists / f"{split}.txt", text)
    disk.text(root / lists / "trainlist02.txt", test.replace(".avi\n", ".avi 1\n", 1).replace(
        ".avi\n", ".avi 2\n"))  # fmt: skip
    disk.text(root / lists / "testlist02.txt", train.replace(" 1\n", "\n").replace(" 2\n", "\n"))
    names = "".join(f"{n} {label}\n" for n, label in enumerate(CLASSES, start=1))
    disk.text(root / lists / "classInd.txt", names)


@pytest.mark.parametrize("lists", ["ucfTrainTestlist", "UCF-101", "."])
def test_ucf101(root: Path, lists: str) -> None:
    """Numbers count from 1, in every folder in which people have the lists."""
    ucf101(root, lists)
    manifest = load_manifest(f"ucf101:{root}")
    assert manifest.labels == CLASSES
    assert (len(manifest.split("train")), len(manifest.split("test"))) == (4, 2)
    assert not manifest.missing
    for row in manifest.rows:
        assert Path(row.path).is_file()
        assert Path(row.path).parent.name == row.label
        assert row.group == Path(row.path).name[2:].rpartition("_")[0]
    train = {row.group for row in manifest.rows if row.split == "train"}
    assert not train & {row.group for row in manifest.rows if row.split == "test"}
    other = load_manifest(f"ucf101:{root}", layout="split2")
    assert (len(other.split("train")), len(other.split("test"))) == (2, 4)


def test_ucf101_that_is_wrong(root: Path) -> None:
    ucf101(root, "lists")
    lists = root / "lists"
    with pytest.raises(ManifestError, match=r"trainlist03.txt is not in it"):
        load_manifest(f"ucf101:{root}", layout="split3")
    with pytest.raises(UsageError, match="unknown layout 'split4'"):
        load_manifest(f"ucf101:{root}", layout="split4")
    disk.text(lists / "classInd.txt", "1 Archery\n2 ApplyEyeMakeup\n")
    with pytest.raises(ManifestError, match="label 1 is 'Archery' by"):
        load_manifest(f"ucf101:{root}")
    (lists / "classInd.txt").unlink()
    with pytest.raises(ManifestError, match=r"classInd.txt, which names the classes, is not"):
        load_manifest(f"ucf101:{root}")


HMDB = [
    ("brush_hair", "April_09_brush_hair_u_nm_np1_ba_goo_0.avi", 1),
    ("brush_hair", "April_09_brush_hair_u_nm_np1_ba_goo_1.avi", 1),
    ("brush_hair", "Brunette_brush_hair_u_cm_np1_fr_goo_0.avi", 2),
    ("brush_hair", "Blonde_brush_hair_u_cm_np1_fr_goo_0.avi", 0),
    ("run", "Chase_run_f_cm_np1_ri_med_2.avi", 1),
    ("run", "Race_run_f_cm_np1_ri_med_2.avi", 2),
    ("run", "Lost_run_f_cm_np1_ri_med_2.avi", 2),
]


@pytest.mark.parametrize("clips", ["", "hmdb51_org"])
def test_hmdb51(root: Path, clips: str) -> None:
    for label, name, code in HMDB:
        if not name.startswith("Lost"):
            disk.video(root / clips / label / name)
        path = root / "testTrainMulti_7030_splits" / f"{label}_test_split1.txt"
        before = path.read_text() if path.exists() else ""
        disk.text(path, f"{before}{name} {code} \n")
        disk.text(path.with_name(f"{label}_test_split2.txt"), f"{name} 1 \n")
    manifest = load_manifest(f"hmdb51:{root}")
    assert manifest.labels == ("brush_hair", "run")
    found = {(row.label, Path(row.path).name[:6], row.split) for row in manifest.rows}
    assert found == {
        ("brush_hair", "April_", "train"),
        ("brush_hair", "Brunet", "test"),
        ("run", "Chase_", "train"),
        ("run", "Race_r", "test"),
    }
    assert [Path(row.path).name[:4] for row in manifest.missing] == ["Lost"]
    assert any("in neither part of this split: 1" in note for note in manifest.notes)
    one, two = (row.group for row in manifest.rows if "April" in row.path)
    assert one == two == "brush_hair/April_09_brush_hair"
    with pytest.raises(ManifestError, match=r"no <class>_test_split3.txt in it"):
        load_manifest(f"hmdb51:{root}", layout="split3")
    path.write_text("a.avi 3\n")
    with pytest.raises(ManifestError, match=r"wanted `clip.avi 1` .0, 1, 2."):
        load_manifest(f"hmdb51:{root}", layout="split1")


def groups(manifest: Manifest, name: str) -> list[set[str]]:
    return [{r.split for r in manifest.rows if name.format(n) in r.path} for n in range(1, 5)]


def test_labels_in_names(root: Path) -> None:
    """NTU's: setup, camera, performer, repetition, action. People stay together."""
    for person in range(1, 5):
        for action in (1, 7):
            disk.video(root / f"S001C001P00{person}R001A00{action}_rgb.avi")
            disk.frames(root / f"frames/S001C001P00{person}R002A00{action}")
    manifest = load_manifest(root, label_by=r"A(\d{3})")
    assert len(manifest) == 16
    assert manifest.labels == ("001", "007")
    assert all(row.label == Path(row.path).name.split("A")[1][:3] for row in manifest.rows)
    assert all(len(found) == 1 for found in groups(manifest, "P00{}"))
    names = disk.text(root.parent / "names.txt", "1 drink water\n7 throw\n")
    named = load_manifest(root, label_by=r"A(\d{3})", label_names=names)
    assert named.labels == ("drink water", "throw")
    with pytest.raises(ManifestError, match=r"finds no label in 'S001"):
        load_manifest(root, label_by=r"B(\d{3})")
    with pytest.raises(UsageError, match=r"needs a capture group, \(...\), around the label"):
        load_manifest(root, label_by="A")
    with pytest.raises(UsageError, match="a folder of clips is wanted"):
        load_manifest(names, label_by="(a)")
    with pytest.raises(UsageError, match="--label-by a: motion is generated"):
        load_manifest("motion", label_by="a")


def test_a_column_of_groups(root: Path) -> None:
    rows = "".join(
        f"{n}.mp4,{label},house {n % 4 + 1},{n}\n" for n in range(16) for label in [n // 4 % 2]
    )
    path = disk.text(root / "t.csv", f"path,label,where,patient\n{rows}")
    assert "by names" not in load_manifest(path).split_notes[0]
    manifest = load_manifest(path, group_column="where")
    assert {row.group for row in manifest.rows} == {f"house {n}" for n in range(1, 5)}
    split_of = {row.group: row.split for row in manifest.rows}
    assert all(row.split == split_of[row.group] for row in manifest.rows)
    assert "not used: column 'patient'" in manifest.notes
    with pytest.raises(ManifestError, match=r"t.csv:1: no column 'house' for groups"):
        load_manifest(path, group_column="house")
    with pytest.raises(UsageError, match="give one of them"):
        load_manifest(path, group_column="where", group_by="none")
    with pytest.raises(UsageError, match="--group-column where: for CSV files"):
        load_manifest(root, group_column="where")
    split = disk.text(root / "s.csv", "path,label,split,where\na.mp4,x,train,h\nb.mp4,y,test,h\n")
    with pytest.raises(ManifestError, match="the column split says which clips are held out"):
        load_manifest(split, group_column="where")
