from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import disk
import pytest
import tiny

from videorwkv.cli.main import main
from videorwkv.data.load import load_manifest
from videorwkv.errors import ManifestError, UsageError
from videorwkv.inference.recogniser import load_run

LABELS = ("Stop Sign", "Swiping Left", "Swiping Right", "Thumb Up")
LABELS_CSV = "Swiping Left\nSwiping Right\nThumb Up\nStop Sign\n"
TRAIN = "34870;Swiping Left\n7;Swiping Right\n12;Thumb Up\n"
VALIDATION = "9223;Thumb Up\n"
TEST = "109621\n1417\n"
ON_DISK = ("34870", "7", "9223", "109621", "1417", "555")  # 12 is missing, 555 is in no list
HEADER = "video_id,label,frames,label_id,shape,format\n"


QUOTED = '"' + HEADER.strip().replace(",", '","') + '"\n'


def clips(*folders: Path) -> None:
    for folder in folders:
        disk.frames(folder)


def twentybn(root: Path) -> None:
    clips(*(root / "20bn-jester-v1" / clip for clip in ON_DISK))
    disk.text(root / "jester-v1-labels.csv", LABELS_CSV)
    disk.text(root / "jester-v1-train.csv", TRAIN)
    disk.text(root / "jester-v1-validation.csv", VALIDATION)
    disk.text(root / "jester-v1-test.csv", TEST)


def qualcomm(root: Path) -> None:
    clips(*(root / "20bn-jester-v1" / clip for clip in ON_DISK))
    disk.text(root / "labels/labels.csv", LABELS_CSV)
    disk.text(root / "labels/train.csv", TRAIN)
    disk.text(root / "labels/validation.csv", VALIDATION)
    disk.text(root / "labels/test.csv", TEST)
    disk.text(root / "labels/test-answers.csv", "1417;Stop Sign\n109621;Swiping Left\n")


def kaggle(root: Path, *, test_labels: bool = True) -> None:
    splits = {"34870": "Train", "7": "Train", "9223": "Validation", "555": "Train"}
    clips(*(root / splits.get(clip, "Test") / clip for clip in ON_DISK))

    def line(clip: str, label: str) -> str:
        return f'{clip},{label},37,1,"(176, 100, 3)",jpg\n'

    disk.text(
        root / "Train.csv",
        HEADER
        + line("34870", "Swiping Left")
        + line("7", "Swiping Right")
        + line("12", "Thumb Up"),
    )
    disk.text(root / "Validation.csv", HEADER + line("9223", "Thumb Up"))
    names = ("Swiping Left", "Stop Sign") if test_labels else ("", "")
    disk.text(
        root / "Test.csv",
        # One of the mirrors calls the column so.
        HEADER.replace("video_id", "id" if not test_labels else "video_id")
        + "".join(line(clip, name) for clip, name in zip(("109621", "1417"), names, strict=True)),
    )


def kaggle_without_test_labels(root: Path) -> None:
    kaggle(root, test_labels=False)


