"""The scripts behind the published numbers notice what fails; the commands they call are stood in
for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny

from videorwkv.video.source import open_video

ROOT = Path(__file__).resolve().parents[1]
# `train` makes nothing; `evaluate RUN ...` writes one right answer, but not for fold 1 if it fails.
VIDEORWKV = """#!/usr/bin/env bash
[ "$1" = evaluate ] || exit 0
[[ "$2" == */fold1 && -n "${FAILS:-}" ]] && exit 1
mkdir -p "$2/evaluation-test"
printf 'path,label,predicted\\na.mp4,wash,wash\\n' > "$2/evaluation-test/predictions.csv"
"""


@pytest.mark.parametrize("fails", ["", "yes"])
def test_a_fold_that_fails_is_noticed(tmp_path: Path, fails: str) -> None:
    command = tmp_path / "bin" / "videorwkv"
    command.parent.mkdir()
    command.write_text(VIDEORWKV)
    command.chmod(0o755)
    path = os.pathsep.join(
        [str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    )
    out = tmp_path / "out"
    for fold in range(4):
        (out / "default" / f"fold{fold}").mkdir(parents=True)
    done = subprocess.run(
        ["bash", ROOT / "experiments/handwash.sh"],
        env={**os.environ, "PATH": path, "OUT": str(out), "DATA": "data", "FAILS": fails},
        capture_output=True,
        text=True,
        check=False,
    )
    if fails:
        assert (done.returncode, done.stdout) == (1, "")
        assert "default: a fold of 0 1 has failed" in done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert "4/4 = 1.000, 4 folds" in done.stdout


def test_pooling_says_how_many_folds_there_are(tmp_path: Path) -> None:
    file = tmp_path / "fold0" / "evaluation-test" / "predictions.csv"
    file.parent.mkdir(parents=True)
    file.write_text("path,label,predicted\na.mp4,wash,dry\n")
    pool = [sys.executable, ROOT / "experiments/pool.py", tmp_path]
    assert ", 1 folds: 0.000" in subprocess.check_output(pool, text=True)
    short = subprocess.run([*pool, "--folds=2"], capture_output=True, text=True, check=False)
    assert (short.returncode, short.stdout) == (1, "")
    assert "1 of 2 fold*" in short.stderr


def script(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "experiments" / name, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_another_place_keeps_names_frames_and_rate(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    tiny.write_clip(data / "a" / "long.mp4", frames=6)
    tiny.write_clip(data / "b" / "one.mp4", frames=1)
    assert script("another_place.py", data, out, "3").returncode == 0
    with open_video(data / "a" / "long.mp4") as old, open_video(out / "a" / "long.mp4") as new:
        np.testing.assert_allclose(new.times(), old.times(), atol=1e-3)
        assert not np.array_equal(new.read_all().frames_THWC, old.read_all().frames_THWC)
    with open_video(out / "b" / "one.mp4") as new:
        assert len(new.times()) == 1


def test_a_generated_data_set_becomes_a_folder(tmp_path: Path) -> None:
    data = "motion:train=8,validation=0,test=0,size=32"
    assert script("as_folder.py", data, tmp_path / "out").returncode == 0
    clips = sorted((tmp_path / "out" / "train").rglob("*.mp4"))
    assert len(clips) == 8
    with open_video(clips[0]) as video:
        assert len(video.times()) > 1


def test_wrong_use_of_scripts_is_said(tmp_path: Path) -> None:
    for name in ("as_folder.py", "another_place.py"):
        done = script(name)
        assert done.returncode == 2
        assert done.stderr.startswith(f"usage: {name}")
    done = script("another_place.py", tmp_path, tmp_path / "out")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{tmp_path} holds no .mp4" in done.stderr
    assert not (tmp_path / "out").exists()
