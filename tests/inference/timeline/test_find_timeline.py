"""Timelines of videos and data sets with a tiny model, whose weights are random."""

from __future__ import annotations

import argparse
import csv
import json
import math
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import videorwkv
from videorwkv.cli.main import main
from videorwkv.cli.options import DATA_OPTIONS
from videorwkv.cli.train import next_commands
from videorwkv.data import Manifest, load_manifest
from videorwkv.data.background import BACKGROUND
from videorwkv.data.manifest import Row
from videorwkv.data.timeline import ActionSegment
from videorwkv.errors import CheckpointError, DataError, DecodeError, ManifestError, UsageError
from videorwkv.inference.recogniser import Recogniser, load_run
from videorwkv.inference.stream import StreamOptions
from videorwkv.inference.timeline.choose import TimelineChoice
from videorwkv.inference.timeline.evaluate import evaluate_timeline
from videorwkv.inference.timeline.find import FrameScores, find_timeline, frame_scores, timeline
from videorwkv.inference.timeline.segments import TimelineOptions
from videorwkv.models import LCRConfig, build_model
from videorwkv.video import Sampling, Segment, open_video
from videorwkv.video.array import ArrayVideo
from videorwkv.video.writer import write_video

LABELS = ("a", BACKGROUND, "c")
EAGER = TimelineOptions(threshold=0.34, smooth=0, min_length=0, merge=0)
FPS = 10.0


def recogniser(cell: str = "gated") -> Recogniser:
    torch.manual_seed(0)
    config = LCRConfig(
        image_size=16, patch_size=8, width=16, head_width=8, depth=1, num_classes=3, cell=cell
    )
    model = build_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    sampling = Sampling(num_frames=8, fps=5.0)
    return Recogniser.open(model.eval(), what="test", labels=LABELS, sampling=sampling)


