"""Clips that can't be read, from the manifest to the last line of a run."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import tiny

from videorwkv.cli import evaluate as cli_evaluate
from videorwkv.cli import options
from videorwkv.cli import train as cli_train
from videorwkv.cli.main import main
from videorwkv.data import Manifest, Row
from videorwkv.errors import ConfigError, DataError
from videorwkv.training import trainer
from videorwkv.training.loggers.jsonl import read_log
from videorwkv.training.loop import train
from videorwkv.video import Sampling

# Each of them is bad in its own way; the last two kill and hang the process that opens them.
FATES = ("missing", "empty", "text", "sound", "crash", "hang")


def write_sound(path: Path) -> None:
    """A file with sound and no picture."""
    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)


def opened(row: Row) -> Any:
    """What a manifest without an opener does, but for the last two fates."""
    with Path(row.path).with_suffix(".opened").open("a") as file:
        file.write(".")
    if "crash" in row.path:
        faulthandler.disable()
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in row.path:
        time.sleep(600)
    return Manifest(name="plain", rows=(), labels=()).open(row)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of four good clips in each split; the first class has a bad one of each kind."""
    root = tmp_path / "clips"
    for split in ("train", "validation"):
        for label in "ab":
            for n in range(4):
                tiny.write_clip(root / split / label / f"{n}.mp4", level=10 * n)
        for fate in FATES:
            (root / split / "a" / f"{fate}.mp4").touch()
        (root / split / "a" / "text.mp4").write_text("no video")
        write_sound(root / split / "a" / "sound.mp4")
    return root


def bad_paths(folder: Path, split: str) -> set[str]:
    return {str(folder / split / "a" / f"{fate}.mp4") for fate in FATES}


