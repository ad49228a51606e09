"""Clips that are segments of files: read from tables, sampled, cached, held out, checked."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import SMALL

from videorwkv.data.cache import FrameCache
from videorwkv.data.cache_fill import fill_cache, plan_fill
from videorwkv.data.check import check
from videorwkv.data.dataset import BadClip, ClipDataset, Sample
from videorwkv.data.load import load_manifest
from videorwkv.data.loader import make_loader
from videorwkv.data.manifest import Manifest
from videorwkv.data.shards.write import write_shards
from videorwkv.data.transforms import Augmentation
from videorwkv.errors import ManifestError, UsageError
from videorwkv.inference.evaluate import evaluate
from videorwkv.inference.recogniser import Recogniser
from videorwkv.inference.submission import predict_split
from videorwkv.models import build_model
from videorwkv.video.base import Sampling
from videorwkv.video.segment import Segment

sys.path.append(str(Path(__file__).parents[1] / "video"))
from numbered_video import encode, numbered_frame, numbers_of

SECONDS = """path,label,start,end
one.mp4,up,0,1.5
one.mp4,down,1.5,2
one.mp4,up,0:02,0:00:04.5
two.mp4,down,3.2,end
two.mp4,up,,
"""
FRAMES = """path,label,start_frame,end_frame
one.mp4,up,0,15
one.mp4,down,15,20
frames,up,20,45
frames,down,32,60
frames,up,,
"""
WANTED = [(0, 15), (15, 20), (20, 45), (32, 60), (0, 60)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import cv2

    folder = tmp_path_factory.mktemp("data")
    for name in ("one.mp4", "two.mp4"):
        # Files with the same pictures would be copies.
        encode(folder / name, 60, options={"g": "12", "crf": "18" if name == "one.mp4" else "20"})
    (folder / "frames").mkdir()
    for number in range(60):
        image_HWC = numbered_frame(number)
        cv2.imwrite(str(folder / "frames" / f"{number + 1:05d}.png"), image_HWC[..., ::-1])
    return folder


def load(root: Path, text: str, name: str = "list.csv", **options: object) -> Manifest:
    path = root / name
    path.write_text(text)
    return load_manifest(path, **options)  # type: ignore[arg-type]


def read(dataset: ClipDataset, index: int) -> list[int]:
    sample = dataset[index]
    assert isinstance(sample, Sample)
    return numbers_of(sample.inputs.frames_BTHWC.numpy())


@pytest.mark.parametrize("text", [SECONDS, FRAMES], ids=["seconds", "frames"])
@pytest.mark.parametrize("store", [None, "raw", "jpeg"])
def test_the_frames_are_those_of_the_segment(
    root: Path, tmp_path: Path, text: str, store: str | None
) -> None:
    manifest = load(root, text)
    cache = None if store is None else FrameCache(str(tmp_path / "cache"), 96, store=store)
    for _ in range(2):  # the second time from the cache
        for index, (first, stop) in enumerate(WANTED):
            dataset = ClipDataset(
                manifest,
                sampling=Sampling(num_frames=stop - first),
                size=96,
                frame_fit="stretch",  # the marks stay at their columns
                cache=cache,
            )
            assert read(dataset, index) == list(range(first, stop))
    if cache is not None:
        assert len(list((tmp_path / "cache").glob("*.json"))) == len(WANTED)


def test_training_and_workers_take_frames_of_the_segment_alone(root: Path) -> None:
    manifest = load(root, SECONDS, validation_share=0)
    dataset = ClipDataset(
        manifest,
        sampling=Sampling(num_frames=4, fps=5),
        size=96,
        frame_fit="stretch",
        augmentation=Augmentation(scale=(1.0, 1.0), ratio=(1.0, 1.0), erase_probability=0.0),
        repeats=4,
    )
    loader = make_loader(dataset, batch_size=5, workers=2)
    seen: dict[int, set[int]] = {}
    for batch in loader:
        assert batch.inputs is not None
        assert not batch.bad
        for place, frames_THWC in zip(batch.indices.tolist(), batch.inputs[0], strict=True):
            seen.setdefault(place, set()).update(numbers_of(frames_THWC.numpy()))
    loader.close()
    for place, (first, stop) in enumerate(WANTED):
        assert seen[place] <= set(range(first, stop))
        assert len(seen[place]) > 4 or stop - first == 5


def test_what_a_table_says(root: Path) -> None:
    manifest = load(root, SECONDS, validation_share=0)
    segments = [Segment(0, 1.5), Segment(1.5, 2), Segment(2, 4.5), Segment(3.2, math.inf), None]
    assert [row.segment for row in manifest.rows] == segments
    names = ["one.mp4#0-1.5", "one.mp4#1.5-2", "one.mp4#2-4.5", "two.mp4#3.2-end", "two.mp4"]
    assert [manifest.relative_name(row) for row in manifest.rows] == names
    assert manifest.notes == (
        "4 clips are segments of 2 files",
        "2 clips share frames with a clip of another class",
    )
    other = load(root, SECONDS.replace("1.5,2", "1.4,2"), validation_share=0)
    assert manifest.digest != other.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,start\na,x,1\n", r"c\.csv:1: there is a column 'start' and none called 'end'"),
        ("path,label,end_frame\na,x,1\n", "column 'end_frame' and none called 'start_frame'"),
        ("path,label,start,end\na,x,1,\n", r"c\.csv:2: start is '1', and end is missing"),
        ("path,label,start,end\na,x,,2\n", "end is '2', and start is missing"),
        ("path,label,start,end\na,x,2,1\n", "ends at 1, which is not behind its start, 2"),
        ("path,label,start,end\na,x,2,2\n", "ends at 2, which is not behind"),
        ("path,label,start,end\na,x,-1,2\n", "can't begin or end at '-1'; wanted seconds"),
        ("path,label,start,end\na,x,0,nan\n", "at 'nan'"),
        ("path,label,start,end\na,x,0,inf\n", "at 'inf'"),
        ("path,label,start,end\na,x,0,1e999\n", "at '1e999'"),
        ("path,label,start,end\na,x,0,two\n", "at 'two'"),
        ("path,label,start,end\na,x,0,1_0\n", "at '1_0'"),
        ("path,label,start,end\na,x,0,1:75:1:1\n", "at '1:75:1:1'"),
        ("path,label,start,end\na,x,0,0:61\n", "at '0:61'"),
        ("path,label,start,end\na,x,0,1:60:00\n", "at '1:60:00'"),
        ('path,label,start,end\na,x,0,"2,5"\n', "at '2,5'; wanted .*, with a decimal point"),
        ("path,label,start_frame,end_frame\na,x,0,2.5\n", "at '2.5'; wanted the number of a frame"),
        ("path,label,start_frame,end_frame\na,x,0,0:02\n", "at '0:02'; wanted the number"),
        ("path,label,start_frame,end_frame\na,x,4,4\n", "`end_frame` is not part of the segment"),
        ("path,label,start,end,start_frame,end_frame\na,x,0,2,0,20\n", "both in seconds"),
        ("path,label,start,end\na,x,1,2\na,x,1.0,2.00\n", "'a', 1 to 2 s, is already in .*:2"),
        ("path,label,start,end\na,x,1,2\na,y,1,2\n", "It is 'x' there and 'y' here"),
        ("path,label,start,end\na,x,,\na,x,,\n", "'a' is already in"),
        ("path,label,start time,end time\na,x,1,2\n", "called start and end .in seconds"),
        ("path,label,begin,stop\na,x,1,2\n", "column 'begin' .* called start and end"),
    ],
)
def test_what_is_no_segment(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(ManifestError, match=message):
        load_manifest(tmp_path / "c.csv")


def test_behind_the_end_is_a_bad_clip_and_no_other_frames(root: Path) -> None:
    text = "path,label,start,end\none.mp4,up,0,2\none.mp4,down,5,9\nframes,down,9,10\n"
    dataset = ClipDataset(
        load(root, text, validation_share=0), sampling=Sampling(num_frames=2), size=16
    )
    assert isinstance(dataset[0], Sample)
    for index, reason in ((1, "the segment ends behind"), (2, "the segment begins behind")):
        bad = dataset[index]
        assert isinstance(bad, BadClip)
        assert reason in bad.reason
        assert bad.path == dataset.manifest.rows[index].name


def test_a_clip_that_hangs_costs_no_other_segment_of_its_file(root: Path) -> None:
    manifest = load(root, SECONDS, validation_share=0)
    lost = {manifest.rows[1].name: "it hung"}
    dataset = ClipDataset(manifest, sampling=Sampling(num_frames=2), size=16)
    loader = make_loader(dataset, batch_size=5, workers=1, lost=lost)
    (batch,) = loader
    loader.close()
    assert [bad.path for bad in batch.bad] == [manifest.rows[1].name]
    assert batch.indices.tolist() == [0, 2, 3, 4]


def test_a_cache_is_filled_with_segments(root: Path, tmp_path: Path) -> None:
    manifest = load(root, SECONDS, validation_share=0)
    cache = FrameCache(str(tmp_path / "cache"), 96)
    plan = plan_fill(manifest, cache)
    assert len(plan.missing) == 5
    assert fill_cache(manifest, plan, workers=2).n_written == 5
    assert plan_fill(manifest, cache).n_present == 5
    row = manifest.rows[2]
    with cache.open(row.path, lambda: pytest.fail("it is there"), segment=row.segment) as video:
        assert numbers_of(video.read_all().frames_THWC) == list(range(20, 45))
        assert video.name == row.name


def test_segments_of_a_file_are_held_out_together(root: Path) -> None:
    rows = "".join(
        f"{name},{label},{start},{start + 1}\n"
        for number, name in enumerate(("one.mp4", "two.mp4", "frames", "four.mp4"))
        for start, label in enumerate(("up", "down", "up", "down"))
    )
    manifest = load(root, f"path,label,start,end\n{rows}")
    splits = {name: {r.split for r in manifest.rows if r.path.endswith(name)} for name in
              ("one.mp4", "two.mp4", "frames", "four.mp4")}  # fmt: skip
    assert all(len(found) == 1 for found in splits.values())
    assert {"train", "validation"} == {split for found in splits.values() for split in found}
    assert "clips of one recording stay together (4 recordings" in manifest.split_notes[0]
    # A single file has nothing to hold out but its own segments, and that is said.
    alone = load(root, "path,label,start,end\n" + "".join(rows.splitlines(True)[:4]))
    assert alone.splits == ("train", "validation")
    assert "will be too good" in alone.split_notes[1]


def test_check_finds_what_splits_share(root: Path, tmp_path: Path) -> None:
    text = """path,label,start,end,start_frame,end_frame,split