LAYOUTS: list[tuple[str, Callable[[Path], None], str, bool]] = [
    ("20bn", twentybn, "Jester, 20BN layout", False),
    ("qualcomm", qualcomm, "Jester, Qualcomm layout", True),
    ("kaggle", kaggle, "Jester, Kaggle mirror layout", True),
    ("kaggle", kaggle_without_test_labels, "Jester, Kaggle mirror layout", False),
]


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize(("layout", "make", "title", "answers"), LAYOUTS)
def test_every_layout_reads_the_same(
    layout: str,
    make: Callable[[Path], None],
    title: str,
    answers: bool,
    forced: bool,
    tmp_path: Path,
) -> None:
    root = tmp_path / "my, jester"
    make(root)
    manifest = load_manifest(f"jester:{root}", layout=layout if forced else None)
    shown = {(Path(r.path).name, r.label, r.split) for r in manifest.rows}
    first, second = ("Swiping Left", "Stop Sign") if answers else (None, None)
    assert shown == {
        ("34870", "Swiping Left", "train"),
        ("7", "Swiping Right", "train"),
        ("9223", "Thumb Up", "validation"),
        ("109621", first, "test"),
        ("1417", second, "test"),
    }
    assert [(Path(r.path).name, r.label, r.split) for r in manifest.missing] == [
        ("12", "Thumb Up", "train")
    ]
    # A Kaggle mirror has no list of labels, so only those that its clips carry.
    assert manifest.labels == (LABELS if answers or layout != "kaggle" else LABELS[1:])
    summary = manifest.summary()
    assert summary.startswith("jester: 5 clips, ")
    assert "train 2 of 3 listed, validation 1, test 2" in summary
    assert f"note: {title}" in summary
    assert "1 listed clip is not on disk" in summary
    assert "clips on disk that are in no list: 1" in summary
    assert ("test clips without a label: 2" in summary) is not answers
    assert manifest.flips is not None
    assert manifest.flips["Swiping Left"] == "Swiping Right"
    for row in manifest.rows:
        with manifest.open(row) as clip:
            assert clip.read_all().frames_THWC[:, 0, 0, 0].tolist() == [10, 20, 40]


def test_gaps_in_frame_numbers_keep_the_order(tmp_path: Path) -> None:
    twentybn(tmp_path)
    folder = tmp_path / "20bn-jester-v1" / "12"
    disk.frames(folder, (11, 9, 2, 10, 1), name="{}.jpg")
    manifest = load_manifest(f"jester:{tmp_path}")
    assert not manifest.missing
    row = next(row for row in manifest.rows if row.path == str(folder))
    with manifest.open(row) as clip:
        assert clip.read_all().frames_THWC[:, 0, 0, 0].tolist() == [10, 20, 90, 100, 110]


def test_frames_come_before_a_video_made_of_them(tmp_path: Path) -> None:
    twentybn(tmp_path)
    disk.video(*(tmp_path / "20bn-jester-v1" / f"{clip}.mp4" for clip in ("34870", "12")))
    names = [Path(r.path).name for r in load_manifest(f"jester:{tmp_path}").split("train").rows]
    assert names == ["34870", "7", "12.mp4"]


def test_a_plain_folder_is_recognised(tmp_path: Path) -> None:
    for make in (twentybn, qualcomm, kaggle):
        root = tmp_path / make.__name__
        make(root)
        manifest = load_manifest(root)
        assert manifest.name == "jester"
        assert "note: read as Jester by the lists in it; folder:" in manifest.summary()
    # Named, the reader for class folders is obeyed.
    assert load_manifest(f"folder:{tmp_path / 'qualcomm'}").name == "folder"


@pytest.mark.parametrize("change", [lambda text: f"\ufeff{text}", lambda text: QUOTED])
def test_lists_that_spreadsheets_have_saved(change: Callable[[str], str], tmp_path: Path) -> None:
    kaggle(tmp_path)
    for name in ("Train.csv", "Validation.csv", "Test.csv"):
        path = tmp_path / name
        path.write_text(path.read_text().replace(HEADER, change(HEADER)), encoding="utf-8")
    assert load_manifest(tmp_path).name == "jester"
    manifest = load_manifest(f"jester:{tmp_path}", layout="kaggle")
    assert not any(row.split == "validation" for row in manifest.missing)


def test_somebody_elses_train_csv_is_not_jester(tmp_path: Path) -> None:
    disk.video(tmp_path / "wave/1.mp4", tmp_path / "nod/1.mp4")
    disk.text(tmp_path / "train.csv", "1;wave\n2;nod\n")
    disk.text(tmp_path / "labels.csv", "wave\nnod\n")
    assert load_manifest(tmp_path).name == "folder"


