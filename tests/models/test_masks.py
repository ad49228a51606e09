"""Masks as options: what `evaluate` and `predict` do with them, and what an exported file can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from videorwkv.cli.main import main
from videorwkv.errors import UsageError
from videorwkv.inference.evaluate import evaluate
from videorwkv.inference.exported import ExportedModel
from videorwkv.inference.predict import predict
from videorwkv.inference.recogniser import load_run
from videorwkv.models.masking import Masks
from videorwkv.video import open_video

RATIOS = ("tube_mask_ratio", "motion_mask_ratio")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.trained(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.mark.parametrize("name", RATIOS)
def test_scores_are_those_of_the_model_under_the_mask(run: Path, tmp_path: Path, name: str) -> None:
    clips = [tiny.write_clip(tmp_path / f"{k}.mp4", level=30 * k) for k in range(2)]
    model = load_run(run).model()
    asked: dict[str, Any] = {name: 0.5}
    expected = []
    with torch.inference_mode():
        for clip in clips:
            generator = torch.Generator().manual_seed(0)
            with open_video(clip) as video:
                inputs = model.preprocess(video.sample(3))
            state = model.init_state(1, generator=generator, **asked)
            expected.append(model.scan(inputs, state)[0][0, -1].softmax(-1).numpy())
    found = predict(clips, model=run, top=8, **asked)
    full = predict(clips, model=run, top=8)
    # The second video's mask does not depend on the first.
    for prediction, whole, scores_K in zip(found, full, expected, strict=True):
        np.testing.assert_allclose(prediction.scores, np.sort(scores_K)[::-1], atol=1e-6)
        assert not np.allclose(prediction.scores, whole.scores, atol=1e-5)


def test_a_motion_mask_on_request(run: Path) -> None:
    test = tiny.manifest().split("test")
    masked = evaluate(run, test, motion_mask_ratio=0.75, batch_size=3)
    assert masked.to_dict()["motion_mask_ratio"] == 0.75
    assert masked.to_dict()["tube_mask_ratio"] == 0
    assert "75% masked by motion" in masked.summary()
    scores = [
        np.stack([c.scores_K for c in e.clips if c.scores_K is not None])
        for e in (
            masked,
            evaluate(run, test, motion_mask_ratio=0.75),
            evaluate(run, test),
            evaluate(run, test, tube_mask_ratio=0.75),
        )
    ]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)  # no clip depends on its batch
    assert not np.allclose(scores[0], scores[2])
    assert not np.allclose(scores[0], scores[3])


def test_wrong_masks_end_it_before_the_first_video(run: Path) -> None:
    for name in RATIOS:
        for ratio in (-0.1, 1.0):
            asked: dict[str, Any] = {name: ratio}
            with pytest.raises(UsageError, match=rf"{name} is {ratio}; it must lie in \[0, 1\)"):
                predict("missing.mp4", model=run, **asked)
    with pytest.raises(UsageError, match="exclude each other"):
        evaluate(run, tiny.manifest(), tube_mask_ratio=0.5, motion_mask_ratio=0.5)


def test_an_exported_file_keeps_to_its_own_mask(run: Path) -> None:
    file = ExportedModel.__new__(ExportedModel)  # without its runtime
    torch.nn.Module.__init__(file)
    file.path, file.metadata = Path("step.onnx"), {"tube_mask_ratio": 0.5}
    assert file.resolve_masks(Masks()) == Masks(tube_mask_ratio=0.5)
    assert file.resolve_masks(Masks(tube_mask_ratio=0.5)) == Masks(tube_mask_ratio=0.5)
    with pytest.raises(UsageError, match=r"was exported with 0\.5.*--tube-mask 0\.25"):
        file.resolve_masks(Masks(tube_mask_ratio=0.25))
    with pytest.raises(UsageError, match=r"can't choose patches.*run's folder"):
        file.resolve_masks(Masks(motion_mask_ratio=0.5))


def test_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(run), tiny.MOTION, "--workers=0", f"--out={tmp_path}"]
    assert main([*arguments, "--motion-mask=0.5"]) == 0
    assert "50% masked by motion" in capsys.readouterr().out
    assert json.loads((tmp_path / "evaluation.json").read_text())["motion_mask_ratio"] == 0.5
    clip = str(tiny.write_clip(tmp_path / "clip.mp4"))
    scores = []
    for options in ([], ["--tube-mask=0.5"], ["--motion-mask=0.5"]):
        assert main(["predict", str(run), clip, "--json", *options]) == 0
        scores.append(json.loads(capsys.readouterr().out)["scores"][0])
    assert len(set(scores)) == 3
    submission = ["--submission", str(tmp_path / "answers.csv"), "--workers=0"]
    tables = []
    for options in ([], ["--motion-mask=0.5"]):
        assert main(["predict", str(run), tiny.MOTION, *submission, *options]) == 0
        tables.append((tmp_path / "answers.csv").read_text())
    assert tables[0] != tables[1]
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(run), clip, "--tube-mask=0.5", "--motion-mask=0.5"])
    assert ended.value.code == 2
    assert main(["predict", str(run), clip, "--motion-mask=1.5"]) == 2
    assert "must lie in [0, 1)" in capsys.readouterr().err
