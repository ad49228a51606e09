from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from videorwkv.inference.metrics import Evaluation
from videorwkv.training import monitor
from videorwkv.training.loggers.jsonl import best_validation, describe_best, read_log
from videorwkv.training.monitor import Monitor


class Clock:
    """Stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(monitor, "time", made)
    return made


def take_steps(told: Monitor, clock: Clock, steps: range, *, waited: float) -> None:
    """Steps of one second and four clips each."""
    for step in steps:
        clock.now += 1
        told.step(
            step, epoch=0, lr=0.1, grad_norm=1, loss=2, correct=1, clips=4, waited=waited
        )  # fmt: skip


def test_waiting_for_data_is_said_plainly(
    tmp_path: Path, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    with Monitor(tmp_path, step=0, total_steps=200) as told:
        take_steps(told, clock, range(1, 101), waited=0.03)
        clock.now += 50
        told.validation(100, Evaluation(("a",), ()), best=False)
        take_steps(told, clock, range(101, 201), waited=0.25)
        told.validation(200, Evaluation(("a",), ()), best=True)
    lines = [line for line in capfd.readouterr().err.splitlines() if "validation" in line]
    # The validation's 50 seconds are no part of it.
    assert lines[0].endswith("; training 4.0 clips/s")
    assert lines[1].endswith("(best); training 4.0 clips/s, 25% of it waiting for data")
    steps = [entry for entry in read_log(tmp_path / "log.jsonl") if entry["kind"] == "step"]
    assert [entry["waiting"] for entry in steps[::100]] == [0.03, 0.25]


def test_a_loader_that_starves_the_model_is_told_once(
    tmp_path: Path, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    with Monitor(tmp_path, step=0, total_steps=1000) as told:
        clock.now += 1000
        take_steps(told, clock, range(1, 2), waited=1000)  # workers start
        take_steps(told, clock, range(2, 101), waited=0.3)
        assert "--workers" not in capfd.readouterr().err
        take_steps(told, clock, range(101, 301), waited=0.5)
        shown = capfd.readouterr().err
    assert shown.count("waits for data") == 1
    for advice in ("--workers", "--cache", "data bench"):
        assert shown.count(advice) == 1


def test_few_of_many_bad_clips_are_named_in_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Monitor(tmp_path, step=0, total_steps=5) as told:
        for number in range(50):
            told.bad_clip(1, f"{number}.mp4", f"{number}.mp4: no video in it")
        told.bad_clips(5, 50, 60)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "unreadable: 0.mp4: no video in it"
    assert len(lines) == 22
    assert "More clips" in lines[20]
    assert lines[21].startswith("50 of 60 clips could not be read")
    log = read_log(tmp_path / "log.jsonl")
    assert [e["path"] for e in log if e["kind"] == "bad_clip"] == [f"{n}.mp4" for n in range(50)]
    assert (log[-1]["kind"], log[-1]["count"], log[-1]["of"]) == ("bad_clips", 50, 60)
    assert log[-1]["list"] == str(tmp_path / "log.jsonl")


def test_names_that_are_no_utf8_are_logged(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xe9.mp4")
    for _ in range(2):  # the second takes over what the first has written
        with Monitor(tmp_path, step=5, total_steps=5, quiet=True) as told:
            told.bad_clip(1, name, f"{name}: no video in it")
    assert [entry["path"] for entry in read_log(tmp_path / "log.jsonl")] == [name, name]


def test_how_long_it_takes_is_said_after_the_first_step_and_ever_more_rarely(
    tmp_path: Path, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    with Monitor(tmp_path, step=40, total_steps=340) as told:
        for step in range(41, 341):
            clock.now += 39
            take_steps(told, clock, range(step, step + 1), waited=0)
    lines = [line for line in capfd.readouterr().err.splitlines() if "about" in line]
    assert lines[0] == (
        "The first step took 40 s, starting up included: at most about 3 h 19 min for the 299 that "
        "are left."
    )
    assert lines[1] == "step 42 of 340: about 3 h 19 min left"
    assert lines[2] == "step 44 of 340: about 3 h 17 min left"
    assert len(lines) == 24  # every 10 minutes at last, and none in the last minute


def test_a_validation_is_one_short_line(
    tmp_path: Path, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    with Monitor(tmp_path, step=0, total_steps=100_000) as told:
        take_steps(told, clock, range(1, 2), waited=0.9)
        told.validation(1, Evaluation(("a",), ()), best=True)
    (line,) = (x for x in capfd.readouterr().err.splitlines() if "validation" in x)
    assert len(line) < 110


WHOLE = {"kind": "validation", "step": 2, "loss": 0.5, "top1": 0.25, "mean_class_accuracy": 0.5,
         "n_ok": 8, "n_total": 8, "best": True}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [{"best": None}, {"best": "no"}, {"n_total": None}, {"n_total": 0}, {"n_total": "8"},
     {"mean_class_accuracy": None}, {"top1": 7}, {"doubt": 3}],
)  # fmt: skip
def test_the_best_validation_is_a_whole_one(changes: dict[str, object], tmp_path: Path) -> None:
    entry = {**WHOLE, "step": 3, **changes}
    odd = {name: value for name, value in entry.items() if value is not None}
    lines = [json.dumps(entry) + "\n" for entry in (WHOLE, odd)]
    (tmp_path / "log.jsonl").write_text("".join(lines), encoding="utf-8")
    found = best_validation(tmp_path)
    assert found == WHOLE
    assert describe_best(found).startswith("top-1 0.2500 (8 clips")