@pytest.mark.skipif(sys.platform != "linux", reason="the opener needs fork")
def test_every_kind_of_bad_clip_from_the_command_line(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    load = options.load_data

    def load_data(given: Any, run: Any = None) -> Manifest:
        manifest = load(given, run)
        for split in ("train", "validation"):
            (folder / split / "a" / "missing.mp4").unlink(missing_ok=True)
        return replace(manifest, opener=opened)

    for command in (cli_train, cli_evaluate):
        monkeypatch.setattr(command, "load_data", load_data)
    out = tmp_path / "run"
    # 14 clips of a split: batches of 3 leave out the last two of an epoch.
    small = [*tiny.OPTIONS, "--workers=2", "--batch-size=3", "--clip-timeout=2", "--epochs=3"]
    assert main(["train", str(folder), "--out", str(out), *small]) == 0
    shown = capfd.readouterr()
    wanted = bad_paths(folder, "train") | bad_paths(folder, "validation")
    log = read_log(out / "log.jsonl")
    named = [entry["path"] for entry in log if entry["kind"] == "bad_clip"]
    assert len(named) == len(set(named))
    assert set(named) == wanted
    for path in wanted:
        assert shown.err.count(f"unreadable: {path}") == 1
    (told,) = [entry for entry in log if entry["kind"] == "bad_clips"]
    assert (told["count"], told["of"]) == (12, 28)
    assert "12 of 28 clips could not be read" in shown.err
    assert str(out / "log.jsonl") in shown.err
    assert "12 clips unreadable" in shown.out
    assert "clips read 8/14" in shown.err
    reasons = {entry["path"]: entry["reason"] for entry in log if entry["kind"] == "bad_clip"}
    for fate, part in (("crash", "signal 11 (seg"), ("hang", "took longer than 2 s")):
        for split in ("train", "validation"):
            assert part in reasons[str(folder / split / "a" / f"{fate}.mp4")]
    # What killed or hung a worker is not tried again in the same run.
    for fate, most in (("crash", 1), ("hang", 1), ("text", 3)):
        assert (folder / "validation/a" / f"{fate}.opened").stat().st_size == most

    capfd.readouterr()
    (folder / "validation/a/missing.mp4").touch()
    assert main(["evaluate", str(out), str(folder), "--clip-timeout=2"]) == 0
    table = capfd.readouterr().out
    assert "clips read 8/14" in table
    for path in bad_paths(folder, "validation"):
        assert table.count(f"unreadable, counted as wrong: {path}") == 1
    saved = json.loads((out / "evaluation-validation/evaluation.json").read_text())
    assert (saved["n_ok"], saved["n_total"]) == (8, 14)
    assert {clip["path"] for clip in saved["unreadable"]} == bad_paths(folder, "validation")
    # Wrong, whatever the model says: the class with the bad clips has ten.
    assert saved["per_class"]["a"] <= 4 / 10
    assert saved["top1"] == pytest.approx(
        (10 * saved["per_class"]["a"] + 4 * saved["per_class"]["b"]) / 14
    )


def own(tmp_path: Path, good: int, bad: int) -> Manifest:
    rows = [
        Row(str(tiny.write_clip(tmp_path / f"{label}{n}.mp4")), label, "train")
        for label in "ab"
        for n in range(good)
    ]
    rows += [Row(str(tmp_path / f"gone{n}.mp4"), "ab"[n % 2], "train") for n in range(bad)]
    return Manifest(name="own", rows=tuple(rows), labels=("a", "b"))


def logged(run: Path) -> list[str]:
    return [e["path"] for e in read_log(run / "log.jsonl") if e["kind"] == "bad_clip"]


def test_named_once_over_a_resume(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    manifest = own(tmp_path, good=2, bad=2)
    recipe = tiny.recipe(steps=9, batch_size=2, eval_every=2)

    def stop(step: int) -> None:
        if step == 4:  # two epochs of three steps are not over
            raise KeyboardInterrupt

    first = train(recipe, manifest, tmp_path / "run", on_step=stop)
    assert set(first.bad) == {str(tmp_path / f"gone{n}.mp4") for n in range(2)}
    assert capfd.readouterr().err.count("unreadable:") == 2
    second = train(recipe, manifest, tmp_path / "run", resume=True)
    assert second.bad == first.bad
    shown = capfd.readouterr().err
    assert "unreadable:" not in shown
    assert "2 of 6 clips could not be read" in shown
    assert sorted(logged(tmp_path / "run")) == sorted(first.bad)


def test_bad_clips_are_left_out_of_a_step_and_not_replaced(tmp_path: Path) -> None:
    manifest = own(tmp_path, good=2, bad=3)
    taken = train(tiny.recipe(steps=4, batch_size=7), manifest, tmp_path / "run", quiet=True)
    steps = [e for e in read_log(taken.folder / "log.jsonl") if e["kind"] == "step"]
    assert len(steps) == 4
    # Shares of four clips, not of seven.
    assert {round(4 * entry["accuracy"], 6) for entry in steps} <= {0, 1, 2, 3, 4}


def test_a_batch_of_bad_clips_only_is_a_step_that_changes_nothing(tmp_path: Path) -> None:
    manifest = own(tmp_path, good=1, bad=6)
    result = train(tiny.recipe(steps=16, batch_size=1), manifest, tmp_path / "run", quiet=True)
    assert result.step == 16
    assert len(result.bad) == 6
    taken = [e["step"] for e in read_log(result.folder / "log.jsonl") if e["kind"] == "step"]
    assert len(taken) == 4


def test_a_single_frame_that_is_left_is_too_little_for_batch_norm(tmp_path: Path) -> None:
    manifest = own(tmp_path, good=1, bad=6)
    recipe = tiny.recipe(steps=12, batch_size=2, sampling=Sampling(num_frames=1))
    assert train(recipe, manifest, tmp_path / "run", quiet=True).step == 12
    with pytest.raises(ConfigError, match="batch norm"):
        replace(recipe, batch_size=1)


@pytest.mark.parametrize("workers", [0, 2])
def test_not_one_good_clip(tmp_path: Path, workers: int) -> None:
    manifest = own(tmp_path, good=0, bad=6)
    recipe = tiny.recipe(steps=10_000_000, batch_size=3, workers=workers)
    with pytest.raises(DataError, match=r"own: none of the last 6 clips .*gone.*data check"):
        train(recipe, manifest, tmp_path / "run", quiet=True)


def test_hopelessly_many_bad_clips_in_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "HOPELESS", 40)
    manifest = own(tmp_path, good=1, bad=5000)
    recipe = tiny.recipe(steps=10_000_000, batch_size=4)
    with pytest.raises(DataError, match="none of the last 40 clips"):
        train(recipe, manifest, tmp_path / "run", quiet=True)
