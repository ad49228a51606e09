from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import disk
import pytest

from videorwkv.data.formats.kinetics import youtube_id
from videorwkv.data.load import load_manifest
from videorwkv.errors import ManifestError

FOOTBALL, HURLING = "passing American football (in game)", "hurling (sport)"
FIVE = "label,youtube_id,time_start,time_end,split\n"
SIX = "label,youtube_id,time_start,time_end,split,is_cc\n"
TRAIN = (
    f'"{HURLING}",--07WQ2iBlw,1,11,train,0\n{FOOTBALL},a_b-c_d-e_f,136,146,train,1\n'
    '"massaging person\'s head",zzzzzzzzzzz,0,10,train,0\n'
)
VALIDATION = f"{FOOTBALL},-AJ3JIMaS18,57,67,validate\n"
TEST = "youtube_id,time_start,time_end,split\n--6bJUbfpnQ,17,27,test\n"
NAMES = {
    "train": ("--07WQ2iBlw_000001_000011", "a_b-c_d-e_f_000136_000146"),
    "val": ("-AJ3JIMaS18_000057_000067",),
    "test": ("--6bJUbfpnQ_000017_000027", "unlistedxxx_000000_000010"),
}
CLASS = {"--07WQ2iBlw": "hurling_sport", "a_b-c_d-e_f": FOOTBALL, "-AJ3JIMaS18": "passing American "
         "football in game"}  # fmt: skip


def lists(folder: Path) -> None:
    disk.text(folder / "train.csv", SIX + TRAIN)
    disk.text(folder / "val.csv", FIVE + VALIDATION)
    disk.text(folder / "test.csv", TEST)


def cvdf(root: Path) -> None:
    lists(root / "k400" / "annotations")
    for split, names in NAMES.items():
        disk.video(*(root / "k400" / split / f"{name}.mp4" for name in names))


def cvdf_without_own_folder(root: Path) -> None:
    lists(root)
    for split, names in NAMES.items():
        disk.video(*(root / f"{split}_256" / f"{name}.mp4" for name in names))


def class_folders(root: Path) -> None:
    lists(root / "annotations")
    for split, names in NAMES.items():
        for name in names:
            disk.video(root / "videos" / split / CLASS.get(name[:11], "odd") / f"{name}.mp4")


def flat(root: Path) -> None:
    disk.text(root / "kinetics-400_train.csv", SIX + TRAIN)
    disk.text(root / "kinetics-400_validate.csv", FIVE + VALIDATION)
    disk.text(root / "kinetics-400_test.csv", TEST)
    disk.video(
        root / "hurling_sport_--07WQ2iBlw.mp4",
        root / "a_b-c_d-e_f.mkv",
        root / "-AJ3JIMaS18_57_67.mp4",
        root / "--6bJUbfpnQ_000017_000027.mp4",
        root / "unlistedxxx_000000_000010.mp4",
    )


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize(
    ("layout", "make", "title"),
    [
        ("cvdf", cvdf, "Kinetics-400, CVDF layout: lists in k400/annotations"),
        ("cvdf", cvdf_without_own_folder, "Kinetics-400, CVDF layout: lists in my, k400"),
        ("classes", class_folders, "Kinetics-400, class-folder layout: lists in annotations"),
        ("flat", flat, "Kinetics-400, flat layout: lists in my, k400"),
    ],
)
def test_every_layout_reads_the_same(
    layout: str, make: Callable[[Path], None], title: str, forced: bool, tmp_path: Path
) -> None:
    root = tmp_path / "my, k400"
    make(root)
    manifest = load_manifest(f"kinetics400:{root}", layout=layout if forced else None)
    assert {(youtube_id(r.path), r.label, r.split) for r in manifest.rows} == {
        ("--07WQ2iBlw", HURLING, "train"),
        ("a_b-c_d-e_f", FOOTBALL, "train"),
        ("-AJ3JIMaS18", FOOTBALL, "validation"),
        ("--6bJUbfpnQ", None, "test"),
    }
    assert [Path(r.path).name for r in manifest.missing] == ["zzzzzzzzzzz_000000_000010.mp4"]
    assert manifest.labels == (HURLING, "massaging person's head", FOOTBALL)
    assert manifest.flips == {label: label for label in manifest.labels}
    summary = manifest.summary()
    assert f"note: {title}" in summary
    assert "train 2 of 3 listed, validation 1, test 1" in summary
    assert "clips on disk that are in no CSV: 1" in summary
    assert "validation: 1 clip; sets of 19,761" in summary
    assert "no class depends on left and right" in summary
    assert load_manifest(f"k400:{root}").digest == load_manifest(root).digest == manifest.digest
    for row in manifest.rows:
        with manifest.open(row) as clip:
            assert len(clip.times()) == 4


def test_replacements_stand_in_for_corrupted_clips(tmp_path: Path) -> None:
    cvdf(tmp_path)
    folder = tmp_path / "k400" / "replacement" / "replacement_for_corrupted_k400"
    disk.video(folder / "a_b-c_d-e_f_000136_000146.mp4", folder / "zzzzzzzzzzz_000000_000010.mp4")
    manifest = load_manifest(f"kinetics400:{tmp_path}")
    assert not manifest.missing
    train = [Path(r.path).parts[-2] for r in manifest.split("train").rows]
    assert train == ["train", folder.name, folder.name]
    assert "clips taken from the folder of replacements: 2" in manifest.summary()
    # The corrupted clip that was replaced is listed all the same.
    assert "clips on disk that are in no CSV: 1" in manifest.summary()


