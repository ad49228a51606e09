"""`videorwkv evaluate`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import tiny
from commands import fails

from videorwkv.cli.main import main
from videorwkv.inference.recogniser import load_run


def test_evaluations_do_not_overwrite_each_other(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    evaluate = [tiny.MOTION, "--workers=0", "--json"]
    for model, options, name in (
        (folder, [], ""),
        (folder / "best", ["--views=1x1"], ""),
        (folder / "last", [], "-last"),
        (folder, ["--views=2x1", "--tube-mask=0.5"], "-views-2x1-tube-mask-0.5"),
        (folder, ["--motion-mask=0.5"], "-motion-mask-0.5"),
    ):
        out = folder / f"evaluation-validation{name}"
        shutil.rmtree(out, ignore_errors=True)
        assert main(["evaluate", str(model), *evaluate, *options]) == 0
        assert (out / "evaluation.json").is_file()
    (folder / "best.safetensors").unlink()
    assert load_run(folder / "last").results("test").name == "evaluation-test"


def test_unknown_label(run: Path, own_videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fails(capsys, "evaluate", run, own_videos)
    assert code == 1
    assert "unknown label 'stand still'" in line


@pytest.mark.parametrize("arguments", [["--split=tset"], ["--views=2x"], ["--views=0x1"]])
def test_wrong_evaluation_options(
    arguments: list[str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = fails(capsys, "evaluate", run, tiny.MOTION, *arguments)
    assert code == 2
    assert arguments[0].partition("=")[2] in line


def test_crops_of_a_stretched_frame_are_refused_before_any_work(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    config["recipe"]["model"]["frame_fit"] = "stretch"
    (folder / "config.json").write_text(json.dumps(config))
    code, line = fails(
        capsys, "evaluate", folder, tiny.MOTION, "--views=2x3", f"--out={tmp_path / 'out'}"
    )
    assert code == 2
    assert "--views: views 2x3" in line
    assert "as in 2x1" in line
    assert not (tmp_path / "out").exists()


def test_a_place_for_results_that_is_none(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(
        sys.modules["videorwkv.inference.evaluate"], "score", None
    )  # it is not asked
    code, line = fails(capsys, "evaluate", run, tiny.MOTION, f"--out={tmp_path / 'file'}")
    assert (code, "the folder can't be made (File exists)" in line) == (2, True)
