from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from videorwkv.data import Manifest, Row
from videorwkv.errors import DataError, ManifestError, NonFiniteError, UsageError
from videorwkv.inference.evaluate import evaluate
from videorwkv.inference.metrics import Evaluation, Scored
from videorwkv.inference.plots import save_confusion
from videorwkv.inference.recogniser import load_run
from videorwkv.video import open_video
from videorwkv.video.writer import write_video

LABELS = ("a", "b", "c", "d", "e", "f", "g")


def scored(label: str, *best: str) -> Scored:
    """A clip whose classes are ranked as given."""
    scores_K = np.full(7, 0.01)
    for place, name in enumerate(best):
        scores_K[LABELS.index(name)] = 0.5 / 2**place
    return Scored(f"{label}.mp4", label, scores_K / scores_K.sum())


@pytest.fixture
def evaluation() -> Evaluation:
    clips = (
        scored("a", "a"),
        scored("a", "b", "a"),
        scored("a", "a"),
        scored("b", "c", "d", "e", "f", "g"),  # sixth: not even among five
        Scored("broken.mp4", "c", None, "broken.mp4: not a video"),
        scored("c", "c"),
    )
    return Evaluation(LABELS, clips)


def test_metrics_by_hand(evaluation: Evaluation) -> None:
    assert (evaluation.n_ok, evaluation.n_total) == (5, 6)
    assert evaluation.top1 == pytest.approx(3 / 6)  # the unreadable clip is wrong
    assert evaluation.top(2) == evaluation.top5 == pytest.approx(4 / 6)
    assert evaluation.per_class == pytest.approx({"a": 2 / 3, "b": 0.0, "c": 1 / 2})
    assert evaluation.mean_class_accuracy == pytest.approx((2 / 3 + 0 + 1 / 2) / 3)
    expected_KK = np.zeros((7, 7), int)
    expected_KK[0, 0], expected_KK[0, 1], expected_KK[1, 2], expected_KK[2, 2] = 2, 1, 1, 1
    np.testing.assert_array_equal(evaluation.confusion_KK, expected_KK)


def test_an_unreadable_clip_is_wrong_at_every_rank(evaluation: Evaluation) -> None:
    for k in (len(LABELS), len(LABELS) + 6, 1000):
        assert evaluation.top(k) == pytest.approx(5 / 6)


def test_loss_by_hand() -> None:
    clips = tuple(
        Scored("x", "a", np.array([p, 1 - p])) for p in (0.5, 0.25)
    )  # fmt: skip
    assert Evaluation(("a", "b"), clips).loss == pytest.approx((np.log(2) + np.log(4)) / 2)


def test_a_tie_counts_as_argmax_breaks_it() -> None:
    tie = np.array([0.5, 0.5])
    assert Evaluation(("a", "b"), (Scored("x", "a", tie),)).top1 == 1.0
    assert Evaluation(("a", "b"), (Scored("x", "b", tie),)).top1 == 0.0