def test_delimiter_and_header_are_sniffed(tmp_path: Path) -> None:
    twentybn(tmp_path)
    disk.text(tmp_path / "jester-v1-train.csv", "\ufefflabel,id\nSwiping Left,34870\n\n")
    disk.text(tmp_path / "jester-v1-validation.csv", "9223\tThumb Up\r\n")
    manifest = load_manifest(f"jester:{tmp_path}")
    assert [(r.label, r.split, r.line) for r in manifest.rows[:2]] == [
        ("Swiping Left", "train", 2),
        ("Thumb Up", "validation", 1),
    ]


@pytest.mark.parametrize("folder", ["", "videos/20bn-jester-v1", "my clips"])
def test_clips_may_lie_elsewhere(folder: str, tmp_path: Path) -> None:
    disk.text(tmp_path / "annotations/train.csv", TRAIN)
    clips(tmp_path / folder / "34870", tmp_path / folder / "7")
    disk.video(tmp_path / folder / "12.mp4")
    manifest = load_manifest(f"jester:{tmp_path}")
    assert len(manifest.rows) == 3
    assert "there is no validation list" in manifest.summary()
    assert "there is no list of labels" in manifest.summary()
    with manifest.open(manifest.rows[2]) as clip:
        assert len(clip.times()) == 4


def test_a_kaggle_clip_is_looked_for_in_its_own_split(tmp_path: Path) -> None:
    kaggle(tmp_path)
    clips(tmp_path / "Test" / "12")
    manifest = load_manifest(f"jester:{tmp_path}")
    assert [Path(r.path).parts[-2:] for r in manifest.missing] == [("Train", "12")]


def test_other_lists_beside_are_named(tmp_path: Path) -> None:
    twentybn(tmp_path)
    disk.text(tmp_path / "labels/train.csv", TRAIN)
    notes = load_manifest(f"jester:{tmp_path}").summary()
    assert "20BN layout" in notes
    assert "--layout qualcomm takes them" in notes


def test_a_label_without_its_mirror_image_turns_flips_off(tmp_path: Path) -> None:
    clips(tmp_path / "7")
    disk.text(tmp_path / "jester-v1-train.csv", "7;Swiping Left\n")
    manifest = load_manifest(f"jester:{tmp_path}")
    assert manifest.flips is None
    assert (
        "horizontal flip disabled: the labels have 'Swiping Left', but no 'Swiping Right'"
        in manifest.summary()
    )


def test_each_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twentybn(tmp_path)
    real: Callable[..., Any] = os.scandir
    listed: Counter[str] = Counter()

    def scandir(path: Any) -> Any:
        listed[os.path.relpath(path, tmp_path)] += 1
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    load_manifest(f"jester:{tmp_path}")
    # The root, the folder of clips, and no single clip.
    assert listed == {".": 1, "20bn-jester-v1": 1}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train", TRAIN + "55;Swping Left\n", r"train\.csv:4: unknown label 'Swping Left'.*Did"),
        ("train", TRAIN + "7;Thumb Up\n", r"train\.csv:4: clip 7 is already in .*train\.csv:2"),
        ("validation", "7;Thumb Up\n", r"validation\.csv:1: clip 7 is already in .*train\.csv:2"),
        ("train", "34870;Thumb Up\n8\n", r"train\.csv:2: clip 8 has no label"),
        ("train", "34870;Thumb Up;x\n", r"train\.csv:1: 3 fields; wanted id;label"),
        ("train", "Thumb Up;34870\n", r"train\.csv:1: 'Thumb Up' is not a clip's number"),
        ("train", HEADER + "7,Thumb Up\n", r"train\.csv:2: 2 fields; wanted 6, as the header"),
        ("train", "video_id,frames\n7,3\n", r"train\.csv:1: no column 'label'"),
        ("train", '7;Thumb Up\n8;"Thumb\n9;x\n', r"train\.csv:2: not CSV"),
        (
            "labels",
            "Thumb Up\nStop Sign\nThumb Up\n",
            r"labels\.csv:3: 'Thumb Up' is already in .*labels\.csv:1\.",
        ),
        ("labels", "Thumb Up\n\nStop Sign\n", r"labels\.csv:2: an empty line"),
        ("labels", "\n", r"labels\.csv: no name"),
        ("test-answers", "4;Thumb Up\n", r"test-answers\.csv:1: clip 4 is not in the test list"),
        (
            "test-answers",
            "1417;Thumb Up\n1417;Thumb Up\n",
            r"test-answers\.csv:2: clip 1417 is already in .*:1\.",
        ),
    ],
)
def test_errors_name_file_and_line(name: str, content: str, message: str, tmp_path: Path) -> None:
    twentybn(tmp_path)
    disk.text(tmp_path / f"jester-v1-{name}.csv", content)
    with pytest.raises(ManifestError, match=message) as caught:
        load_manifest(f"jester:{tmp_path}")
    assert str(tmp_path) in str(caught.value)


