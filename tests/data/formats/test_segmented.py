"""EPIC-Kitchens, ActivityNet, FineGym, Charades and WLASL: the frames of every annotated segment.

Every frame of the videos carries its number, so what is read tells whether it was meant.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from videorwkv.data.load import load_manifest
from videorwkv.data.manifest import Manifest, Row
from videorwkv.errors import ManifestError, UsageError
from videorwkv.video.segment import Segment

sys.path.append(str(Path(__file__).parents[2] / "video"))
from numbered_video import encode, numbered_frame, numbers_of

# Of 10 frames a second.
NUM_FRAMES = 60


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "set"


def video(path: Path, num_frames: int = NUM_FRAMES, first: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        return encode(path, num_frames, options={"g": "12"})
    path.mkdir()
    for number in range(first, first + num_frames):
        image_HWC = numbered_frame(number)
        cv2.imwrite(str(path / f"frame_{number + 1:010d}.png"), image_HWC[..., ::-1])
    return path


def text(path: Path, content: str | list[Any] | dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read(manifest: Manifest, row: Row) -> tuple[int, int]:
    """The first and the last of its frames, which are all those between."""
    with manifest.open(row) as opened:
        found = numbers_of(opened.read_all().frames_THWC)
    assert found == list(range(found[0], found[-1] + 1))
    return found[0], found[-1]


def clips(manifest: Manifest) -> list[tuple[str | None, str, tuple[int, int]]]:
    return [(row.label, row.split, read(manifest, row)) for row in manifest.rows]


EPIC_HEADER = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,"
    "start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
)
EPIC_TRAIN = (
    "P01_01_0,P01,P01_01,00:00:01.089,00:00:00.50,00:00:02.00,6,20,open door,open,3,door,3,"
    "\"['door']\",[3]\n"
    "P01_01_1,P01,P01_01,00:00:02.629,00:00:02.00,00:00:04.10,21,41,turn on light,turn-on,6,light,"
    "114,\"['light']\",[114]\n"
)
EPIC_VALIDATION = (
    "P02_01_0,P02,P02_01,00:00:01.089,00:00:01.00,00:00:03.00,11,30,close door,shut,4,door,3,"
    "\"['door']\",[3]\n"
    "P02_01_1,P02,P02_01,00:00:01.089,00:00:04.00,00:00:06.00,41,60,close door,close,4,door,3,"
    "\"['door']\",[3]\n"
    "P02_01_2,P02,P02_01,00:00:01.089,00:00:01.50,00:00:03.00,16,30,close it,close,4,door,3,"
    "\"['door']\",[3]\n"
)
EPIC = [
    ("open", "train", (5, 19)),
    ("turn-on", "train", (20, 40)),
    ("close", "validation", (10, 29)),
    ("close", "validation", (40, 59)),
    ("close", "validation", (15, 29)),
]


def epic(root: Path, place: Callable[[str], str]) -> None:
    text(root / "annotations" / "EPIC_100_train.csv", EPIC_HEADER + EPIC_TRAIN)
    text(root / "annotations" / "EPIC_100_validation.csv", EPIC_HEADER + EPIC_VALIDATION)
    for name in ("P01_01", "P02_01"):
        video(root / place(name))


@pytest.mark.parametrize(
    "place",
    [
        lambda name: f"{name[:3]}/videos/{name}.mp4",
        lambda name: f"{name[:3]}/rgb_frames/{name}",
        lambda name: f"{name}.mp4",
    ],
    ids=["videos", "frames", "flat"],
)
def test_epic(root: Path, place: Callable[[str], str]) -> None:
    """Files are cut by the time stamps, frames by their numbers, which count from 1."""
    epic(root, place)
    manifest = load_manifest(f"epic:{root}")
    assert clips(manifest) == EPIC
    assert [row.group for row in manifest.rows] == ["P01", "P01", "P02", "P02", "P02"]
    assert all(row.segment and row.segment.in_frames == (not place("P01_01").endswith("mp4"))
               for row in manifest.rows)  # fmt: skip
    # One of the two files is enough to know what it is, and lies beside the videos' folder.
    train = load_manifest(root / "annotations" / "EPIC_100_train.csv")
    assert clips(train) == EPIC[:2]
    assert train.splits == ("train",)


def test_epic_nouns_actions_and_names_of_classes(root: Path) -> None:
    epic(root, lambda name: f"{name}.mp4")
    nouns = load_manifest(f"epic:{root}", layout="noun")
    assert [row.label for row in nouns.rows] == ["door", "light", "door", "door", "door"]
    actions = load_manifest(f"epic:{root}", layout="action")
    assert actions.labels == ("close door", "open door", "turn-on light")
    names = "id,key,instances\n3,to open,[]\n6,to turn on,[]\n4,to close,[]\n"
    text(root / "annotations" / "EPIC_100_verb_classes.csv", names)
    assert load_manifest(f"epic:{root}").labels == ("to close", "to open", "to turn on")


def test_epic_without_labels(root: Path) -> None:
    video(root / "P03_01.mp4")
    header = "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,"
    rows = "P03_01_0,P03,P03_01,00:00:00.1,00:00:00.00,00:00:01.00,1,10\n"
    path = text(
        root / "EPIC_100_test_timestamps.csv",
        f"{header}stop_timestamp,start_frame,stop_frame\n{rows}",
    )
    assert clips(load_manifest(path)) == [(None, "test", (0, 9))]


def test_activitynet(root: Path) -> None:
    database = {
        "abc": {"subset": "training", "duration": 6.0, "annotations": [
            {"segment": [0.5, 2.0], "label": "A"}, {"segment": [2.0, 6.8], "label": "B"}]},
        "-xyz": {"subset": "validation", "duration": 6.0, "annotations": [
            {"segment": [1, 3], "label": "B"}, {"segment": [1.0, 3.0], "label": "B"}]},
        "gone": {"subset": "validation", "annotations": [{"segment": [1, 3], "label": "A"}]},
        "test": {"subset": "testing", "duration": 9.0, "annotations": []},
    }  # fmt: skip
    path = text(root / "activity_net.v1-3.min.json", {"version": "1", "database": database})
    video(root / "videos" / "v_abc.mp4")
    video(root / "videos" / "-xyz")
    for spec in (path, f"activitynet:{root}"):
        manifest = load_manifest(
            spec,
        )
        assert manifest.frame_rate is None
        first = [(row.label, row.split, row.segment) for row in manifest.rows]
        assert first == [
            ("A", "train", Segment(0.5, 2)),
            ("B", "train", Segment(2, 6)),
            ("B", "validation", Segment(1, 3)),
        ]
        assert [read(manifest, row) for row in manifest.rows[:2]] == [(5, 19), (20, 59)]
        # A folder of frames has no clock: 12 a second, unless it is said.
        assert read(manifest, manifest.rows[2]) == (12, 35)
        assert [row.segment for row in manifest.missing] == [Segment(1, 3)]
        said = "; ".join(manifest.notes)
        assert "segments cut at the length that the annotations give the video: 1" in said
        assert "annotated again, with the same class: 1" in said
        assert "videos without annotations, which are no clips: 1" in said


GYM = {
    "abcdefghijk": {
        "E_000001_000006": {
            "event": 1,
            "timestamps": [[1.0, 5.5]],
            "segments": {
                "A_0000_0001": {"stages": 1, "timestamps": [[0.5, 1.5]]},
                "A_0002_0004": {"stages": 3, "timestamps": [[2, 2.5], [2.5, 3], [3.2, 4.0]]},
            },
        },
        "E_000000_000001": {"event": 3, "timestamps": [[0.0, 1.0]], "segments": None},
    }
}  # fmt: skip


@pytest.mark.parametrize(
    "files",
    [
        {"abcdefghijk.mp4": 0},
        {"abcdefghijk_E_000001_000006.mp4": 10},
        {"abcdefghijk_E_000001_000006_A_0000_0001.mp4": 15,
         "abcdefghijk_E_000001_000006_A_0002_0004.mp4": 30},
    ],
    ids=["videos", "events", "elements"],
)  # fmt: skip
def test_finegym(root: Path, files: dict[str, int]) -> None:
    """Times of elements count from their event, whatever the files hold."""
    text(root / "finegym_annotation_info_v1.1.json", GYM)
    text(root / "gym99_train_element_v1.1.txt", "abcdefghijk_E_000001_000006_A_0000_0001 12\n")
    text(root / "gym99_val_element.txt", "abcdefghijk_E_000001_000006_A_0002_0004 5\n")
    text(
        root / "gym99_categories.txt",
        "Clabel: 5; set: 11; Glabel: 3; (VT) round-off, flic-flac; twice\n"
        "Clabel: 12; set: 22; Glabel: 80; (FX) switch leap\n",
    )
    lengths = {10: 45, 15: 10, 30: 20}
    for name, first in files.items():
        video(root / "videos" / name, lengths.get(first, NUM_FRAMES))
    manifest = load_manifest(f"finegym:{root}")
    shift = [min(first, 30) for first in files.values()] * (2 // len(files))
    assert manifest.labels == ("(FX) switch leap", "(VT) round-off, flic-flac; twice")
    found = [(row.split, *read(manifest, row)) for row in manifest.rows]
    wanted = [("train", 15, 24), ("validation", 30, 49)]
    assert found == [
        (split, low - begin, high - begin)
        for (split, low, high), begin in zip(wanted, shift, strict=True)
    ]
    assert all(row.group == "abcdefghijk" for row in manifest.rows)


def test_finegym_events(root: Path) -> None:
    text(root / "finegym_annotation_info_v1.1.json", GYM)
    video(root / "abcdefghijk.mp4")
    manifest = load_manifest(root / "finegym_annotation_info_v1.1.json", validation_share=0)
    assert clips(manifest) == [("vault", "train", (10, 54)), ("balance beam", "train", (0, 9))]


CHARADES_HEADER = (
    "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
)
CHARADES = (
    'AAAAA,S1,Kitchen,6,7,Yes,"a, b",cup,"d",c092 0.50 2.00;c147 2.00 7.50;c001 0.50 2.00,6.00\n'
    'BBBBB,S2,Kitchen,6,7,Yes,"a",cup,"d",,6.00\n'
)


def charades(root: Path) -> None:
    text(root / "Charades_v1_train.csv", CHARADES_HEADER + CHARADES)
    test = 'CCCCC,S3,Hall,6,7,Yes,"a",cup,"d",c092 1.00 3.00,6.00\n'
    text(root / "Charades_v1_test.csv", CHARADES_HEADER + test)
    names = "c001 Holding a phone\nc092 Watching/Looking outside of a window\nc147 Sitting down\n"
    text(root / "Charades_v1_classes.txt", names)
    for name in ("AAAAA", "BBBBB", "CCCCC"):
        video(root / "Charades_v1_480" / f"{name}.mp4")


def test_charades(root: Path) -> None:
    """Actions of the same moments are one clip of several labels."""
    charades(root)
    manifest = load_manifest(f"charades:{root}")
    assert manifest.multilabel
    window, both = "Watching/Looking outside of a window", "Holding a phone|Watching/Looking"
    assert clips(manifest) == [
        (window, "test", (10, 29)),
        (f"{both} outside of a window", "train", (5, 19)),
        ("Sitting down", "train", (20, 59)),
    ]
    assert manifest.labels == ("Holding a phone", "Sitting down", window)
    assert "segments cut at the length" in "; ".join(manifest.notes)
    assert [row.group for row in manifest.rows] == ["S3", "S1", "S1"]


def test_charades_as_videos(root: Path) -> None:
    charades(root)
    manifest = load_manifest(f"charades:{root}", layout="videos")
    assert manifest.multilabel
    found = {Path(row.path).stem: (row.label, row.segment) for row in manifest.rows}
    assert found["BBBBB"] == ("", None)
    names = ("Holding a phone", "Sitting down", "Watching/Looking outside of a window")
    assert found["AAAAA"] == ("|".join(names), None)
    assert manifest.labels_of(manifest.rows[1]) == names


def wlasl(root: Path, instances: list[dict[str, Any]]) -> Path:
    book, drink = instances[::2], instances[1::2]
    return text(
        root / "WLASL_v0.3.json",
        [{"gloss": "book", "instances": book}, {"gloss": "drink", "instances": drink}],
    )


def instance(number: int, first: int, last: int, **more: Any) -> dict[str, Any]:
    own = {"video_id": f"{number:05d}", "split": "train", "signer_id": number, "fps": 25}
    return {**own, "frame_start": first, "frame_end": last, "url": "", "bbox": [1, 2, 3, 4], **more}


def test_wlasl(root: Path) -> None:
    """Numbers are of frames at 25 a second, whatever the file's rate, and count from 1."""
    address = "https://www.youtube.com/watch?v=ABCDEFGHIJK"
    instances = [
        instance(1, 26, 75),  # 1 to 3 s
        instance(2, 1, -1, split="val"),
        instance(3, 51, -1),
        instance(4, 13, 37, split="test", url=address),  # 0.48 to 1.48 s
    ]
    wlasl(root, instances)
    for name in ("00001", "00002", "00003", "ABCDEFGHIJK"):
        video(root / "raw_videos" / f"{name}.mp4")
    manifest = load_manifest(f"wlasl:{root}")
    assert clips(manifest) == [
        ("book", "train", (10, 29)),
        ("book", "train", (20, 59)),
        ("drink", "validation", (0, 59)),
        ("drink", "test", (5, 14)),
    ]
    assert [row.segment is None for row in manifest.rows] == [False, False, True, False]
    assert [row.group for row in manifest.rows] == ["1", "3", "2", "4"]