def test_saved_files_say_the_same(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.save(tmp_path / "out")
    values = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert values["top1"] == evaluation.top1
    assert values["n_ok"] == 5
    assert values["unreadable"] == [{"path": "broken.mp4", "reason": "broken.mp4: not a video"}]
    with (tmp_path / "out/confusion.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][1:] == [*LABELS, "unreadable"]
    # Every row adds up to the clips of its class.
    assert [sum(map(int, row[1:])) for row in rows[1:]] == [3, 1, 2, 0, 0, 0, 0]
    with (tmp_path / "out/predictions.csv").open(newline="") as file:
        predicted = [row["predicted"] for row in csv.DictReader(file)]
    assert predicted == ["a", "b", "a", "c", "", "c"]
    assert (tmp_path / "out/confusion.png").stat().st_size > 1000


def test_names_that_are_no_utf8_are_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xe9.mp4")
    Evaluation(("a",), (Scored(name, "a", None, f"{name}: broken"),)).save(tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text())["unreadable"][0]["path"] == name
    assert r"\udce9.mp4" in (tmp_path / "predictions.csv").read_text()


@pytest.mark.parametrize("num_classes", [2, 20, 61, 400])
def test_confusion_picture_stays_readable(num_classes: int, tmp_path: Path) -> None:
    path = tmp_path / "confusion.png"
    labels = [f"class {k} with a rather long name, 手" for k in range(num_classes)]
    save_confusion(path, np.eye(num_classes, dtype=np.int64), labels)
    with open_video(path.parent) as video:
        height, width = video.read_all().frames_THWC.shape[1:3]
    assert 300 < height < 2500
    assert 300 < width < 2500


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.trained(tmp_path_factory.mktemp("runs") / "tiny")


def test_scores_are_the_mean_over_views(run: Path) -> None:
    test = tiny.manifest().split("test")
    loaded = load_run(run)
    model, size = loaded.model(), loaded.recipe.model.image_size
    evaluation = evaluate(loaded, test, views=(2, 1), batch_size=3)
    assert evaluation.views == (2, 1)
    row = test.rows[5]
    with test.open(row) as video:
        assert video.read([0]).frames_THWC.shape[1] == size
        clips = [video.sample(3, view=view, num_views=2) for view in range(2)]
    with torch.inference_mode():
        each = [model(model.preprocess(clip))[0].softmax(-1).numpy() for clip in clips]
    assert not np.allclose(each[0], each[1])
    scores_K = evaluation.clips[5].scores_K
    assert scores_K is not None
    np.testing.assert_allclose(scores_K, np.mean(each, axis=0), atol=1e-6)


def test_batch_size_and_workers_change_nothing(run: Path) -> None:
    test = tiny.manifest().split("test")
    one = evaluate(run, test, batch_size=1)
    many = evaluate(run, test, batch_size=5, workers=1)
    for a, b in zip(one.clips, many.clips, strict=True):
        assert a.path == b.path
        np.testing.assert_allclose(a.scores_K, b.scores_K, atol=1e-6)


def test_labels_go_by_name_and_unreadable_clips_count(run: Path, tmp_path: Path) -> None:
    rows = (
        Row(str(tiny.write_clip(tmp_path / "fine.mp4")), "up"),
        Row(str(tmp_path / "missing.mp4"), "left"),
        Row(str(tiny.write_clip(tmp_path / "free.mp4")), None),
    )
    evaluation = evaluate(run, Manifest(name="own", rows=rows, labels=("left", "up")))
    assert (evaluation.n_ok, evaluation.n_total, evaluation.n_unlabelled) == (1, 2, 1)
    assert evaluation.labels == tiny.manifest().labels
    assert [clip.label for clip in evaluation.clips] == ["up", "left"]
    assert "missing.mp4" in evaluation.bad[0].reason
    assert evaluation.per_class["left"] == 0.0


def test_a_label_that_the_run_does_not_know(run: Path) -> None:
    manifest = Manifest(name="own", rows=(Row("x.mp4", "upp"),), labels=("upp",))
    with pytest.raises(ManifestError, match="Did you mean 'up'"):
        evaluate(run, manifest)


def test_as_many_labels_as_classes(run: Path) -> None:
    with pytest.raises(UsageError, match="2 labels for a model of 8 classes"):
        evaluate(load_run(run).model(), tiny.manifest().split("test"), labels=["a", "b"])


def test_no_label_at_all(run: Path) -> None:
    manifest = Manifest(name="own", rows=(Row("x.mp4", None),), labels=())
    with pytest.raises(DataError, match="carries a label"):
        evaluate(run, manifest)


def test_scores_that_are_none_end_it_with_the_layer(run: Path) -> None:
    model = load_run(run).model()
    with torch.no_grad():
        model.layers[0].output.weight.fill_(float("inf"))
    with pytest.raises(NonFiniteError, match=r"'layers\.0\.output\.weight'"):
        evaluate(model, tiny.manifest().split("test"))


def test_the_model_is_left_in_its_mode(run: Path) -> None:
    model = load_run(run).model()
    test = tiny.manifest().split("test")
    few = replace(test, rows=test.rows[:2])
    evaluate(model.train(), few, tiny.recipe().sampling)
    assert model.training
    evaluate(model.eval(), few, tiny.recipe().sampling)
    assert not model.training


def test_missing_split_is_named() -> None:
    with pytest.raises(UsageError, match="no split 'validatoin'"):
        tiny.manifest().split("validatoin")


def test_clips_too_short_for_their_views_are_told(run: Path, tmp_path: Path) -> None:
    rows = (Row(str(tiny.write_clip(tmp_path / "short.mp4", frames=2)), "up"),)
    manifest = Manifest(name="own", rows=rows, labels=("up",))
    evaluation = evaluate(run, manifest, views=(3, 1))
    assert any("too short for 3 temporal views" in text for text in evaluation.warnings)
    assert not any("too short" in text for text in evaluate(run, manifest).warnings)


def test_tube_mask_on_request(tmp_path: Path) -> None:
    run = load_run(tiny.trained(tmp_path / "run"))
    test = tiny.manifest().split("test")
    full, masked = (evaluate(run, test, tube_mask_ratio=ratio) for ratio in (0.0, 0.75))
    assert masked.tube_mask_ratio == 0.75
    assert "75% masked" in masked.summary()
    assert "masked" not in full.summary()
    scores = [
        np.stack([c.scores_K for c in e.clips if c.scores_K is not None]) for e in (full, masked)
    ]
    assert not np.allclose(scores[0], scores[1])
    again = evaluate(run, test, tube_mask_ratio=0.75)
    assert [c.scores_K.tolist() for c in again.clips] == [c.scores_K.tolist() for c in masked.clips]
    with pytest.raises(UsageError, match=r"tube_mask_ratio is 1\.5"):
        evaluate(run, test, tube_mask_ratio=1.5)


def test_every_accuracy_says_how_many_clips_it_rests_on() -> None:
    right = tuple(Scored(f"{n}.mp4", "a", np.array([0.9, 0.1])) for n in range(8))
    evaluation = Evaluation(("a", "b"), right)
    assert "top-1 1.0000 (8 clips: 63 to 100 %), mean class" in evaluation.summary()
    assert evaluation.to_dict()["top1_interval"] == pytest.approx([0.6306, 1.0], abs=1e-4)
    # One class on both sides says nothing about others.
    assert (evaluation.only_class, evaluation.warning()) == (None, "")


def test_top5_is_left_out_of_five_classes_or_fewer(evaluation: Evaluation) -> None:
    assert "top-5 0.6667" in evaluation.summary()
    assert evaluation.to_dict()["top5"] == evaluation.top5
    five = Evaluation(LABELS[:5], (Scored("x", "a", np.full(5, 0.2)),))
    assert "top-5" not in five.summary()
    assert five.to_dict()["top5"] is None


def test_a_model_that_knows_one_class_only_is_told() -> None:
    normal = np.array([0.1, 0.9])
    clips = tuple(
        Scored(f"{n}.mp4", "fall" if n < 6 else "normal", normal) for n in range(106)
    )  # fmt: skip
    evaluation = Evaluation(("fall", "normal"), clips)
    assert evaluation.only_class == "normal"
    assert "predicts one class only: 'normal' for every clip" in evaluation.warning()
    assert "scores 0.9434" in evaluation.warning()
    assert (evaluation.mean_class_accuracy, evaluation.to_dict()["only_class"]) == (0.5, "normal")
    # One fall is found, and one normal clip lost.
    seen = list(clips)
    seen[0], seen[50] = (clip._replace(scores_K=normal[::-1]) for clip in (clips[0], clips[50]))
    assert (
        "no better than always answering" in Evaluation(("fall", "normal"), tuple(seen)).warning()
    )
    seen[50] = clips[50]
    assert Evaluation(("fall", "normal"), tuple(seen)).warning() == ""


def test_scores_of_every_class_are_written(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.save(tmp_path, scores=True)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for row, clip in zip(rows, evaluation.clips, strict=True):
        columns = [row[f"score of {label}"] for label in LABELS]
        if clip.scores_K is None:
            assert columns == [""] * 7
        else:
            assert [float(x) for x in columns] == pytest.approx(clip.scores_K, abs=1e-6)


def test_sides_that_are_cut_off_are_told(run: Path, tmp_path: Path) -> None:
    rows = []
    for width in (72, 48, 96):
        frames_THWC = np.zeros((4, 48, width, 3), np.uint8)
        write_video(tmp_path / f"{width}.mp4", frames_THWC, 12)
        rows.append(Row(str(tmp_path / f"{width}.mp4"), "up"))
    manifest = Manifest(name="own", rows=tuple(rows), labels=("up",))
    told = evaluate(run, manifest, views=(1, 1)).warnings
    assert len(told) == 1
    assert "the sides of 2 of 3 clips are cut off, such as" in told[0]
    assert "72.mp4: of 72x48 pixels the centred square, 67%, is seen" in told[0]
    assert not any("cut off" in text for text in evaluate(run, manifest, views=(1, 3)).warnings)
