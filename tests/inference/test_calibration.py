"""How far probabilities can be trusted, and from which one on a class is named."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

import videorwkv
from videorwkv.cli.main import main
from videorwkv.errors import CheckpointError, DataError, UsageError
from videorwkv.inference.calibration import (
    Calibration,
    Chosen,
    calibration_error,
    choose_threshold,
    fit_temperature,
    tempered,
)
from videorwkv.inference.predict import predict
from videorwkv.inference.recogniser import Recogniser, load_run
from videorwkv.inference.stream import stream
from videorwkv.video import Sampling


def two_classes(sure: list[float], right: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Clips of class 0, or of class 1 where the model is wrong about class 0."""
    scores_NK = np.array([[p, 1 - p] for p in sure])
    return scores_NK, np.array([0 if r else 1 for r in right])


def test_the_calibration_error_by_hand() -> None:
    # Bins of 1/15: (0.933, 1] holds .95 and 1.0, (0.6, 0.667] holds .65 and .61.
    scores_NK, truth_N = two_classes([0.95, 1.0, 0.65, 0.61], [1, 0, 1, 1])
    first = abs((0.95 + 1.0) - 1)
    second = abs((0.65 + 0.61) - 2)
    assert calibration_error(scores_NK, truth_N) == pytest.approx((first + second) / 4)
    # In one bin the two faults cancel in part.
    assert calibration_error(scores_NK, truth_N, bins=1) == pytest.approx(abs(3.21 - 3) / 4)
    assert calibration_error(*two_classes([1.0, 1.0], [1, 1])) == 0
    assert calibration_error(*two_classes([1.0], [0])) == 1
    assert math.isnan(calibration_error(np.zeros((0, 3)), np.zeros(0, int)))