def test_wlasl_that_is_cut(root: Path) -> None:
    """As the official preparation leaves it: called by the same names, as long as the sign."""
    path = wlasl(root, [instance(1, 26, 75), instance(2, 51, 100), instance(3, 1, -1)])
    for number, frames in ((1, 20), (2, 20), (3, 30)):
        video(root / "videos" / f"{number:05d}.mp4", frames)
    manifest = load_manifest(path, validation_share=0)
    assert [read(manifest, row) for row in manifest.rows] == [(0, 19), (0, 29), (0, 19)]
    assert any("videos that are cut to the sign, by the length" in note for note in manifest.notes)
    raw = load_manifest(path, validation_share=0, layout="raw")
    assert [row.segment for row in raw.rows] == [Segment(1, 3), None, Segment(2, 4)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("EPIC_100_train.csv", EPIC_HEADER + EPIC_TRAIN.replace("00:00:02.00", "00:00:00.20", 1),
         r"train.csv:2: the segment ends at 00:00:00.20"),
        ("EPIC_100_train.csv", EPIC_HEADER + EPIC_TRAIN.replace("6,20", "30,20"),
         "start_frame '30' and stop_frame '20' are no segment"),
        ("EPIC_100_train.csv", EPIC_HEADER + EPIC_TRAIN.replace("open,3", "open,"),
         "it has no verb_class"),
        ("EPIC_100_train.csv", EPIC_HEADER + "x,P01,,0,0,1,1,2,a,b,3,c,4,d,e\n", "is empty"),
        ("a.json", {"database": {"x": {"annotations": [{"segment": [2, 1], "label": "a"}]}}},
         r"database.x.annotations\[0\]: the segment ends at 1"),
        ("a.json", {"database": {"x": {"annotations": [{"segment": ["a", 1], "label": "a"}]}}},
         "can't begin or end at 'a'"),
        ("a.json", {"database": {"x": {"annotations": [{"segment": [0], "label": "a"}]}}},
         "wanted a segment of two numbers"),
        ("a.json", {"database": {"x": {"annotations": [{"segment": [0, 1]}]}}}, "has no label"),
        ("a.json", {"database": {"x": {"annotations": 3}}}, "wanted an object with a list"),
        ("a.json", {"database": {}}, "there is no annotated segment"),
        ("a.json", {"database": {"x": {"annotations": [{"segment": [0, 1], "label": "a"}]}}},
         "none of the 1 listed clips is on disk"),
        ("Charades_v1_train.csv", CHARADES_HEADER + "A,S,,,,,,,,c092 1.0,6\n", "is no action"),
        ("Charades_v1_train.csv", CHARADES_HEADER + "A,S,,,,,,,,c092 nan 2,6\n", "at 'nan'"),
        ("WLASL.json", [{"gloss": "book", "instances": [{"video_id": "1", "frame_start": 5,
                         "frame_end": 3}]}], "frame_start 5 and frame_end 3 are no segment"),
        ("WLASL.json", [{"gloss": "book", "instances": [{}]}], "it has no video_id"),
        ("WLASL.json", [{"gloss": "book", "instances": 3}], "wanted a gloss and its instances"),
        ("gym.json", {"a": {"E_1_2": {"event": 1, "timestamps": [[2, 1]]}}}, "ends at 1"),
        ("gym.json", {"a": {"E_1_2": {"event": 9, "timestamps": [[1, 2]]}}}, "event 9; wanted"),
        ("gym.json", {"a": {"E_1_2": {"event": 1}}}, "wanted timestamps"),
        ("x.json", {"something": 1}, "a data set is a folder"),
        ("x.json", "[1, 2", "a data set is a folder"),
    ],
)  # fmt: skip
def test_what_can_not_be_understood(root: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises((ManifestError, UsageError), match=message):
        load_manifest(text(root / name, content))
