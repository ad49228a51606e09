"""What training says of uneven classes and of its best weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from videorwkv.data.manifest import Row, make_manifest
from videorwkv.inference.metrics import Evaluation, Scored
from videorwkv.training.loggers.jsonl import best_validation, describe_best
from videorwkv.training.monitor import Monitor
from videorwkv.training.setup import uneven_classes


def test_uneven_classes_are_said() -> None:
    def said(falls: int) -> str:
        rows = [Row(f"n{n}", "normal", "train") for n in range(94)]
        rows += [Row(f"f{n}", "fall", "train") for n in range(falls)]
        rows += [Row("v", "rare", "validation"), Row("t", None, "test")]
        return uneven_classes(make_manifest("m", rows, root=""))

    assert "from 6 training clips ('fall') to 94 ('normal'); always answering" in said(6)
    assert "would score about 0.94, so look at the mean class accuracy" in said(6)
    assert said(40) == ""


def test_the_best_weights_say_what_they_are(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    normal, fall = np.array([0.1, 0.9]), np.array([0.9, 0.1])

    def evaluation(*falls: np.ndarray) -> Evaluation:
        clips = [Scored(f"{n}", "normal", normal) for n in range(100)]
        clips += [Scored(f"f{n}", "fall", scores_K) for n, scores_K in enumerate(falls)]
        return Evaluation(("fall", "normal"), tuple(clips))

    assert best_validation(tmp_path) is None
    with Monitor(tmp_path, step=0, total_steps=3) as told:
        told.validation(1, evaluation(*[normal] * 6), best=True)
        told.validation(2, evaluation(*[normal] * 6), best=False)
        entry = best_validation(tmp_path)
        assert entry is not None
        text = describe_best(entry)
        told.validation(3, evaluation(*[fall] * 6), best=True)
    assert text.startswith("top-1 0.9434 (106 clips: 88 to 98 %), mean class accuracy 0.5000; pred")
    assert "predicts one class only: 'normal' for every clip" in text
    shown = capfd.readouterr().err
    # The same doubt is told once.
    assert shown.count("warning: predicts one class only") == 1
    assert "(best)" in shown
    best = best_validation(tmp_path)
    assert best is not None
    assert (
        describe_best(best) == "top-1 1.0000 (106 clips: 97 to 100 %), mean class accuracy 1.0000"
    )
    # Logs of before have no doubts.
    del best["doubt"]
    (tmp_path / "log.jsonl").write_text(json.dumps(best) + "\n")
    assert describe_best(best_validation(tmp_path) or {}).endswith("accuracy 1.0000")