def test_wrong_encoding_names_the_line(tmp_path: Path) -> None:
    twentybn(tmp_path)
    (tmp_path / "jester-v1-train.csv").write_bytes(b"7;Thumb Up\n8;Stop Sign\n9;Thumb \xfcp\n")
    with pytest.raises(ManifestError, match=r"train\.csv:3: not UTF-8 text"):
        load_manifest(f"jester:{tmp_path}")


def test_nothing_found_says_what_was_looked_for(tmp_path: Path) -> None:
    disk.text(tmp_path / "readme.txt", "hello")
    with pytest.raises(ManifestError, match=r"Looked for jester-v1-train\.csv.*Found: readme\.txt"):
        load_manifest(f"jester:{tmp_path}")
    twentybn(tmp_path)
    with pytest.raises(ManifestError, match=r"no Jester lists in the Qualcomm.*Found: 20BN in"):
        load_manifest(f"jester:{tmp_path}", layout="qualcomm")
    with pytest.raises(UsageError, match=r"unknown layout 'qualcom'. Did you mean 'qualcomm'\?"):
        load_manifest(f"jester:{tmp_path}", layout="qualcom")
    with pytest.raises(UsageError, match=r"--label-names .*names its labels"):
        load_manifest(f"jester:{tmp_path}", label_names="x.txt")
    with pytest.raises(UsageError, match=r"is read from a folder"):
        load_manifest(f"jester:{tmp_path / 'readme.txt'}")


def test_no_clip_on_disk_is_an_error_that_says_where(tmp_path: Path) -> None:
    disk.text(tmp_path / "jester-v1-train.csv", TRAIN)
    with pytest.raises(ManifestError, match=r"none of the 3 listed clips.*20bn-jester-v1/34870"):
        load_manifest(f"jester:{tmp_path}")


def test_train_and_answer_the_test_split(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root, run = tmp_path / "jester", tmp_path / "run"
    twentybn(root)
    arguments = [f"jester:{root}", "--layout=20bn"]
    options = [*tiny.OPTIONS[:1], "--workers=0", "--batch-size=2", *tiny.OPTIONS[3:], "--steps=1"]
    assert main(["train", *arguments, "--out", str(run), *options]) == 0
    shown = capfd.readouterr().err
    assert "Jester, 20BN layout" in shown
    assert shown.count("horizontal flip swaps the labels of 1 pair") == 1
    assert load_run(run).labels == LABELS
    assert main(["evaluate", str(run), *arguments, "--split=test", "--workers=0"]) == 1
    assert "predict RUN DATA --split NAME --submission FILE" in capfd.readouterr().err
    out = tmp_path / "new" / "test.csv"
    command = ["predict", str(run), *arguments, "--submission", str(out), "--workers=0"]
    assert main(command) == 0
    lines = [line.split(";") for line in out.read_text().splitlines()]
    assert [line[0] for line in lines] == ["109621", "1417"]
    assert {line[1] for line in lines} <= set(LABELS)
    assert f"{out}: 2/2 clips" in capfd.readouterr().out
    assert json.loads((run / "config.json").read_text())["flips"]["Swiping Left"] == "Swiping Right"