one.mp4,up,0,2,,,train
one.mp4,down,1.5,3,,,validation
one.mp4,up,,,30,45,train
one.mp4,up,4.5,6,,,train
one.mp4,down,4,4.5,,,train
one.mp4,down,,,15,30,test
one.mp4,down,5.5,7,,,test
two.mp4,up,0,3,,,train
two.mp4,up,3,end,,,validation
frames,down,0,3,,,train
frames,down,,,,,validation
"""
    manifest = load(root, text)
    assert "6 clips share frames with a clip of another split" in manifest.notes[1]
    report = check(manifest, tmp_path / "out", workers=1)
    verdicts = [clip.finding.verdict for clip in report.clips]
    assert verdicts == [
        *("duplicate", "duplicate", "ok", "ok", "ok", "ok", "outside"),  # one.mp4
        *("ok", "ok"),  # two.mp4
        *("duplicate", "ok"),  # frames
    ]
    assert report.clips[1].finding.detail == "the same bytes as one.mp4#f15-30 in test"
    assert report.clips[0].finding.detail == "shares frames with one.mp4#f15-30 in test"
    assert report.clips[6].finding.detail == "5.5 to 7 s, and the file has 6.000 s"
    assert report.clips[9].finding.detail == "shares frames with frames in validation"
    kinds = [copies.kind for copies in report.copies]
    assert kinds == ["across splits"] + 2 * ["overlapping across splits"]
    remarks = report.clips[7].finding.remarks
    assert remarks[-1] == "file in several splits: also in validation"
    assert (report.clips[0].finding.frames, report.clips[2].finding.frames) == (20, 15)
    report.save(tmp_path / "out")
    again = load_manifest(tmp_path / "out" / "good.csv")
    good = [row for row, verdict in zip(manifest.rows, verdicts, strict=True) if verdict == "ok"]
    assert [row.segment for row in again.rows] == [row.segment for row in good]
    assert check(again, tmp_path / "again", workers=1).bad == ()


def test_a_truncated_file_serves_segments_before_its_end(root: Path, tmp_path: Path) -> None:
    path = encode(tmp_path / "cut.ts", 60, options={"g": "10"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    text = "path,label,start,end\ncut.ts,up,0,1\ncut.ts,down,1,5.5\n"
    report = check(load(tmp_path, text), tmp_path / "out", workers=1)
    first, second = (clip.finding for clip in report.clips)
    assert (first.verdict, second.verdict) in (("damaged", "truncated"), ("ok", "outside"))


def test_shards_hold_whole_clips(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="segments of files, and shards hold whole clips"):
        write_shards(load(root, SECONDS), tmp_path / "shards")
    assert not (tmp_path / "shards").exists()


def test_ids_of_clips_are_unique(root: Path, tmp_path: Path) -> None:
    manifest = load(root, SECONDS, validation_share=0)
    model = build_model(replace(SMALL, num_classes=2)).eval()
    sampling = Sampling(num_frames=4)
    recogniser = Recogniser.open(
        model, what="evaluate", labels=manifest.labels, sampling=sampling, device="cpu"
    )
    evaluation = evaluate(recogniser, manifest)
    assert [clip.path for clip in evaluation.clips] == [row.name for row in manifest.rows]
    evaluation.save(tmp_path / "out")
    lines = (tmp_path / "out" / "predictions.csv").read_text().splitlines()[1:]
    assert len({line.partition(",")[0] for line in lines}) == 5
    predict_split(recogniser, manifest, tmp_path / "submission.csv")
    lines = (tmp_path / "submission.csv").read_text().splitlines()[1:]
    assert [line.partition(",")[0] for line in lines] == [
        manifest.relative_name(row) for row in manifest.rows
    ]
