"""Baselines without a network."""

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

import numpy as np
import pytest
import tiny

from videorwkv.cli.main import main
from videorwkv.data import Manifest, Row
from videorwkv.data.load import load_manifest
from videorwkv.errors import ConfigError, DataError
from videorwkv.inference.baselines import baselines, some_clips
from videorwkv.video.array import ArrayVideo
from videorwkv.video.base import Clip, Video
from videorwkv.video.writer import write_video

NAMES = ("motion pieces", "motion map", "middle frame", "gradient mean + change")


def clips(folder: Path) -> None:
    """Two classes, told apart by where something moves; `b` has one clip that can't be read."""
    for split, count in (("train", 3), ("test", 2)):
        for number in range(count):
            tiny.write_clip(folder / split / "a" / f"{number}.mp4", level=10 * number)
            clip = folder / split / "b" / f"{number}.mp4"
            tiny.write_clip(clip, level=10 * number, flipped=True)
    (folder / "test" / "b" / "broken.mp4").write_text("no video")


def test_unreadable_clips_count_as_wrong(tmp_path: Path) -> None:
    clips(tmp_path)
    manifest = load_manifest(tmp_path)
    calls: list[int] = []
    found = {
        b.name: b for b in baselines(manifest.split("train"), manifest.split("test"), calls.append)
    }
    assert tuple(found) == NAMES
    assert found["motion pieces"].nearest == found["motion pieces"].ridge == 4 / 5
    assert calls == list(range(1, 12))
    nothing = replace(manifest.split("test"), rows=manifest.split("test").rows[-1:])
    assert nothing.rows[0].path.endswith("broken.mp4")
    with pytest.raises(DataError, match="no labelled clip could be read for the baselines"):
        baselines(manifest.split("train"), nothing)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny.trained(tmp_path / "run")
    arguments = ["evaluate", str(run), tiny.MOTION, "--split=test", "--workers=0", "--baselines"]
    assert main([*arguments, f"--out={tmp_path / 'out'}"]) == 0
    assert "baseline motion pieces: nearest neighbour 0." in capsys.readouterr().out
    saved = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert main([*arguments, "--json", f"--out={tmp_path / 'out'}"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["baselines"] == saved["baselines"]
    assert tuple(b["name"] for b in saved["baselines"]) == NAMES
    assert 0 <= saved["baselines"][0]["ridge"] <= 1
    for split in ("train", "all"):  # on the clips that they have learnt from, they know everything
        assert main(["evaluate", str(run), tiny.MOTION, f"--split={split}", "--baselines"]) == 2
        assert "they learn from the train split" in capsys.readouterr().err


def test_gradients_see_a_posture_and_not_its_contrast(tmp_path: Path) -> None:
    """Still clips: standing or lying stripes, dim in training, bright in the test."""
    for split, light in (("train", 40), ("test", 200)):
        for label in ("standing", "lying"):
            stripes_HW = np.zeros((64, 64), np.uint8)
            stripes_HW[:, 8::16] = stripes_HW[:, 9::16] = light
            image_HW = stripes_HW if label == "standing" else stripes_HW.T
            clip_THWC = np.repeat(image_HW[None, :, :, None], 3, axis=3).repeat(4, axis=0)
            (tmp_path / split / label).mkdir(parents=True)
            write_video(tmp_path / split / label / "clip.mp4", clip_THWC, 8)
    manifest = load_manifest(tmp_path)
    found = {b.name: b for b in baselines(manifest.split("train"), manifest.split("test"))}
    assert found["gradient mean + change"].nearest == found["gradient mean + change"].ridge == 1
    assert found["motion map"].best == 0.5  # nothing moves: one answer for all


def test_known_unreadable_clips_are_not_opened_again(tmp_path: Path) -> None:
    clips(tmp_path)
    manifest = load_manifest(tmp_path)
    log = tmp_path / "opened.txt"  # another process opens them

    def opener(row: Row) -> Video:
        with log.open("a") as file:
            file.write(f"{row.path}\n")
        return manifest.open(row)

    bad = next(row.path for row in manifest.rows if row.path.endswith("broken.mp4"))
    watched = replace(manifest, opener=opener)
    parts = watched.split("train"), watched.split("test")
    assert baselines(*parts, unreadable={bad}) == baselines(*parts)
    opened = log.read_text().splitlines()
    assert opened.count(bad) == 1
    assert len(opened) == 2 * 11 - 1


@pytest.mark.skipif(sys.platform != "linux", reason="the openers here need fork")
@pytest.mark.parametrize("how", ["crashes", "hangs"])
def test_a_clip_that_crashes_or_hangs_counts_as_wrong(tmp_path: Path, how: str) -> None:
    clips(tmp_path)
    manifest = load_manifest(tmp_path)

    def opener(row: Row) -> Video:
        if row.path.endswith("broken.mp4"):
            if how == "crashes":
                faulthandler.disable()
                os.kill(os.getpid(), signal.SIGSEGV)
            time.sleep(600)
        return manifest.open(row)

    watched = replace(manifest, opener=opener)
    parts = watched.split("train"), watched.split("test")
    # Long enough for a clip of 64 x 48 pixels on a machine that is busy.
    limit = 300.0 if how == "crashes" else 5.0
    assert baselines(*parts, clip_timeout=limit) == baselines(
        manifest.split("train"), manifest.split("test")
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the opener here needs fork")
def test_a_process_that_is_killed_is_said(tmp_path: Path) -> None:
    clips(tmp_path)
    manifest = load_manifest(tmp_path)

    def opener(row: Row) -> Video:
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does where memory has run out
        raise AssertionError

    watched = replace(manifest, opener=opener)
    with pytest.raises(DataError, match=r"for the baselines has ended.*memory has run out"):
        baselines(watched.split("train"), watched.split("test"))
    with pytest.raises(ConfigError, match=r"clip_timeout \(-1\.0\) must be 0 or more"):
        baselines(watched.split("train"), watched.split("test"), clip_timeout=-1.0)


class Large(ArrayVideo):
    """Allows no clip that takes more memory than one of its frames."""

    def sample(self, *arguments: Any, **options: Any) -> Clip:
        clip = super().sample(*arguments, **options)
        assert clip.frames_THWC.nbytes < 3 * 600 * 800
        return clip


@pytest.mark.skipif(sys.platform != "linux", reason="the opener here needs fork")
def test_whole_frames_never_lie_in_memory_together(tmp_path: Path) -> None:
    clips(tmp_path)
    manifest = load_manifest(tmp_path)
    frames_THWC = np.random.default_rng(0).integers(0, 256, (30, 600, 800, 3), dtype=np.uint8)

    def opener(row: Row) -> Video:
        return Large(row.path, frames_THWC, np.arange(30) / 10)

    watched = replace(manifest, opener=opener)
    assert len(baselines(watched.split("train"), watched.split("test"))) == len(NAMES)


def test_some_clips_are_spread_over_the_classes() -> None:
    labels = ("a", "b", "c", "d")
    # The classes take turns, and one clip has no label.
    rows = (Row("none", None), *(Row(str(i), labels[i % 4]) for i in range(40)))
    manifest = Manifest(name="turns", rows=rows, labels=labels)
    some = some_clips(manifest, 8)
    assert [row.label for row in some.rows] == ["a", "a", "b", "b", "c", "c", "d", "d"]
    assert len({row.path for row in some.rows}) == 8
    assert some_clips(manifest, 40).rows == rows[1:]
