"""Clips of several labels: loss, training, metrics, thresholds, and probabilities everywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from videorwkv.cli.main import main
from videorwkv.data import ClipDataset, Manifest, Row, load_manifest, make_loader
from videorwkv.data.manifest import join_labels
from videorwkv.data.shards.write import write_shards
from videorwkv.data.transforms import Augmentation
from videorwkv.errors import CheckpointError, ManifestError, UsageError
from videorwkv.inference.evaluate import evaluate
from videorwkv.inference.exported import open_exported
from videorwkv.inference.metrics import Scored
from videorwkv.inference.multilabel import (
    ClassThresholds,
    MultilabelEvaluation,
    average_precision,
    best_threshold,
)
from videorwkv.inference.predict import predict
from videorwkv.inference.recogniser import load_run
from videorwkv.inference.stream import stream
from videorwkv.inference.timeline.evaluate import evaluate_timeline
from videorwkv.models import LCR, LCRConfig
from videorwkv.models.scores import loss, probabilities
from videorwkv.training.loop import train
from videorwkv.training.setup import for_data
from videorwkv.video.base import Sampling

LABELS = ("a", "b", "c")


def manifest() -> Manifest:
    """Generated movements, each with a second label: whether it is along a row."""
    plain = tiny.manifest()
    sides = {"left", "right"}

    def label(row: Row) -> str:
        own = row.label or ""
        return join_labels([own, "sideways"] if sides & set(own.split("-")) else [own])

    rows = tuple(row._replace(label=label(row)) for row in plain.rows)
    labels = tuple(sorted({*plain.labels, "sideways"}))
    return replace(plain, rows=rows, labels=labels, multilabel=True, flips=None)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "several"
    train(tiny.recipe(steps=6, label_smoothing=0.1), manifest(), folder, quiet=True)
    return folder


def keep_thresholds(run: Path, found: MultilabelEvaluation) -> Path:
    of = load_run(run)
    return ClassThresholds.choose(found, weights_sha256=of.weights_sha256()).save(of)


def slow_average_precision(holds: list[bool], scores: list[float]) -> float:
    """The mean over its clips of the precision among all clips at or above each one's score."""
    precisions = []
    for own, score in zip(holds, scores, strict=True):
        if own:
            hits = [h for h, s in zip(holds, scores, strict=True) if s >= score]
            precisions.append(sum(hits) / len(hits) if np.isfinite(score) else 0.0)
    return sum(precisions) / len(precisions)


def test_average_precision() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 2, 5, 40):
        for _ in range(20):
            holds = rng.uniform(size=count) < 0.4
            holds[rng.integers(count)] = True
            scores = rng.integers(0, 6, size=count) / 6  # ties
            scores[rng.uniform(size=count) < 0.1] = -np.inf
            wanted = slow_average_precision(holds.tolist(), scores.tolist())
            assert average_precision(holds, scores) == pytest.approx(wanted)
    # Worked by hand: precisions 1/1 and 2/3.
    found = average_precision(np.array([True, False, True]), np.array([0.9, 0.5, 0.2]))
    assert found == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(average_precision(np.zeros(3, bool), np.ones(3)))


def test_best_threshold() -> None:
    rng = np.random.default_rng(2)
    for _ in range(30):
        holds, scores = rng.uniform(size=12) < 0.4, rng.integers(0, 9, size=12) / 9
        if not holds.any():
            continue

        def f1(at: float, holds: np.ndarray = holds, scores: np.ndarray = scores) -> float:
            found = scores >= at
            return 2 * (found & holds).sum() / max(1, found.sum() + holds.sum())

        best = max(f1(at) for at in np.linspace(0, 1, 200))
        assert f1(best_threshold(holds, scores)) == pytest.approx(best)
    assert best_threshold(np.zeros(3, bool), np.ones(3)) == 0.5


def evaluation(thresholds_K: np.ndarray | None = None) -> MultilabelEvaluation:
    clips = (
        Scored("1", "a|b", np.array([0.9, 0.2, 0.1])),
        Scored("2", "b", np.array([0.6, 0.8, 0.3])),
        Scored("3", "", np.array([0.1, 0.4, 0.2])),
        Scored("4", "a", None, "4: not a video"),
    )
    return MultilabelEvaluation(labels=LABELS, clips=clips, thresholds_K=thresholds_K)


