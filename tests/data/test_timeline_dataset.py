"""Windows of long files: which frames they show, and what is known of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from videorwkv.data import Augmentation, Manifest, load_manifest
from videorwkv.data.background import BACKGROUND, with_background
from videorwkv.data.loader import collate
from videorwkv.data.manifest import Row
from videorwkv.data.timeline import (
    UNKNOWN,
    ActionSegment,
    segments_of,
    whole_files,
)
from videorwkv.data.timeline_dataset import TimelineDataset, window
from videorwkv.errors import ConfigError, ManifestError
from videorwkv.video import Sampling, Segment
from videorwkv.video.array import ArrayVideo

FPS = 10.0
LABELS = ("a", BACKGROUND, "c")


class Numbered:
    """A film of `frames` frames, whose pictures all have their number as grey level."""

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def __call__(self, row: Row) -> ArrayVideo:
        numbers = np.arange(self.frames, dtype=np.uint8)
        frames_THWC = np.broadcast_to(numbers[:, None, None, None], (self.frames, 16, 16, 3))
        return ArrayVideo(row.path, frames_THWC, np.arange(self.frames) / FPS)


def manifest(rows: list[Row], frames: int = 100, **options: Any) -> Manifest:
    labels = sorted({row.label for row in rows if row.label is not None})
    opener = Numbered(frames)
    return Manifest(
        name="numbered", rows=tuple(rows), labels=tuple(labels), opener=opener, **options
    )


def row(label: str | None, *segment: float, path: str = "film", split: str = "train") -> Row:
    return Row(path, label, split, segment=Segment(*segment) if segment else None)


def dataset(rows: list[Row], *, frames: int = 100, context: int = 0, **options: Any):
    sampling = options.pop("sampling", Sampling(num_frames=10, fps=FPS))
    return TimelineDataset(
        manifest(rows, frames), sampling=sampling, context=context, size=16, edges="none",
        augmentation=Augmentation.off(), **options,
    )  # fmt: skip


def test_every_frame_has_the_class_of_its_time():
    rows = [row("a", 2.0, 4.0), row("c", 4.0, 5.5), row("a", 8.0, 9.0)]
    truth = np.full(100, 1)
    truth[20:40], truth[40:55], truth[80:90] = 0, 2, 0
    data = dataset(rows, repeats=60)
    assert len(data) == 60
    assert data.manifest.labels == LABELS
    starts = set()
    for index in range(60):
        sample = data[0, index]
        numbers = sample.inputs.frames_BTHWC[:, 0, 0, 0].numpy().astype(int)
        np.testing.assert_array_equal(np.diff(numbers), 1)
        np.testing.assert_array_equal(sample.label, truth[numbers])
        starts.add(int(numbers[0]))
    assert len(starts) > 30
    assert min(starts) < 10
    assert max(starts) > 80
    np.testing.assert_array_equal(data[0, 7].label, data[0, 7].label)
    assert collate([data[0, 0], data[0, 1]]).labels.shape == (2, 10)


def test_nothing_is_known_of_the_frames_in_which_the_model_warms_up():
    data = dataset([row("a", 0.0, 10.0)], context=4, repeats=40)
    kinds = set()
    for index in range(40):
        sample = data[0, index]
        begins = int(sample.inputs.frames_BTHWC[0, 0, 0, 0]) == 0
        expected = [0] * 10 if begins else [UNKNOWN] * 4 + [0] * 6
        assert sample.label.tolist() == expected
        kinds.add(begins)
    assert False in kinds
    # The film is as long as a window: it begins as a stream does.
    short = dataset([row("a", 0.0, 1.0)], frames=10, context=4)
    assert short[0, 0].label.tolist() == [0] * 10


def test_a_file_shorter_than_a_window_says_nothing_behind_its_end():
    sample = dataset([row("a", 0.0, 0.3)], frames=6)[0, 0]
    assert sample.inputs.frames_BTHWC[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 5, 5, 5, 5]
    assert sample.label.tolist() == [0] * 3 + [1] * 3 + [UNKNOWN] * 4
    one = dataset([row("a")], frames=1)[0, 0]
    assert one.label.tolist() == [0] + [UNKNOWN] * 9


def test_what_is_not_labelled_and_what_overlaps_is_not_known():
    rows = [row("a", 0.0, 0.4), row(None, 0.6, 0.8), row("c", 0.2, 0.5)]
    sample = dataset(rows, frames=10)[0, 0]
    assert sample.label.tolist() == [0, 0, UNKNOWN, UNKNOWN, 2, 1, UNKNOWN, UNKNOWN, 1, 1]


def test_a_mirrored_window_has_mirrored_labels():
    rows = [row("left", 0.0, 0.5), row("right", 0.5, 0.8)]
    data = manifest(rows, frames=10, flips={"left": "right", "right": "left"})
    flipping = replace(Augmentation.off(), flip_probability=0.999999)
    mirrored = TimelineDataset(
        data, sampling=Sampling(num_frames=10, fps=FPS), size=16, edges="none",
        augmentation=flipping,
    )  # fmt: skip
    assert mirrored.manifest.labels == (BACKGROUND, "left", "right")
    assert mirrored[0, 0].label.tolist() == [2] * 5 + [1] * 3 + [0] * 2


def test_windows_of_nothing_are_background():
    rows = [row("a", 0.0, 0.6), row(None, 0.8, 0.9)]
    data = manifest(rows, frames=10)
    nothing = TimelineDataset(
        data, sampling=Sampling(num_frames=10, fps=FPS), size=16, edges="none",
        augmentation=replace(Augmentation.off(), negatives=1.0),
    )  # fmt: skip
    labels = nothing[0, 0].label.tolist()
    assert labels == [1] * 8 + [UNKNOWN] + [1]


def test_half_of_the_windows_show_a_boundary_however_long_the_file_is():
    times = np.arange(100_000) / FPS
    segments = [ActionSegment(5000.0, 5002.0, "a")]
    sampling, context = Sampling(num_frames=30, fps=FPS), 8
    shown, behind_context = 0, []
    for seed in range(400):
        chosen = window(times, segments, sampling, context, np.random.default_rng(seed))
        near = np.flatnonzero(np.isin(chosen, [50_000, 50_020]))
        shown += len(near) > 0
        behind_context += near.tolist()
    assert 160 < shown < 240
    assert min(behind_context) >= 0
    counts, _ = np.histogram(behind_context, bins=[0, 8, 15, 22, 30])
    assert counts[1:].min() > 0.5 * counts[1:].max()


def test_files_and_their_segments():
    rows = [
        row("a", 1.0, 2.0), row("c", path="other", split="test"), row("c", 0.0, 1.0),
        row(None, path="third"),
    ]  # fmt: skip
    files, marks = whole_files(manifest(rows))
    assert [(r.path, r.label, r.segment, r.split) for r in files.rows] == [
        ("film", None, None, "train"),
        ("other", None, None, "test"),
        ("third", None, None, "train"),
    ]
    assert marks["film"] == (rows[0], rows[2])
    times = np.arange(30) / FPS
    assert segments_of(marks["film"], times) == [
        ActionSegment(0.0, 1.0, "c"), ActionSegment(1.0, 2.0, "a"),
    ]  # fmt: skip
    assert segments_of(marks["other"], times) == [ActionSegment(0.0, pytest.approx(3.0), "c")]
    counted = [Row("film", "a", segment=Segment(10, 20, True))]
    assert segments_of(counted, times) == [ActionSegment(1.0, 2.0, "a")]
    beyond = [Row("film", "a", segment=Segment(10, 40, True))]
    assert segments_of(beyond, times) == [ActionSegment(1.0, pytest.approx(3.0), "a")]
    with pytest.raises(ManifestError, match=r"film: one segment is in split 'train' and another"):
        whole_files(manifest([row("a", 0.0, 1.0), row("a", 1.0, 2.0, split="test")]))


def test_the_background_is_a_class():
    data = manifest([row("a", 0.0, 1.0), row("c", 1.0, 2.0)], flips={"a": "c", "c": "a"})
    more = with_background(data)
    assert more.labels == LABELS
    assert more.flips == {"a": "c", "c": "a", BACKGROUND: BACKGROUND}
    assert with_background(more) is more
    assert more.digest == data.digest


def test_generated_films():
    data = load_manifest("motion:timeline=20,train=3,validation=1,test=0,size=32")
    assert data.splits == ("train", "validation")
    assert len({row.path for row in data.rows}) == 4
    for one in data.rows:
        assert one.segment is not None
        assert 0 <= one.segment.start < one.segment.end <= 20
    with data.open(data.rows[0]) as video:
        assert len(video.times()) == round(
            (data.rows[0].segment.end - data.rows[0].segment.start) * 8
        )
    specs = ("timeline=20", "timeline=21", "timeline=20,seed=2", "timeline=20,size=40")
    digests = {load_manifest(f"motion:train=2,validation=0,test=0,{s}").digest for s in specs}
    assert len(digests) == len(specs)
    for wrong in ("timeline=5", "timeline=20,frames=8", "timeline=20,order=2", "timeline=x"):
        with pytest.raises(ConfigError, match="timeline"):
            load_manifest(f"motion:{wrong}")


def test_wrong_options_are_named():
    with pytest.raises(ConfigError, match=r"sampling\.fps"):
        dataset([row("a", 0.0, 1.0)], sampling=Sampling(num_frames=4))
    with pytest.raises(ConfigError, match="context"):
        dataset([row("a", 0.0, 1.0)], context=10)