def noise(frames: int = 60, seed: int = 0) -> ArrayVideo:
    rng = np.random.default_rng(seed)
    frames_THWC = np.repeat(rng.integers(0, 256, (-(-frames // 7), 24, 32, 3), np.uint8), 7, 0)
    return ArrayVideo("noise", frames_THWC[:frames], np.arange(frames) / FPS)


@pytest.mark.parametrize("cell", ["gated", "none"])
def test_scores_are_those_of_one_scan_of_all_frames(cell: str):
    model = recogniser(cell)
    found = list(frame_scores(model, noise(), StreamOptions(reset_every=0)))
    assert [one.time for one in found] == pytest.approx(np.arange(30) / 5.0)
    frames_THWC = noise().read_all().frames_THWC[::2]
    inputs = model.network.preprocess(frames_THWC)
    expected_TK = model.scan(inputs, "noise", torch.Generator())[0].softmax(-1).numpy()
    # Pieces of other lengths sum in another order.
    np.testing.assert_allclose([one.scores_K for one in found], expected_TK, atol=2e-6)


def test_the_state_begins_anew_where_the_source_pauses_and_where_a_cell_can_not_forget():
    model = recogniser()
    gappy = ArrayVideo(
        "gappy", noise(40).read_all().frames_THWC, np.r_[np.arange(20), 200 + np.arange(20)] / FPS
    )
    found = list(frame_scores(model, gappy, StreamOptions()))
    resets = [one.time for one in found if one.reset]
    assert resets == [20.0]
    second = ArrayVideo("second", gappy.read_all().frames_THWC[20:], np.arange(20) / FPS)
    alone = list(frame_scores(model, second, StreamOptions()))
    behind = [one for one in found if one.time >= 20]
    np.testing.assert_allclose(
        [one.scores_K for one in behind], [one.scores_K for one in alone], atol=2e-6
    )
    assert not any(one.reset for one in frame_scores(model, noise(), StreamOptions()))
    forgetful = list(frame_scores(recogniser("none"), noise(), StreamOptions()))
    # After the eight frames of a training clip, 1.6 s.
    assert [one.time for one in forgetful if one.reset] == pytest.approx([1.6, 3.2, 4.8])


def test_a_timeline_of_a_video():
    model = recogniser()
    found = find_timeline(model, noise(), StreamOptions(), EAGER)
    assert found.seconds == pytest.approx(6.0)
    assert found.segments
    names = {s.label for s in found.segments}
    assert names <= {"a", "c"}
    one = find_timeline(model, noise(1), StreamOptions(), EAGER)
    assert one.seconds == pytest.approx(0.2)


def films(truth: list[Row], **options: object) -> Manifest:
    labels = sorted({row.label for row in truth if row.label is not None})
    return Manifest(name="films", rows=tuple(truth), labels=tuple(labels), **options)


class Opener:
    """60 frames for every path but `gone`, which no file has."""

    def __call__(self, row: Row) -> object:
        return open_video("/nowhere/gone.mp4") if row.path == "gone" else noise()


def oracle(path_to_scores: dict[str, list[tuple[float, str]]]):
    """Scores that name what they are told, from a time on."""

    def scorer(model: Recogniser, video: ArrayVideo, options: StreamOptions):
        changes = path_to_scores[video.name]
        for time in np.arange(30) / 5.0:
            label = [name for start, name in changes if start <= time][-1]
            scores_K = np.array([0.9 if name == label else 0.05 for name in LABELS])
            yield FrameScores(float(time), scores_K, False)

    return scorer


ROWS = [
    Row("noise", "a", segment=Segment(1.0, 3.0)),
    Row("noise", "c", segment=Segment(4.0, 5.0)),
]


def test_an_evaluation_by_hand():
    says = oracle({"noise": [(0.0, BACKGROUND), (1.0, "a"), (2.6, "c"), (3.6, BACKGROUND)]})
    options = TimelineOptions(smooth=0, min_length=0, merge=0)
    found = evaluate_timeline(
        recogniser(), films(ROWS, opener=Opener()), options=options, scorer=says
    )
    (video,) = found.videos
    assert [s[:3] for s in video.found] == [
        (pytest.approx(1.0), pytest.approx(2.6), "a"),
        (pytest.approx(2.6), pytest.approx(3.6), "c"),
    ]
    # a: IoU 0.8; c: none, which is a false alarm.
    assert found.f1_50 == pytest.approx(0.5)
    assert found.mean_average_precision(0.7) == pytest.approx(0.5)
    assert found.mean_average_precision(0.9) == pytest.approx(0.0)
    assert found.point_mean_average_precision(1.0) == pytest.approx(0.5)
    assert found.point_mean_average_precision(2.0) == pytest.approx(1.0)
    assert found.edit == 1.0
    assert found.false_alarms == 1
    assert found.false_alarms_in_10_minutes == pytest.approx(100)
    # 30 frames: of a's 10 two are called c, of c's 5 none is found, of 15 others 3 are called c.
    assert found.top1 == pytest.approx(20 / 30)
    assert found.mean_class_accuracy == pytest.approx((8 / 10 + 0 + 12 / 15) / 3)
    assert found.loss == pytest.approx(-(20 * math.log(0.9) + 10 * math.log(0.05)) / 30)
    assert found.per_class["a"]["segments"] == 1
    assert found.per_class["c"]["false_alarms"] == 1
    assert set(found.measures) >= {"loss", "f1_50", "top1"}
    json.dumps(found.to_dict(), allow_nan=False)
    assert "F1@50 0.5000" in found.summary()
    assert found.warning() == ""


def test_a_file_that_can_not_be_read_counts_as_one_without_findings():
    says = oracle({"noise": [(0.0, BACKGROUND), (1.0, "a"), (3.0, BACKGROUND), (4.0, "c")]})
    rows = [*ROWS, Row("gone", "a", segment=Segment(0.0, 1.0))]
    found = evaluate_timeline(recogniser(), films(rows, opener=Opener()), scorer=says)
    assert (found.n_ok, found.n_total) == (1, 2)
    assert "no such file" in found.bad[0].reason
    assert found.per_class["a"]["segments"] == 2
    assert found.f1_50 == pytest.approx(2 * 2 / (2 + 3))
    assert found.edit == pytest.approx(0.5)


def test_nothing_to_find_and_nothing_found(tmp_path: Path):
    quiet = oracle({"noise": [(0.0, BACKGROUND)]})
    nothing = films([Row("noise", BACKGROUND)], opener=Opener())
    found = evaluate_timeline(recogniser(), nothing, scorer=quiet)
    assert (found.f1_50, found.edit, found.false_alarms, found.top1) == (1, 1, 0, 1)
    assert "no segment was found" in found.warning()
    assert "mAP -" in found.summary()
    found.table()
    found.save(tmp_path)
    json.loads((tmp_path / "timeline.json").read_text(), parse_constant=pytest.fail)
    loud = oracle({"noise": [(0.0, "a")]})
    found = evaluate_timeline(recogniser(), nothing, scorer=loud)
    assert (found.f1_50, found.edit, found.false_alarms, found.top1) == (0, 0, 1, 0)
    assert "nothing could be missed" in found.warning()


def test_a_model_without_a_background_is_scored_as_well():
    model = replace(recogniser(), labels=("a", "b", "c"))
    found = evaluate_timeline(model, films(ROWS, opener=Opener()), options=EAGER)
    assert found.labels == ("a", "b", "c", BACKGROUND)
    assert found.confusion_KK.sum() == 30


def test_what_can_not_be_compared_is_named():
    unknown = films([Row("noise", "jump", line=4, segment=Segment(0, 1))], opener=Opener())
    with pytest.raises(ManifestError, match=r"line 4\): unknown label 'jump'"):
        evaluate_timeline(recogniser(), unknown)
    with pytest.raises(DataError, match="none of its 1 clips carries a label"):
        evaluate_timeline(recogniser(), films([Row("noise", None)], opener=Opener()))
    two = films([ROWS[0]._replace(split="train"), ROWS[1]], opener=Opener())
    with pytest.raises(ManifestError, match="another one in"):
        evaluate_timeline(recogniser(), two)


def test_segments_of_frames_and_without_a_label():
    says = oracle({"noise": [(0.0, "c"), (1.0, "a"), (3.0, BACKGROUND)]})
    rows = [
        Row("noise", "a", segment=Segment(10, 30, True)),
        Row("noise", None, segment=Segment(0.0, 1.0)),
    ]
    data = films(rows, opener=Opener())
    found = evaluate_timeline(recogniser(), data, scorer=says, options=EAGER)
    assert found.videos[0].truth == (ActionSegment(1.0, 3.0, "a"),)
    # Of the first second nothing is known.
    assert found.confusion_KK.sum() == 25
    assert found.top1 == 1.0


# -- the command line ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with load_manifest("motion:timeline=10,train=1,size=32").opener(  # type: ignore[misc]
        load_manifest("motion:timeline=10,train=1,size=32").rows[0]
    ) as video:
        write_video(path, video.read_all().frames_THWC, 8)
    return path


def test_predict_writes_each_form(film: Path, run: Path, tmp_path: Path, capsys):
    options = ["--threshold", "0.12", "--min-length", "0", "--smooth", "0"]
    command = ["predict", str(run), str(film), "--timeline"]
    assert main([*command, *options]) == 0
    shown = capsys.readouterr().out
    assert "film.mp4: " in shown
    assert " in 10.0 s" in shown
    for suffix in ("json", "csv", "vtt", "eaf"):
        target = tmp_path / f"found.{suffix}"
        assert main([*command, str(target), *options]) == 0
        assert target.is_file()
    # What was found can be learnt from and scored.
    data = load_manifest(str(tmp_path / "found.csv"))
    values = json.loads((tmp_path / "found.json").read_text())["timelines"][0]
    assert len(data.rows) == len(values["segments"]) > 0
    assert data.rows[0].segment is not None
    capsys.readouterr()
    assert main(["predict", str(run), str(film), "--json", "--timeline", *options]) == 0
    assert json.loads(capsys.readouterr().out)["segments"] == values["segments"]


def test_a_stream_finds_what_predict_finds(film: Path, run: Path, tmp_path: Path, capsys):
    options = ["--threshold", "0.12", "--smooth", "0.2", "--merge", "0.3", "--min-length", "0.4"]
    assert main(["predict", str(run), str(film), "--json", "--timeline", *options]) == 0
    expected = json.loads(capsys.readouterr().out)["segments"]
    assert expected
    command = ["stream", str(run), str(film)]
    for suffix in ("json", "csv", "vtt", "eaf"):
        target = tmp_path / f"live.{suffix}"
        assert main([*command, "--json", "--timeline", str(target), *options]) == 0
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert {one.pop("source") for one in found} == {str(film)}
        found.sort(key=lambda one: one["start"])
        assert [one["label"] for one in found] == [one["label"] for one in expected]
        for one, other in zip(found, expected, strict=True):
            for name in ("start", "end", "score"):  # the stream smooths in float32
                assert one[name] == pytest.approx(other[name], abs=2e-3)
    assert len(load_manifest(str(tmp_path / "live.csv")).rows) == len(expected)
    values = json.loads((tmp_path / "live.json").read_text())["timelines"]
    assert len(values[0]["segments"]) == len(expected)
    assert (tmp_path / "live.vtt").read_text().count("-->") == len(expected)
    assert main([*command, "--timeline", *options]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(expected)
    # Two sources side by side.
    other = tmp_path / "other.mp4"
    other.write_bytes(film.read_bytes())
    both = ["stream", str(run), str(film), str(other), "--json", "--timeline", *options]
    assert main(both) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum("start" in one for one in found) == 2 * len(expected)


def test_threshold_and_lag_are_chosen_by_f1():
    """The model is right, 0.4 s late and never surer than 0.6; what it says of `c` below 0.5 is
    wrong."""
    late = [(0.0, BACKGROUND), (1.4, "a"), (3.4, BACKGROUND), (4.4, "c"), (5.4, BACKGROUND)]

    def scorer(model: Recogniser, video: ArrayVideo, options: StreamOptions):
        for time in np.arange(30) / 5.0:
            label = [name for start, name in late if start <= time][-1]
            sure = 0.45 if time < 1.2 else 0.6
            label = "c" if time < 1.2 else label
            rest = (1 - sure) / 2
            scores_K = np.array([sure if name == label else rest for name in LABELS])
            yield FrameScores(float(time), scores_K, False)

    kept: dict[str, list[FrameScores]] = {}
    films_ = films(ROWS, opener=Opener())
    usual = TimelineOptions(smooth=0, threshold=0.95)
    first = evaluate_timeline(recogniser(), films_, options=usual, scorer=scorer, kept=kept)
    assert not any(first.found)
    options = {"labels": LABELS, "weights_sha256": "", "temperature": 1.0}
    chosen = TimelineChoice.choose(first, kept, given={"smooth": 0.0}, **options)
    assert (chosen.options.threshold, chosen.options.smooth) == (0.5, 0.0)
    assert chosen.options.lag == pytest.approx(0.4)
    assert (chosen.f1_50, chosen.false_alarms) == (1.0, 0)
    again = evaluate_timeline(recogniser(), films_, options=chosen.options, scorer=scorer)
    assert again.f1(0.5) == 1.0
    fixed = TimelineChoice.choose(
        first, kept, given={"smooth": 0.0, "threshold": 0.4, "lag": 0.0}, **options
    )
    assert (fixed.options.threshold, fixed.options.lag, fixed.false_alarms) == (0.4, 0.0, 1)
    with pytest.raises(DataError, match="at most 0 false alarms in 10 minutes: the fewest are 1"):
        TimelineChoice.choose(
            first, kept, given={"smooth": 0.0, "threshold": 0.4}, most_alarms=0, **options
        )
    quiet = TimelineChoice.choose(first, kept, given={"smooth": 0.0}, most_alarms=0, **options)
    assert quiet.false_alarms == 0
    with pytest.raises(DataError, match="No segment is found rightly at any threshold"):
        TimelineChoice.choose(first, {}, given={}, **options)

    # What is said of a film that breaks off counts no more than in an evaluation.
    def breaks_off(model: Recogniser, video: ArrayVideo, options: StreamOptions):
        yield from scorer(model, video, options)
        raise DecodeError("noise: it breaks off.")

    kept = {}
    broken = evaluate_timeline(recogniser(), films_, scorer=breaks_off, kept=kept)
    assert broken.n_ok == 0
    with pytest.raises(DataError, match="at any threshold"):
        TimelineChoice.choose(broken, kept, given={}, **options)


def test_what_was_chosen_is_used(film: Path, run: Path, tmp_path: Path, capsys):
    of = load_run(run)
    options = TimelineOptions(threshold=0.12, smooth=0.2, min_length=0.4, merge=0.3, lag=0.1)
    chosen = TimelineChoice(
        labels=of.labels, weights_sha256=of.weights_sha256(), data={}, options=options,
        temperature=1.0, f1_50=1.0, false_alarms=0, minutes=1.0,
    )  # fmt: skip
    (wanted,) = timeline(film, model=run, options=options)
    assert wanted.segments
    path = chosen.save(of)
    try:
        for model in (run, videorwkv.LCR.from_pretrained(run)):
            (found,) = timeline(film, model=model)
            assert [s[:3] for s in found.segments] == [s[:3] for s in wanted.segments]
        for command in ("predict", "stream"):
            assert main([command, str(run), str(film), "--timeline"]) == 0
            told = capsys.readouterr()
            assert "threshold 0.12, lag 0.1 s: chosen for this model" in told.err
            assert sum(" s  " in line for line in told.out.splitlines()) == len(wanted.segments)
        assert main(["predict", str(run), str(film), "--timeline", "--threshold=1"]) == 0
        assert "0 segments" in capsys.readouterr().out
        replace(chosen, temperature=2.0).save(of)
        assert main(["stream", str(run), str(film), "--timeline"]) == 1
        assert "was chosen at temperature 2, and that of the run is 1" in capsys.readouterr().err
        # Clips have nothing to do with it, and what chooses anew neither.
        assert main(["predict", str(run), str(film)]) == 0
        out, data = f"--out={tmp_path}", "motion:timeline=10,train=3,validation=1,test=0,size=32"
        command = ["evaluate", str(run), data, out, "--timeline", "--choose-thresholds"]
        assert main(command) in (0, 1)  # random weights may find nothing
        assert "temperature" not in capsys.readouterr().err
        assert main([*command[:-1], "--max-false-alarms=1"]) == 2
        assert "needs --timeline and --choose-thresholds" in capsys.readouterr().err
        assert main([*command, "--max-false-alarms=-1"]) == 2
        assert "(-1) must be at least 0" in capsys.readouterr().err
    finally:
        path.unlink()


def test_an_exported_file_carries_what_was_chosen(
    film: Path, tiny_run: Path, onnx_file: Path, tmp_path: Path, capsys
):
    of = load_run(tiny_run)
    assert videorwkv.open_exported(onnx_file).timeline is None
    options = TimelineOptions(threshold=0.12, smooth=0.2, min_length=0.4, merge=0.3, lag=0.1)
    chosen = TimelineChoice(
        labels=of.labels, weights_sha256=of.weights_sha256(), data={}, options=options,
        temperature=1.0, f1_50=1.0, false_alarms=0, minutes=1.0,
    )  # fmt: skip
    (wanted,) = timeline(film, model=tiny_run, options=options)
    path = chosen.save(of)
    try:
        file = videorwkv.export(tiny_run, tmp_path / "step.onnx").path
        replace(chosen, temperature=2.0).save(of)
        with pytest.raises(CheckpointError, match="was chosen at temperature 2"):
            videorwkv.export(tiny_run, tmp_path / "other.onnx")
    finally:
        path.unlink()
    # What the run has now is nothing to a file that was written before.
    assert videorwkv.open_exported(file).timeline == options
    about = json.loads(file.with_name("step.onnx.json").read_text())
    assert about["timeline"] == vars(options)
    (found,) = timeline(film, model=file)
    assert [s[:3] for s in found.segments] == [s[:3] for s in wanted.segments]
    for command in ("predict", "stream"):
        assert main([command, str(file), str(film), "--timeline"]) == 0
        told = capsys.readouterr()
        assert "threshold 0.12, lag 0.1 s: chosen for this model" in told.err
        assert sum(" s  " in line for line in told.out.splitlines()) == len(wanted.segments)
    assert main(["predict", str(file), str(film), "--timeline", "--threshold=1"]) == 0
    assert "0 segments" in capsys.readouterr().out
    data = "motion:timeline=10,train=1,validation=1,test=0,size=32"
    assert main(["evaluate", str(file), data, f"--out={tmp_path}", "--timeline", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["options"] == vars(options)


def test_a_cache_keeps_whole_files(
    film: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    listing, cache = tmp_path / "films.csv", tmp_path / "cache"
    listing.write_text(f"path,label,start,end,split\n{film},left,0.5,1.5,train\n")
    prepare = ["data", "prepare", str(listing), "--cache", str(cache), "--size=32", "--workers=1"]
    assert main(prepare) == 0
    assert "`train --timeline` reads whole files: --timeline" in capsys.readouterr().out
    assert main([*prepare, "--timeline"]) == 0
    shown = capsys.readouterr().out
    assert "cached: 1 clip now" in shown
    assert "--timeline" in shown.splitlines()[-1]
    out = ["--split=train", f"--out={tmp_path / 'out'}"]
    command = ["evaluate", str(run), str(listing), "--timeline", *out]
    monkeypatch.setattr(Manifest, "open", lambda *_: pytest.fail("it was decoded again"))
    assert main([*command, "--cache", str(cache)]) == 0
    for entry in cache.glob("*.rgb"):
        entry.write_bytes(b"")
    assert main([*command, "--cache", str(cache)]) == 1
    assert "Cache entry" in capsys.readouterr().err


def test_the_commands_that_are_named_after_a_training():
    options = argparse.Namespace(data="films.csv", out="runs/when", **dict.fromkeys(DATA_OPTIONS))
    options.cache, options.frame_rate = "frames", 8
    lines = next_commands(options, ("train", "validation"), timeline=True)
    said = [line.partition("  #")[0].split() for line in lines]
    assert said[0] == shlex.split(
        "videorwkv evaluate runs/when films.csv --frame-rate 8 --cache frames --timeline"
    )
    assert all(words[-1] == "--timeline" for words in said[:3])
    plain = next_commands(options, ("train", "validation"))
    assert "--cache frames" in plain[0]
    assert "--timeline" not in " ".join(plain)


def test_wrong_options_of_stream(film: Path, run: Path, capsys):
    for words, message in (
        (["--merge", "1"], "--merge needs --timeline"),
        (["--timeline", "--json", "--top", "2"], "--top does not go with --timeline"),
        (["--timeline", "a.srt"], "unknown ending '.srt'"),
        (["--timeline", str(film)], "is one of the videos that are read"),
        (["--timeline", "/nowhere/a.csv"], "it can't be written"),
    ):
        assert main(["stream", str(run), str(film), *words]) == 2
        assert message in " ".join(capsys.readouterr().err.split())


def test_a_bad_file_among_good_ones(film: Path, run: Path, tmp_path: Path, capsys):
    (tmp_path / "bad.mp4").write_text("hello\n")
    target = tmp_path / "found.csv"
    command = ["predict", str(run), str(tmp_path / "bad.mp4"), str(film), "--timeline", str(target)]
    assert main(command) == 1
    shown = capsys.readouterr()
    assert "bad.mp4" in shown.err
    assert "film.mp4: " in shown.out
    with target.open() as file:
        assert {row["path"] for row in csv.DictReader(file)} <= {str(film)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--timeline", "a.txt"], "unknown ending '.txt'"),
        (["--timeline", "--views", "2"], "--views does not go with --timeline"),
        (["--timeline", "--submission", "a.csv"], "--submission does not go"),
        (["--timeline", "--threshold", "0"], "threshold (0.0) must lie in (0, 1]"),
        (["--merge", "1"], "--merge needs --timeline"),
        (["--fps", "4"], "--fps needs --timeline"),
    ],
)
def test_wrong_options_of_predict(film: Path, run: Path, capsys, words: list[str], message: str):
    assert main(["predict", str(run), str(film), *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_evaluate(run: Path, tmp_path: Path, capsys):
    data = "motion:timeline=10,train=3,validation=2,test=1,size=32"
    out = tmp_path / "scores"
    command = ["evaluate", str(run), data, "--timeline", "--out", str(out)]
    assert main([*command, "--split", "test", "--threshold", "0.12"]) == 0
    shown = capsys.readouterr().out
    assert "F1@50" in shown
    assert "false alarm" in shown
    values = json.loads((out / "timeline.json").read_text())
    assert values["n_total"] == 1
    assert set(values["f1"]) == {"10", "25", "50"}
    assert (out / "segments.csv").is_file()
    assert (out / "confusion.csv").is_file()
    assert main([*command, "--split", "test", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["minutes"] == pytest.approx(1 / 6)
    assert main([*command, "--views", "2"]) == 2
    assert "does not go with --timeline" in capsys.readouterr().err
    assert main(["evaluate", str(run), data, "--merge", "2"]) == 2


def test_a_timeline_is_for_files(run: Path):
    with pytest.raises(UsageError, match="No file matches"):
        timeline("nothing*.mp4", model=run)
