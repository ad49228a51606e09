"""Every kind of data set is trained on by one command, and says how it was read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import disk
import pytest
import test_kinetics
import test_ssv2
import tiny

from videorwkv.cli.main import main

OPTIONS = [*tiny.OPTIONS, "--batch-size=2", "--steps=1"]


def ssv2(root: Path) -> list[str]:
    test_ssv2.twentybn(root)
    disk.video(root / "20bn-something-something-v2" / "2.webm")
    return [f"ssv2:{root}"]


def kinetics(root: Path) -> list[str]:
    test_kinetics.class_folders(root)
    return [f"k400:{root}", "--layout=classes"]


def peers_list(root: Path) -> list[str]:
    disk.video(root / "a b/1.mp4", root / "c,d/2.mp4")
    disk.text(root / "train.txt", "a b/1.mp4 0\nc,d/2.mp4 1\n")
    names = disk.text(root / "names.txt", "going up\ngoing down\n")
    return [f"list:{root / 'train.txt'}", "--label-names", str(names)]


def folder(root: Path) -> list[str]:
    disk.video(*(root / label / f"{n}.mp4" for label in ("wave, left", "nod") for n in range(3)))
    return [str(root)]


FLIPS_OFF = "horizontal flip disabled"


@pytest.mark.parametrize(
    ("make", "title", "flips"),
    [
        (ssv2, "Something-Something V2, 20BN", "horizontal flip swaps the labels of 1 pair"),
        (kinetics, "Kinetics-400, class-folder", "horizontal flip keeps every label"),
        (peers_list, "train.txt: a list of `path label`", FLIPS_OFF),
        (folder, "folder: 6 clips", FLIPS_OFF),
    ],
)
def test_train(
    make: Callable[[Path], list[str]],
    title: str,
    flips: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments = make(tmp_path / "data")
    assert main(["train", *arguments, "--out", str(tmp_path / "run"), *OPTIONS]) == 0
    shown = capfd.readouterr().err
    assert title in shown
    assert shown.count(flips) == shown.count("horizontal flip") == 1
    values = json.loads((tmp_path / "run/config.json").read_text())
    assert (values["flips"] is None) == (flips == FLIPS_OFF)


def test_nothing_is_said_of_flips_that_nobody_asked_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [*folder(tmp_path / "data"), "--out", str(tmp_path / "run"), *OPTIONS]
    assert main(["train", *arguments, "--set=augmentation.flip_probability=0"]) == 0
    assert "horizontal flip" not in capfd.readouterr().err


def test_submission_of_ssv2(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ssv2(tmp_path / "data")
    run, out = str(tmp_path / "run"), tmp_path / "test.csv"
    assert main(["train", *arguments, "--out", run, *OPTIONS, "--quiet"]) == 0
    (tmp_path / "data/20bn-something-something-v2/1420.webm").unlink()
    predict = ["predict", run, *arguments, "--submission", str(out), "--workers=0"]
    assert main(predict) == 1
    assert out.read_text().startswith("166429;")
    assert {int(n) for n in out.read_text().strip().split(";")[1:]} == {5, 86, 87}
    assert "1420.webm: not on disk" in capfd.readouterr().err
    # In evaluation, too, what is not on disk is told.
    (tmp_path / "data/20bn-something-something-v2/2.webm").unlink()
    assert main(["evaluate", run, *arguments, "--split=train", "--workers=0"]) == 0
    assert "clips read 1/1 (and 1 not on disk, not counted)" in capfd.readouterr().out