def test_another_clip_of_the_same_video_is_no_match(tmp_path: Path) -> None:
    cvdf(tmp_path)
    folder = tmp_path / "k400" / "train"
    (folder / "a_b-c_d-e_f_000136_000146.mp4").rename(folder / "a_b-c_d-e_f_000236_000246.mp4")
    manifest = load_manifest(f"kinetics400:{tmp_path}")
    assert [youtube_id(r.path) for r in manifest.missing] == ["a_b-c_d-e_f", "zzzzzzzzzzz"]
    assert "clips on disk that are in no CSV: 2" in manifest.summary()


def test_class_folders_without_a_csv(tmp_path: Path) -> None:
    disk.video(
        tmp_path / "train/hurling_(sport)/--07WQ2iBlw_000001_000011.mp4",
        tmp_path / "train/surfing water/05FLJw6nljs_000001_000011.mp4",
        tmp_path / "val/hurling sport/-AJ3JIMaS18_000057_000067.mp4",
    )
    disk.frames(tmp_path / "val/surfing_water/--coBvtS-eQ_000057_000067")
    manifest = load_manifest(f"kinetics400:{tmp_path}")
    assert manifest.labels == ("hurling (sport)", "surfing water")
    assert [(r.label, r.split) for r in manifest.rows] == [
        ("hurling (sport)", "train"),
        ("surfing water", "train"),
        ("hurling (sport)", "validation"),
        ("surfing water", "validation"),
    ]
    assert "no CSV names the classes" in manifest.summary()


def test_a_split_without_a_csv_takes_its_class_folders(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "annotations" / "train.csv").unlink()
    disk.text(
        tmp_path / "annotations" / "val.csv", FIVE + VALIDATION + f"{HURLING},kkkkkkkkkkk,1,2,val\n"
    )
    manifest = load_manifest(f"kinetics400:{tmp_path}")
    # The folder is called hurling_sport: the CSV knows how the class is spelt.
    assert {r.label for r in manifest.split("train").rows} == {FOOTBALL, HURLING}
    assert "train: no CSV lists it, so its folders name the classes" in manifest.summary()


def test_class_folders_without_splits_list_a_clip_once(tmp_path: Path) -> None:
    disk.text(tmp_path / "train.csv", SIX + TRAIN)
    for name in NAMES["train"]:
        disk.video(tmp_path / CLASS[name[:11]] / f"{name}.mp4")
    disk.video(tmp_path / "hurling_sport" / "unlistedxxx_000000_000010.mp4")
    manifest = load_manifest(f"kinetics400:{tmp_path}")
    assert [row.split for row in manifest.rows] == ["train", "train"]
    assert "clips on disk that are in no CSV: 1" in manifest.notes


def test_an_unknown_class_folder_is_an_error(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "annotations" / "test.csv").unlink()
    with pytest.raises(ManifestError, match=r"videos/test/odd: unknown class folder 'odd'"):
        load_manifest(f"kinetics400:{tmp_path}")


def test_two_lists_of_one_split(tmp_path: Path) -> None:
    cvdf(tmp_path)
    disk.text(tmp_path / "k400/annotations/validate.csv", FIVE + VALIDATION)
    summary = load_manifest(f"kinetics400:{tmp_path}").summary()
    assert "validate.csv is not used: another CSV lists that split" in summary


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,#NAME?,1,11,train,0\n", r"train\.csv:5: '#NAME\?' is not a YouTube id.*Spreadsheets"),
        (",bbbbbbbbbbb,1,11,train,0\n", r"train\.csv:5: clip bbbbbbbbbbb has no label"),
        ("a,bbbbbbbbbbb,one,11,train,0\n", r"train\.csv:5: time_start 'one'.*must be seconds"),
        ("a,bbbbbbbbbbb,1,11,val,0\n", r"train\.csv:5: its split is 'val' in the list of train"),
        ("a,bbbbbbbbbbb,1,11\n", r"train\.csv:5: 4 fields, but the header has 6"),
        (
            "a,--07WQ2iBlw,1,11,train,0\n",
            r"train\.csv:5: clip --07WQ2iBlw_000001_000011 is already in",
        ),
    ],
)
def test_errors_name_file_and_line(row: str, message: str, tmp_path: Path) -> None:
    cvdf(tmp_path)
    disk.text(tmp_path / "k400/annotations/train.csv", SIX + TRAIN + row)
    with pytest.raises(ManifestError, match=message):
        load_manifest(f"kinetics400:{tmp_path}")


def test_nothing_found_says_what_was_looked_for(tmp_path: Path) -> None:
    disk.video(tmp_path / "docs" / "readme.txt", tmp_path / "odd" / "h264_10bits.mp4")
    with pytest.raises(ManifestError, match=r"Looked for train\.csv.*Found: docs/"):
        load_manifest(f"kinetics400:{tmp_path}")
    cvdf(tmp_path)
    with pytest.raises(ManifestError, match=r"none of the 5 listed clips is on disk"):
        load_manifest(f"kinetics400:{tmp_path}", layout="classes")


@pytest.mark.parametrize(
    ("name", "clip_id"),
    [
        ("--6bJUbfpnQ_000017_000027.mp4", "--6bJUbfpnQ"),
        ("swimming_butterfly_stroke_-JIvn5VWIKQ.mp4", "-JIvn5VWIKQ"),
        ("surfing_water_--coBvtS-eQ.mp4", "--coBvtS-eQ"),
        ("a_b-c_d-e_f.mkv", "a_b-c_d-e_f"),
        ("clip.mp4", "clip"),
    ],
)
def test_youtube_id(name: str, clip_id: str) -> None:
    assert youtube_id(f"/data/train/{name}") == clip_id
