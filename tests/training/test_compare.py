"""A trained model beside baselines without a network."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from videorwkv.cli.main import main
from videorwkv.data import Manifest, Row
from videorwkv.inference.baselines import Baseline, baselines
from videorwkv.training import compare
from videorwkv.training.loggers.jsonl import read_log
from videorwkv.training.loop import train
from videorwkv.training.monitor import Monitor

TRAIN = ["train", tiny.MOTION, *tiny.OPTIONS, "--steps=2"]


def entries(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [entry for entry in read_log(folder / "log.jsonl") if entry["kind"] == kind]


def scores(monkeypatch: pytest.MonkeyPatch, ridge: float) -> None:
    """Make the only baseline as good as this."""
    found = [Baseline("motion map", 0.0, ridge)]
    monkeypatch.setattr(compare, "baselines", lambda *arguments, **options: found)


def test_they_are_scored_once_and_touch_no_weight(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    without = tiny.trained(tmp_path / "without")
    manifest = tiny.manifest()
    result = train(tiny.recipe(), manifest, tmp_path / "run", baselines=True)
    for name in ("best.safetensors", "last.safetensors"):
        assert (without / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    assert not entries(without, "baselines")
    train_split, validation = manifest.split("train"), manifest.split("validation")
    assert result.baselines == tuple(baselines(train_split, validation))
    shown = capfd.readouterr().err
    assert f"model best {result.best_top1:.4f} (8 clips: " in shown
    for baseline in result.baselines:
        assert baseline.summary() in shown
    (entry,) = entries(tmp_path / "run", "baselines")
    assert (entry["step"], entry["train"], entry["validation"]) == (4, 20, 8)

    def opener(row: Row) -> Any:
        raise AssertionError(f"{row.path} was opened again")

    watched = replace(manifest, opener=opener)
    again = train(None, watched, tmp_path / "run", resume=True, baselines=True, quiet=True)
    assert again.baselines == result.baselines
    assert entries(tmp_path / "run", "baselines") == [entry]


PERFECT = "The model and the best baseline (motion map, 1.0000) are both perfect"
TIE = "The model is no better than the best baseline (motion map, {:.4f}): it has"
CLOSE = "no better than the best baseline (motion map, {:.4f}), as one of 8 clips is no difference"
WORSE = "The model is worse than the best baseline (motion map, {:.4f}) by 2 of 8 clips: it has"


@pytest.mark.parametrize(
    ("top1", "ridge", "verdict"),
    [
        (1.0, 1.0, PERFECT),
        (0.5, 0.5, TIE),
        (0.5, 0.625, CLOSE),
        (1.0, 0.875, CLOSE),
        (0.875, 1.0, CLOSE),
        (0.5, 0.75, WORSE),
        (0.75, 0.5, ""),
    ],
)
def test_a_model_that_does_not_beat_them_is_no_success(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    top1: float,
    ridge: float,
    verdict: str,
) -> None:
    scores(monkeypatch, ridge)
    manifest = tiny.manifest()
    (tmp_path / "log.jsonl").touch()
    for _ in range(2):  # the second time as a run that was resumed after its end
        with Monitor(tmp_path, step=1, total_steps=1) as monitor:
            compare.compare(
                manifest, manifest.split("validation"), monitor, step=1, best_top1=top1,
                unreadable=(), clip_timeout=0.0, quiet=True,
            )  # fmt: skip
        shown = capfd.readouterr().err
        assert verdict.format(ridge) in shown
        assert ("The model" in shown) == bool(verdict)
        assert ("train anew with more --steps and another --out" in shown) == (
            verdict not in (PERFECT, "")
        )


def test_large_splits_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare, "TRAIN_LIMIT", 8)
    monkeypatch.setattr(compare, "VALIDATION_LIMIT", 4)
    train(tiny.recipe(steps=1), tiny.manifest(), tmp_path / "run", baselines=True)
    (entry,) = entries(tmp_path / "run", "baselines")
    assert (entry["train"], entry["validation"]) == (8, 4)
    told = "from 8 of 20 training clips and are scored on 4 of 8 validation clips"
    assert told in capfd.readouterr().err


def test_without_validation_clips_there_is_nothing_to_compare_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = tiny.manifest()
    rows = tuple(row for row in whole.rows if row.split != "validation")
    manifest = replace(whole, rows=rows)
    result = train(tiny.recipe(steps=1), manifest, tmp_path / "run", baselines=True)
    assert result.baselines == ()
    assert not entries(tmp_path / "run", "baselines")
    assert "evaluate RUN DATA --split test --baselines` does it" in capfd.readouterr().err


def test_unreadable_validation_clips_do_not_end_the_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for label in "ab":
        for n in range(3):
            tiny.write_clip(tmp_path / "clips" / "train" / label / f"{n}.mp4", level=20 * n)
        broken = tmp_path / "clips" / "validation" / label / "broken.mp4"
        broken.parent.mkdir(parents=True)
        broken.write_text("no video")
    arguments = ["train", str(tmp_path / "clips"), "--out", str(tmp_path / "run"), *tiny.OPTIONS]
    assert main([*arguments, "--steps=1"]) == 0
    shown = capfd.readouterr()
    assert "not compared with baselines" in shown.err
    assert "best baseline" not in shown.out


def test_ctrl_c_while_they_are_scored_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(train: Manifest, *arguments: Any, **options: Any) -> list[Baseline]:
        os.kill(os.getpid(), signal.SIGINT)
        return baselines(train, *arguments, **options)

    whole = tiny.trained(tmp_path / "whole", steps=2)
    monkeypatch.setattr(compare, "baselines", interrupted)
    run = tmp_path / "run"
    result = train(tiny.recipe(steps=2), tiny.manifest(), run, baselines=True)
    assert (result.interrupted, result.step, result.baselines) == (True, 2, ())
    assert "is complete without them" in capfd.readouterr().err
    monkeypatch.undo()
    result = train(None, tiny.manifest(), run, resume=True, baselines=True, quiet=True)
    assert not result.interrupted
    assert len(entries(run, "baselines")) == 1
    for name in ("best.safetensors", "last.safetensors"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    scores(monkeypatch, 0.75)
    assert main([*TRAIN, "--quiet", "--out", str(tmp_path / "a")]) == 0
    shown = capfd.readouterr()
    assert shown.out.splitlines()[-1].endswith(", best baseline 0.7500 (motion map)")
    assert len(shown.out.splitlines()) == 1
    assert not shown.err
    assert main([*TRAIN, "--no-baselines", "--out", str(tmp_path / "b")]) == 0
    shown = capfd.readouterr()
    assert "baseline" not in shown.out + shown.err
    assert not entries(tmp_path / "b", "baselines")