def test_metrics_by_hand(tmp_path: Path) -> None:
    found = evaluation()
    # a: clip 1 is first (1/1), clip 4 is never found; b: first (1/1), then third (2/3).
    assert found.per_class == pytest.approx({"a": 0.5, "b": (1 + 2 / 3) / 2})
    assert found.mean_average_precision == pytest.approx((0.5 + 5 / 6) / 2)
    assert found.top1 == pytest.approx(2 / 4)  # clips 1 and 2; clip 3 has none
    # At 0.5: a is said of 1 and 2, and holds of 1 and 4; b is said of 2, and holds of 1 and 2.
    assert found.f1_K[:2].tolist() == pytest.approx([2 / 4, 2 / 3])
    shares = [0.9, 0.2, 1 - 0.1, 1 - 0.6, 0.8, 1 - 0.3, 1 - 0.1, 1 - 0.4, 1 - 0.2]
    assert found.loss == pytest.approx(-np.mean(np.log(shares)))
    assert found.chance == pytest.approx((2 / 4 + 2 / 4) / 2)
    assert (found.n_ok, found.n_total) == (3, 4)
    found.save(tmp_path, scores=True)
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    assert lines[1:] == [
        "1,a|b,a,0.9000,,0.900000,0.200000,0.100000",
        "2,b,a|b,0.8000,,0.600000,0.800000,0.300000",
        "3,,,0.4000,,0.100000,0.400000,0.200000",
        "4,a,,,4: not a video,,,",
    ]
    assert not (tmp_path / "confusion.csv").exists()
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["mean_average_precision"] == pytest.approx(found.mean_average_precision)
    assert written["multilabel"] is True
    assert "mAP" in found.summary()
    assert found.table().row_count == 2


def test_thresholds_are_used_and_kept(tmp_path: Path) -> None:
    found = evaluation(np.array([0.7, 0.1, 0.5]))
    assert found.above(np.array([0.6, 0.15, 0.5])) == "b|c"
    kept = ClassThresholds.choose(found, weights_sha256="0" * 64)
    # a: between 0.9 and 0.6; b: between 0.8 and 0.4, or 0.2 and 0: F1 2/3 and 4/5.
    assert kept.values_K.tolist() == pytest.approx([0.75, 0.1, 0.5])
    for wrong, words in (({"a": 0.5}, "very classes"), ({**kept.thresholds, "a": 2.0}, "outside")):
        with pytest.raises(UsageError, match=words):
            replace(kept, thresholds=wrong)


