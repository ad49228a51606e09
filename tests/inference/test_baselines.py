"""Baselines without a network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

from videorwkv.cli.main import main
from videorwkv.data.load import load_manifest
from videorwkv.errors import DataError
from videorwkv.inference.baselines import baselines


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
    assert set(found) == {"motion pieces", "motion map", "middle frame"}
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
    assert [b["name"] for b in saved["baselines"]] == [
        "motion pieces", "motion map", "middle frame",
    ]  # fmt: skip
    assert 0 <= saved["baselines"][0]["ridge"] <= 1
    for split in ("train", "all"):  # on the clips that they have learnt from, they know everything
        assert main(["evaluate", str(run), tiny.MOTION, f"--split={split}", "--baselines"]) == 2
        assert "they learn from the train split" in capsys.readouterr().err
