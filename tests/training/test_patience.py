"""What chooses `best`, when training ends early, and who is told of a validation."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from videorwkv.errors import ConfigError, UsageError
from videorwkv.inference.metrics import Evaluation
from videorwkv.training import trainer
from videorwkv.training.dry import dry_run
from videorwkv.training.loggers.jsonl import read_log
from videorwkv.training.loop import train
from videorwkv.training.monitor import Monitor


class _Scored:
    """An evaluation with other accuracies."""

    def __init__(self, real: Evaluation, top1: float, mean_class_accuracy: float) -> None:
        self.real, self.top1, self.mean_class_accuracy = real, top1, mean_class_accuracy

    @property
    def measures(self) -> dict[str, float]:
        return {
            **self.real.measures,
            "top1": self.top1,
            "mean_class_accuracy": self.mean_class_accuracy,
        }

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def scores(monkeypatch: pytest.MonkeyPatch, top1: list[float], mean: list[float]) -> None:
    """Validations with these accuracies, whatever the model."""
    real, given = trainer.evaluate, iter(zip(top1, mean, strict=True))

    def evaluate(*args: Any, **options: Any) -> Any:
        accuracy, by_class = next(given)
        return _Scored(real(*args, **options), accuracy, by_class)

    monkeypatch.setattr(trainer, "evaluate", evaluate)


def run(folder: Path, **changes: Any) -> Any:
    recipe = tiny.recipe(**{"steps": 6, "eval_every": 1, **changes})
    return train(recipe, tiny.manifest(), folder, quiet=True)


@pytest.mark.parametrize(("best_by", "bests"), [("top1", [1, 3]), ("mean_class_accuracy", [1, 2])])
def test_best_by_a_metric(
    best_by: str, bests: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores(monkeypatch, [0.2, 0.1, 0.5, 0.4], [0.3, 0.6, 0.5, 0.1])
    result = run(tmp_path / "run", steps=4, best_by=best_by)
    log = [e for e in read_log(tmp_path / "run/log.jsonl") if e["kind"] == "validation"]
    assert [entry["step"] for entry in log if entry["best"]] == bests
    # Top-1 of the weights that were chosen, whatever chose them.
    assert result.best_top1 == (0.5 if best_by == "top1" else 0.1)


def test_training_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores(monkeypatch, [0.2, 0.5, 0.4, 0.3, 0.9, 0.9], [0.0] * 6)
    result = run(tmp_path / "run", patience=2)
    assert (result.step, result.total_steps, result.interrupted) == (4, 6, False)
    assert result.best_top1 == 0.5


def test_patience_is_as_long_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores(monkeypatch, [0.5, 0.4, 0.3, 0.2, 0.1, 0.1], [0.0] * 6)

    def stop(step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    recipe, folder = tiny.recipe(steps=6, eval_every=1, patience=3), tmp_path / "run"
    train(recipe, tiny.manifest(), folder, quiet=True, on_step=stop)
    again: dict[str, Any] = {"resume": True, "quiet": True}
    assert train(recipe, tiny.manifest(), folder, **again).step == 4
    # It has ended: nothing more is done, unless there is more patience.
    assert train(None, tiny.manifest(), folder, **again).step == 4
    recipe = tiny.recipe(steps=6, eval_every=1, patience=4)
    assert train(recipe, tiny.manifest(), folder, **again).step == 5


def test_a_validation_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, Evaluation]] = []

    def on_validation(step: int, evaluation: Evaluation) -> None:
        assert (tmp_path / "run/last.safetensors").is_file()
        told.append((step, evaluation))

    recipe = tiny.recipe(steps=4, eval_every=2)
    train(recipe, tiny.manifest(), tmp_path / "run", quiet=True, on_validation=on_validation)
    assert [step for step, _ in told] == [2, 4]
    assert all(evaluation.n_total == 8 for _, evaluation in told)


def test_what_can_not_be() -> None:
    with pytest.raises(ConfigError, match=r"best_by 'top5'.*top1"):
        tiny.recipe(best_by="top5")
    with pytest.raises(ConfigError, match=r"patience \(-1\)"):
        tiny.recipe(patience=-1)


def test_patience_without_validations_is_refused(tmp_path: Path) -> None:
    rows = tuple(row for row in tiny.manifest().rows if row.split != "validation")
    manifest, recipe = replace(tiny.manifest(), rows=rows), tiny.recipe(patience=2)
    for begin in (lambda: train(recipe, manifest, tmp_path / "run"),
                  lambda: dry_run(recipe, manifest)):  # fmt: skip
        with pytest.raises(UsageError, match=r"patience \(2\) .* no labelled validation split"):
            begin()
    assert not (tmp_path / "run").exists()


def test_a_signal_amid_a_validation_loses_no_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = tiny.recipe(steps=2, eval_every=1), tmp_path / "run"
    told = Monitor.validation

    def validation(self: Monitor, step: int, evaluation: Evaluation, *, best: bool) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        told(self, step, evaluation, best=best)

    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "validation", validation)
        assert train(recipe, tiny.manifest(), folder, quiet=True).interrupted
    train(recipe, tiny.manifest(), folder, resume=True, quiet=True)
    train(recipe, tiny.manifest(), tmp_path / "whole", quiet=True)
    kept, wanted = (r / "best.safetensors" for r in (folder, tmp_path / "whole"))
    assert kept.read_bytes() == wanted.read_bytes()
    log, undisturbed = (
        [(e["step"], e["best"]) for e in read_log(r / "log.jsonl") if e["kind"] == "validation"]
        for r in (folder, tmp_path / "whole")
    )
    assert log == undisturbed


def test_patience_counts_a_validation_once_that_was_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores(monkeypatch, [0.5, 0.4, 0.4, 0.3, 0.2, 0.1], [0.0] * 6)

    def stop(step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    recipe, folder = tiny.recipe(steps=6, eval_every=1, patience=3), tmp_path / "run"
    train(recipe, tiny.manifest(), folder, quiet=True, on_step=stop)
    shutil.copy(folder / "state.pt", tmp_path / "state.pt")

    def killed(step: int, evaluation: Evaluation) -> None:
        raise ZeroDivisionError

    again: dict[str, Any] = {"resume": True, "quiet": True}
    with pytest.raises(ZeroDivisionError):
        train(recipe, tiny.manifest(), folder, on_validation=killed, **again)
    shutil.copy(tmp_path / "state.pt", folder / "state.pt")  # it died before the checkpoint
    train(recipe, tiny.manifest(), folder, on_validation=stop_after(2), **again)
    assert train(recipe, tiny.manifest(), folder, **again).step == 4


def stop_after(last: int) -> Any:
    """Interrupts a training after its validation at this step."""

    def on_validation(step: int, evaluation: Evaluation) -> None:
        if step == last:
            raise KeyboardInterrupt

    return on_validation