def test_thresholds_are_those_of_the_weights(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best, last = load_run(run / "best"), load_run(run / "last")
    clip = str(tiny.write_clip(tmp_path / "clip.mp4"))
    found = evaluate(best, manifest().split("validation"))
    assert isinstance(found, MultilabelEvaluation)
    every = dict.fromkeys(best.labels, 0.0)
    chosen = ClassThresholds.choose(found, weights_sha256=best.weights_sha256())
    path = replace(chosen, thresholds=every).save(best)
    try:
        assert set(predict(clip, model=best)[0].above or ()) == set(best.labels)
        # Of `last`, nothing was chosen.
        assert set(predict(clip, model=last)[0].above or ()) != set(best.labels)
        for wrong, words in (
            (replace(chosen, weights_sha256="0" * 64), "other weights than best.safetensors"),
            (replace(chosen, labels=("x",), thresholds={"x": 0.5}), "other classes"),
        ):
            wrong.save(best)
            assert main(["predict", str(run), clip]) == 1
            assert words in capsys.readouterr().err
        text = path.read_text()
        for broken in (text.replace('"x": 0.5', '"x": 0.6'), "{", "{}"):
            path.write_text(broken)
            with pytest.raises(CheckpointError, match=r"can't be read.*Choose again"):
                predict(clip, model=best)
        # What chooses again does not stumble over what it replaces.
        evaluate(best, manifest().split("validation"), calibrated=False)
    finally:
        path.unlink()


def test_a_model_of_a_run_brings_its_thresholds(run: Path, tmp_path: Path) -> None:
    clip = str(tiny.write_clip(tmp_path / "clip.mp4"))
    found = evaluate(run, manifest().split("validation"))
    assert isinstance(found, MultilabelEvaluation)
    model = LCR.from_pretrained(run)
    usual = predict(clip, model=model)[0].above
    path = keep_thresholds(run, found)
    try:
        assert predict(clip, model=model)[0].above == predict(clip, model=run)[0].above != usual
    finally:
        path.unlink()


def test_loss_and_its_gradient() -> None:
    config = LCRConfig(num_classes=3, multilabel=True)
    logits_NK = torch.tensor([[0.3, -1.0, 2.0], [0.0, 0.5, -0.5]], requires_grad=True)
    targets_NK = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    share_NK = logits_NK.sigmoid()
    wanted = -(targets_NK * share_NK.log() + (1 - targets_NK) * (1 - share_NK).log()).mean()
    found = loss(logits_NK, targets_NK, config)
    assert torch.allclose(found, wanted)
    (gradient_NK,) = torch.autograd.grad(found, logits_NK)
    assert torch.allclose(gradient_NK, (share_NK - targets_NK) / 6, atol=1e-7)
    assert torch.allclose(loss(logits_NK, targets_NK, config, reduction="sum"), 2 * wanted)
    assert torch.equal(probabilities(logits_NK, config), share_NK)
    plain = replace(config, multilabel=False)
    assert torch.allclose(probabilities(logits_NK, plain).sum(-1), torch.ones(2))


def test_targets_of_samples_and_batches() -> None:
    data = manifest()
    split = data.split("train")
    dataset = ClipDataset(split, sampling=Sampling(num_frames=2), size=16)
    for workers in (0, 1):
        loader = make_loader(dataset, batch_size=4, workers=workers)
        batch = next(iter(loader))
        loader.close()
        assert batch.labels.dtype == torch.float32
        for row, target_K in zip(split.rows, batch.labels.tolist(), strict=False):
            held = {label for label, one in zip(data.labels, target_K, strict=True) if one}
            assert held == set(split.labels_of(row))
    target = data.target(None)
    assert isinstance(target, np.ndarray)
    assert (target == -1).all()


def test_a_flip_swaps_each_label() -> None:
    data = tiny.manifest()
    labels = ("left", "person", "right")
    rows = (data.rows[0]._replace(label="left|person"),)
    flips = {"left": "right", "right": "left", "person": "person"}
    flipped = Manifest(
        name="x", rows=rows, labels=labels, flips=flips, opener=data.opener, multilabel=True
    )
    always = Augmentation(flip_probability=1.0)
    dataset = ClipDataset(flipped, sampling=Sampling(num_frames=2), size=16, augmentation=always)
    assert dataset[0].label.tolist() == [0, 1, 1]  # type: ignore[union-attr]


def test_training_and_what_the_run_says(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((run / "config.json").read_text())
    assert config["recipe"]["model"]["multilabel"] is True
    assert config["recipe"]["label_smoothing"] == 0
    assert config["recipe"]["best_by"] == "mean_average_precision"
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    checks = [entry for entry in log if entry["kind"] == "validation"]
    best = [entry for entry in checks if entry["best"]][-1]
    assert best["mean_average_precision"] == max(e["mean_average_precision"] for e in checks)
    found = evaluate(run, manifest().split("validation"))
    assert isinstance(found, MultilabelEvaluation)
    assert found.mean_average_precision == pytest.approx(best["mean_average_precision"])


def test_the_same_probabilities_everywhere(run: Path, tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    sampling = Sampling(num_frames=8)
    (one,) = predict(clip, model=run, sampling=sampling, top=99)
    found = dict(zip(one.labels, one.scores, strict=True))
    assert abs(sum(found.values()) - 1) > 0.01  # no softmax
    own = Manifest(
        name="own", rows=(Row(str(clip), "sideways"),), labels=manifest().labels, multilabel=True
    )
    evaluated = evaluate(run, own, sampling=sampling).clips[0].scores_K
    assert evaluated is not None
    assert [found[label] for label in own.labels] == pytest.approx(evaluated.tolist(), abs=1e-6)
    with stream(run, str(clip), smooth=0, top=99, device="cpu", fps=25) as frames:
        last = list(frames)[-1]
    assert dict(zip(last.labels, last.scores, strict=True)) == pytest.approx(found, abs=1e-4)
    assert last.above == one.above == tuple(x for x in one.labels if found[x] >= 0.5)


def test_chosen_thresholds_are_taken(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    (before,) = predict(clip, model=run)
    found = evaluate(run, manifest().split("validation"))
    assert isinstance(found, MultilabelEvaluation)
    path = keep_thresholds(run, found)
    try:
        limits = dict(zip(found.labels, found.best_thresholds_K.tolist(), strict=True))
        (after,) = predict(clip, model=run, top=99)
        wanted = tuple(
            label
            for label, score in zip(after.labels, after.scores, strict=True)
            if score >= limits[label]
        )
        assert after.above == wanted
        assert before.scores == after.scores[:5]
        again = evaluate(run, manifest().split("validation"))
        assert isinstance(again, MultilabelEvaluation)
        assert again.mean_f1 >= found.mean_f1
    finally:
        path.unlink()


def test_other_names_keep_the_thresholds(run: Path, tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    found = evaluate(run, manifest().split("validation"))
    assert isinstance(found, MultilabelEvaluation)
    path = keep_thresholds(run, found)
    try:
        (own,) = predict(clip, model=run)
        (other,) = predict(clip, model=run, labels=[label.upper() for label in found.labels])
    finally:
        path.unlink()
    assert own.above is not None
    assert other.above == tuple(label.upper() for label in own.above)


def test_segments_of_several_classes_may_overlap(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = str(tiny.write_clip(tmp_path / "clip.mp4"))
    options = ["--timeline", "--json", "--threshold=0.01", "--min-length=0", "--smooth=0"]
    assert main(["predict", str(run), clip, *options]) == 0
    found = json.loads(capsys.readouterr().out)["segments"]
    # At so low a threshold every class holds all the time.
    assert {one["label"] for one in found} == set(manifest().labels)
    assert len({(one["start"], one["end"]) for one in found}) == 1
    assert main(["stream", str(run), clip, *options]) == 0
    live = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["label"] for one in live} == set(manifest().labels)


def test_timelines_are_scored_for_one_class_at_a_time(run: Path) -> None:
    with pytest.raises(UsageError, match="its clips have several labels"):
        evaluate_timeline(run, manifest())
    with pytest.raises(UsageError, match="the model answers with several"):
        evaluate_timeline(run, replace(tiny.manifest(), flips=None), labels=manifest().labels)


def test_an_exported_file(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from videorwkv.exporting import export

    found = evaluate(run, manifest().split("validation"))
    assert isinstance(found, MultilabelEvaluation)
    path, wanted = keep_thresholds(run, found), found.best_thresholds_K
    try:
        file = export(run, tmp_path / "step.onnx").path
    finally:
        path.unlink()
    exported = open_exported(file)
    assert exported.config.multilabel
    assert exported.thresholds_K is not None
    assert exported.thresholds_K.tolist() == wanted.tolist()
    about = json.loads(Path(f"{file}.json").read_text())
    assert (about["activation"], about["thresholds"]) == ("sigmoid", wanted.tolist())
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    (one,), (other,) = predict(clip, model=run, top=99), predict(clip, model=file, top=99)
    pairs = dict(zip(one.labels, one.scores, strict=True))
    assert dict(zip(other.labels, other.scores, strict=True)) == pytest.approx(pairs, abs=1e-3)


def test_transformers(run: Path) -> None:
    pytest.importorskip("transformers")
    from videorwkv.inference.transformers import LCRForVideoClassification

    model = LCRForVideoClassification.from_run(run)
    assert model.config.problem_type == "multi_label_classification"
    pixels = torch.zeros(2, 3, 3, 32, 32, dtype=torch.uint8)
    edges = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    targets = torch.zeros(2, len(manifest().labels), dtype=torch.int64)
    output = model(pixel_values=pixels, edge_values=edges, labels=targets)
    wanted = -torch.log(1 - output.logits.sigmoid()).mean()
    assert torch.allclose(output.loss, wanted, atol=1e-6)


def test_what_has_no_meaning_is_refused(run: Path, tmp_path: Path) -> None:
    data = manifest()
    for name, value in (("class_weights", "balanced"), ("clip_sampling", "balanced")):
        with pytest.raises(UsageError, match=f"{name}=balanced .* have several"):
            for_data(tiny.recipe(**{name: value}), data)
    with pytest.raises(UsageError, match="best_by=mean_average_precision is for clips with sev"):
        for_data(tiny.recipe(best_by="mean_average_precision"), tiny.manifest())
    with pytest.raises(UsageError, match="its clips have several labels, and shards keep one"):
        write_shards(replace(data, opener=None), tmp_path / "shards")
    plain = tiny.trained(tmp_path / "plain", steps=1, eval_every=1)
    with pytest.raises((UsageError, ManifestError), match=r"several labels|unknown label"):
        evaluate(plain, data.split("validation"))
    several = replace(data, labels=tiny.manifest().labels, rows=tuple(
        row._replace(label="|".join(tiny.manifest().labels[:2])) for row in data.rows))  # fmt: skip
    with pytest.raises(UsageError, match="its clips have several labels"):
        evaluate(plain, several.split("validation"))


def test_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = manifest().labels
    rows = ""
    for number in range(6):
        tiny.write_clip(tmp_path / f"{number}.mp4", level=number)
        rows += f"{number}.mp4,{names[0]}|{names[number % 3 + 1]}\n"
    path = tmp_path / "clips.csv"
    path.write_text(f"path,label\n{rows}")
    data = load_manifest(path)
    assert data.held_out
    assert data.splits == ("train", "validation")
    assert main(["evaluate", str(run), str(path), "--split", "all", "--choose-thresholds",
                 "--workers", "0", "--out", str(tmp_path / "out")]) == 0  # fmt: skip
    try:
        said = capsys.readouterr()
        assert "mAP" in said.out
        assert "thresholds with the best F1 here are kept in" in said.out
        assert "thresholds chosen on the all split are too good for it" in said.err
        assert load_run(run).recipe.model.multilabel
        assert main(["predict", str(run), str(tmp_path / "0.mp4")]) == 0
        assert main(["evaluate", str(run), str(path), "--split", "all", "--baselines"]) == 2
        assert "they name one class a clip" in capsys.readouterr().err
    finally:
        (run / "thresholds-best.json").unlink(missing_ok=True)
