from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file

from videorwkv.cli.main import main
from videorwkv.errors import CheckpointError, UsageError
from videorwkv.training.loggers import LoggedRun, choose, scalars
from videorwkv.training.loggers.jsonl import read_log
from videorwkv.training.loggers.known import KNOWN_FILE, Known, read_known, write_known
from videorwkv.training.loop import train


class Own:
    """A logger of a user's own, which keeps what it is told."""

    def __init__(self, *, fails: str = "", times: int = 1000, found: str = "abc") -> None:
        self.fails, self.times, self.found = fails, times, found
        self.begun: list[LoggedRun] = []
        self.entries: list[Mapping[str, Any]] = []
        self.ended: list[bool] = []

    def _maybe_fail(self, method: str) -> None:
        if method == self.fails and self.times > 0:
            self.times -= 1
            raise RuntimeError(f"no network in {method}\nand more of it")

    def begin(self, run: LoggedRun) -> str:
        self.begun.append(run)
        self._maybe_fail("begin")
        return self.found

    def log(self, entry: Mapping[str, Any]) -> None:
        self.entries.append(entry)
        self._maybe_fail("log")

    def end(self, *, finished: bool) -> None:
        self.ended.append(finished)
        self._maybe_fail("end")


RECIPE = tiny.recipe(steps=6, eval_every=3)


def interrupt_after(steps: int) -> Any:
    def on_step(step: int) -> None:
        if step == steps:
            raise KeyboardInterrupt

    return on_step


def run(folder: Path, *loggers: Any, **options: Any) -> None:
    train(RECIPE, tiny.manifest(), folder, quiet=True, log=loggers, **options)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a logger."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    run(folder)
    return folder


def same_weights(one: Path, other: Path) -> bool:
    ours, theirs = (load_file(folder / "last.safetensors") for folder in (one, other))
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_logger_of_ones_own_is_told_what_the_file_is_told(tmp_path: Path) -> None:
    own = Own()
    run(tmp_path / "mine", own, baselines=True)
    (begun,) = own.begun
    assert (begun.name, begun.step, begun.known) == ("mine", 0, "")
    assert begun.config["recipe"]["steps"] == 6
    assert begun.config["data"]["name"] == tiny.manifest().name
    json.dumps(begun.config)
    written = read_log(tmp_path / "mine/log.jsonl")
    assert [(e["kind"], e["step"]) for e in own.entries] == [
        (e["kind"], e["step"]) for e in written
    ]
    kinds = [entry["kind"] for entry in written]
    assert (kinds.count("step"), kinds.count("validation"), kinds[-1]) == (6, 2, "baselines")
    assert own.ended == [True]
    assert not (tmp_path / "mine/tensorboard").exists()


def test_what_is_resumed_goes_on_in_the_same_logged_run(tmp_path: Path, alone: Path) -> None:
    first, second = Own(), Own()
    run(tmp_path, first, on_step=interrupt_after(4))
    assert first.ended == [False]
    run(tmp_path, second, resume=True)
    assert [(r.step, r.known) for r in second.begun] == [(4, "abc")]
    assert [e["step"] for e in second.entries if e["kind"] == "step"] == [5, 6]
    assert second.ended == [True]
    assert same_weights(tmp_path, alone)


@pytest.mark.parametrize(
    ("fails", "times", "calls"),
    [
        ("begin", 1000, 0),  # never told anything
        ("log", 1000, 3),  # left alone after three failures in a row
        ("log", 2, None),  # a network that comes back
        ("end", 1000, None),
    ],
)
def test_a_logger_that_fails_stops_nothing_and_is_told_once(
    tmp_path: Path,
    alone: Path,
    capfd: pytest.CaptureFixture[str],
    fails: str,
    times: int,
    calls: int | None,
) -> None:
    own = Own(fails=fails, times=times)
    train(RECIPE, tiny.manifest(), tmp_path, log=[own])
    assert same_weights(tmp_path, alone)
    entries = read_log(tmp_path / "log.jsonl")
    told = [entry for entry in entries if entry["kind"] == "logger_failed"]
    assert [(e["name"], e["reason"]) for e in told] == [("Own", f"no network in {fails}")]
    rest = len(entries) - 1
    assert len(own.entries) == (rest if calls is None else calls)
    assert len(own.ended) == (calls is None)
    shown = capfd.readouterr().err
    assert shown.count("warning: the logger Own has failed (no network") == 1