def test_the_calibration_error_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(0)
    scores_NK = rng.dirichlet(np.full(5, 0.5), 300)
    truth_N = rng.integers(5, size=300)
    expected = 0.0
    for m in range(15):
        inside = [n for n in range(300) if m / 15 < scores_NK[n].max() <= (m + 1) / 15]
        if inside:
            sure = np.mean([scores_NK[n].max() for n in inside])
            right = np.mean([scores_NK[n].argmax() == truth_N[n] for n in inside])
            expected += len(inside) / 300 * abs(sure - right)
    assert calibration_error(scores_NK, truth_N) == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_scores_is_found(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits_NK = rng.normal(0, 2, (4000, 4))
    powers_NK = np.exp(logits_NK)
    true_NK = powers_NK / powers_NK.sum(1, keepdims=True)
    truth_N = np.array([rng.choice(4, p=row_K) for row_K in true_NK])
    # The model says too much, or too little, by that factor.
    powers_NK = np.exp(logits_NK * temperature)
    said_NK = powers_NK / powers_NK.sum(1, keepdims=True)
    found = fit_temperature(said_NK, truth_N)
    assert found == pytest.approx(temperature, rel=0.08)
    np.testing.assert_allclose(tempered(said_NK, temperature), true_NK, atol=1e-9)
    assert calibration_error(tempered(said_NK, found), truth_N) < 0.03


def test_the_threshold_keeps_what_was_asked_for() -> None:
    sure = [0.51, *np.linspace(0.6, 0.99, 19)]
    scores_NK, truth_N = two_classes([*sure, 0.97], [*[1] * 20, 0])
    for keep, at_least in ((0.95, 19), (1.0, 20), (0.5, 10)):
        threshold = choose_threshold(scores_NK, truth_N, keep)
        assert sum(p >= threshold for p in sure) == at_least
    with pytest.raises(DataError, match="No clip is recognised"):
        choose_threshold(*two_classes([0.9], [0]))


def chosen(labels: tuple[str, ...] = ("a", "b"), **changes: object) -> Calibration:
    scores_NK, truth_N = two_classes([0.95, 0.9, 0.65, 0.61, 0.8], [1, 0, 1, 1, 1])
    made = Calibration.choose(
        scores_NK, truth_N, labels=labels, weights_sha256="0" * 64, data={"name": "x"}
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_what_was_chosen_says_on_what() -> None:
    made = chosen()
    assert (made.clips, made.recognised, made.wrongly_named) == (5, 4, 1)
    assert "95% of the 4 recognised clips stay named" in made.summary()
    assert made.error_before == pytest.approx(0.242, abs=0.2)
    with pytest.raises(UsageError, match="threshold"):
        replace(made, threshold=1.5)
    with pytest.raises(ValueError, match="calibration"):
        Chosen.parse({"temperature": 0.0, "threshold": 0.5})


def test_a_background_class_needs_no_threshold() -> None:
    """What is never named is neither kept nor named wrongly."""
    scores_NK, truth_N = two_classes([0.95, 0.9, 0.65], [1, 1, 0])
    best_N = scores_NK.argmax(1)
    as_background = np.array([[0.3, 0.7]] * 4)
    more_NK = np.concatenate([np.where(best_N[:, None] == 0, scores_NK, scores_NK[:, ::-1]),
                              as_background])  # fmt: skip
    more_N = np.array([*np.where(truth_N == best_N, 0, 1), 1, 1, 1, 0])
    made = Calibration.choose(
        more_NK, more_N, labels=("a", "background"), weights_sha256="", data={}, keep=1.0
    )
    assert (made.clips, made.recognised, made.wrongly_named) == (7, 2, 0)
    fitted_NK = tempered(more_NK, made.temperature)
    assert made.threshold == pytest.approx(fitted_NK[1, 0], abs=1e-3)
    with pytest.raises(DataError, match="No clip is recognised"):
        Calibration.choose(
            as_background, more_N[-4:], labels=("a", "background"), weights_sha256="", data={}
        )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sampling = Sampling(num_frames=6, fps=8.0)
    return tiny.trained(tmp_path_factory.mktemp("runs") / "tiny", sampling=sampling)


def test_evaluate_chooses_and_the_others_go_by_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    before = predict(clip, model=run)[0]
    assert before.named
    for wrong, words in (
        (["--keep-recall=0.5"], "needs --choose-thresholds"),
        (["--choose-thresholds", "--keep-recall=0"], "--keep-recall 0"),
    ):
        assert main(["evaluate", str(run), tiny.MOTION, "--workers=0", *wrong]) == 2
        assert words in capsys.readouterr().err
    command = ["evaluate", str(run), tiny.MOTION, "--workers=0", f"--out={tmp_path / 'out'}"]
    assert main([*command, "--choose-thresholds", "--keep-recall=1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert 0 <= shown["calibration_error"] <= 1
    kept = Calibration.read(load_run(run))
    assert kept is not None
    assert shown["calibration"]["threshold"] == kept.threshold
    after = predict(clip, model=run)[0]
    np.testing.assert_allclose(
        sorted(after.scores), sorted(tempered(np.array(before.scores), 1.0)), atol=1.0
    )
    assert after.named == (after.score >= kept.threshold)
    with stream(run, clip, threshold=0.01) as predictions:
        told = [note for note in predictions.notes if "chosen for this model" in note]
    assert told == [f"temperature {kept.temperature:g}: chosen for this model"]
    with stream(run, clip) as predictions:
        assert any("chosen for this model" in note for note in predictions.notes)
        for one in predictions:
            assert (one.label is not None) <= (one.score >= kept.threshold / 2)
    # Above what any clip reaches: nothing is named, and it is said.
    replace(kept, threshold=1.0).save(load_run(run))
    assert not predict(clip, model=run)[0].named
    assert main(["predict", str(run), str(clip)]) == 0
    assert "no class is certain enough" in capsys.readouterr().out
    assert main(["stream", str(run), str(clip)]) == 0
    assert capsys.readouterr().out.split() == ["0.00", "s", "(no", "class)"]
    assert main([*command, "--choose-thresholds"]) == 0
    assert "Kept in" in capsys.readouterr().out


def test_a_model_of_a_run_brings_what_was_chosen(run: Path, tmp_path: Path) -> None:
    clip = tiny.write_clip(tmp_path / "clip.mp4")
    of = load_run(run)
    own = chosen(of.labels, temperature=2.0, threshold=0.99, weights_sha256=of.weights_sha256())
    path = own.save(of)
    try:
        (wanted,) = predict(clip, model=run)
        model = videorwkv.LCR.from_pretrained(run)
        assert predict(clip, model=model) == [wanted]
        assert not wanted.named
        for half in (False, True):
            copy = model.for_inference(half=half)
            assert Recogniser.open(copy, what="test").temperature == 2.0
        with torch.no_grad():
            model.head.bias += 0.01
        # Other weights than those that it was chosen for.
        for changed in (model, model.for_inference()):
            assert predict(clip, model=changed)[0].named
            assert Recogniser.open(changed, what="test").temperature == 1.0
    finally:
        path.unlink()


def test_a_threshold_of_something_else_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = Calibration.path(load_run(run))
    clip = str(tiny.write_clip(tmp_path / "clip.mp4"))
    own = chosen(load_run(run).labels)
    try:
        for wrong, words in ((own, "other weights"), (chosen(("x", "y")), "other classes")):
            wrong.save(load_run(run))
            with pytest.raises(CheckpointError, match=words):
                Recogniser.open(run, what="test")
        text = path.read_text()
        for broken in (text.replace("0.", "1.", 1), "{", '{"format": 9}'):
            path.write_text(broken)
            assert main(["predict", str(run), clip]) == 1
            assert "Choose again" in capsys.readouterr().err
        # Choosing again mends it.
        out = tmp_path / "out"
        command = ["evaluate", str(run), tiny.MOTION, "--workers=0", f"--out={out}"]
        assert main([*command, "--choose-thresholds"]) == 0
        assert main(["predict", str(run), clip]) == 0
    finally:
        path.unlink(missing_ok=True)