@pytest.mark.parametrize("found", [None, "a b", "../up", "x" * 300, 7])
def test_a_name_that_would_not_be_read_again_is_refused(tmp_path: Path, found: Any) -> None:
    own = Own(found=found)
    run(tmp_path, own)
    (told,) = [e for e in read_log(tmp_path / "log.jsonl") if e["kind"] == "logger_failed"]
    assert told["reason"].startswith("begin returned ")
    assert own.entries == []
    assert read_known(tmp_path).ids == {}


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("wadnb", ["unknown logger 'wadnb'", "Did you mean 'wandb'?", "mlflow"]),
        ("", ["unknown logger ''", "tensorboard, jsonl, wandb, trackio, mlflow"]),
        ("tensorboard,,jsonl", ["unknown logger ''"]),
        ("tensorboard,tensorboard", ["tensorboard is named twice"]),
        ("tensorboard:mine", ["tensorboard, which has no projects"]),
        ("wandb:", ["allowed: wandb, or wandb:PROJECT"]),
        ([object()], ["is no logger", "begin, log and end"]),
    ],
)
def test_a_wrong_name_is_an_error_before_anything_starts(
    tmp_path: Path, log: Any, words: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        train(RECIPE, tiny.manifest(), tmp_path / "run", log=log)
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_the_command_refuses_before_it_looks_for_clips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["--dry-run"]):
        code = main(["train", str(tmp_path / "none"), "--log", "wadnb", "--out",
                     str(tmp_path / "run"), *more])  # fmt: skip
        assert code == 2
        assert "unknown logger 'wadnb'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["wandb", "trackio", "mlflow"])
def test_a_library_that_is_absent_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=rf"pip install 'videorwkv\[{name}\]'"):
        choose(f"{name}:project", tmp_path, resume=False)


def test_without_a_name_it_is_tensorboard_and_what_is_resumed_keeps_its_own(tmp_path: Path) -> None:
    assert list(choose(None, tmp_path, resume=False)) == ["tensorboard"]
    assert list(choose(None, tmp_path, resume=True)) == ["tensorboard"]
    assert choose("jsonl", tmp_path, resume=False) == {}
    write_known(tmp_path, Known((), {"wandb": "abc"}))
    assert choose(None, tmp_path, resume=True) == {}
    assert list(choose(None, tmp_path, resume=False)) == ["tensorboard"]
    assert list(choose("jsonl, tensorboard", tmp_path, resume=True)) == ["tensorboard"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"log": "wandb", "ids": {}}', '{"log": [1], "ids": {}}',
     '{"log": [], "ids": {"wandb": "../up"}}', '{"log": [], "ids": 3}'],
)  # fmt: skip
def test_a_note_that_somebody_has_changed_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / KNOWN_FILE).write_text(text)
    with pytest.raises(CheckpointError, match=r"loggers\.json: .*Move it away"):
        read_known(tmp_path)


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    write_known(tmp_path, Known(("wandb",), {"wandb": "abc"}))
    assert read_known(tmp_path) == Known(("wandb",), {"wandb": "abc"})
    path = tmp_path / KNOWN_FILE
    path.write_text(path.read_text().replace("abc", "abd"))
    with pytest.raises(CheckpointError, match="changed since it was written"):
        read_known(tmp_path)


def test_numbers_that_are_drawn() -> None:
    step = {"kind": "step", "step": 1, "epoch": 0, "loss": math.inf, "accuracy": 1,
            "grad_norm": 2.0, "lr": 0.1, "clips_per_s": 3.0, "waiting": 0.0}  # fmt: skip
    found = scalars(step)
    assert found["train/loss"] == math.inf
    assert set(found) == {
        *("train/loss", "train/accuracy", "train/grad_norm", "train/lr", "train/clips_per_s"),
        "train/waiting",
    }
    scored = [{"name": "gradient mean + change", "nearest": 0.5, "ridge": 0.75, "clips": 4}]
    baselines = {"kind": "baselines", "step": 9, "train": 8, "validation": 4, "baselines": scored}
    assert scalars(baselines) == {"baseline/gradient_mean_change": 0.75}
    assert scalars({"kind": "bad_clip", "step": 3, "path": "a", "reason": "b"}) == {}
