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
from videorwkv.data.load import load_manifest
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
    tiny.edit_config(folder, lambda c: c["recipe"]["model"].update(frame_fit="stretch"))
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


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and the folder without splits that it was trained on."""
    folder = tmp_path_factory.mktemp("own")
    for label, level in (("left", 0), ("right", 60)):
        for n in range(5):
            tiny.write_clip(folder / "data" / label / f"clip {n}.mp4", level=level)
    arguments = ["train", str(folder / "data"), f"--out={folder / 'run'}", *tiny.OPTIONS]
    assert main([*arguments, "--steps=1", "--quiet", "--no-baselines", "--device=cpu"]) == 0
    return folder / "run", folder / "data"


def evaluated(
    capsys: pytest.CaptureFixture[str], run: Path, data: Path, *options: str
) -> tuple[int, str]:
    """How many clips are scored, and what is said."""
    out = data.parent / "out"
    capsys.readouterr()
    assert main(["evaluate", str(run), str(data), "--workers=0", f"--out={out}", *options]) == 0
    values = json.loads((out / "evaluation.json").read_text())
    return values["n_total"], capsys.readouterr().out


def test_new_data_without_splits_are_scored_whole(
    own_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = own_run
    count, shown = evaluated(capsys, run, data)
    assert (count, "validation, 2 of 10 clips" in shown, "--split all" in shown) == (2, True, False)
    new = tmp_path / "new"
    for label in ("left", "right"):
        for n in range(6):
            tiny.write_clip(new / label / f"other {n}.mp4")
    count, shown = evaluated(capsys, run, new)
    assert (count, "all 12 clips are scored, as" in shown) == (12, True)
    assert "too good" not in shown
    assert evaluated(capsys, run, new, "--split=validation")[0] == 2
    assert evaluated(capsys, run, new, "--validation-share=0.5")[0] == 6
    # The run's own folder with clips added, and its names in another place.
    grown = tmp_path / "grown" / "data"
    shutil.copytree(data, grown)
    count, shown = evaluated(capsys, run, grown)
    assert (count, "If they are others, give --split all" in shown) == (2, True)
    tiny.write_clip(grown / "left" / "clip 9.mp4")
    count, shown = evaluated(capsys, run, grown)
    assert (count, "some have names of its clips" in shown) == (11, True)
    tiny.write_clip(data / "left" / "clip 9.mp4")
    count, shown = evaluated(capsys, run, data)
    assert (count, "clips were added to or removed from" in shown) == (2, True)
    (data / "left" / "clip 9.mp4").unlink()


def test_a_run_that_held_out_clip_by_clip_keeps_its_validation_clips(
    own_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for label in ("left", "right"):
        for n in range(8):
            tiny.write_clip(data / label / f"subject{n // 2}_{n}.mp4")
    arguments = ["train", str(data), f"--out={tmp_path / 'run'}", *tiny.OPTIONS, "--steps=2"]
    options = ["--quiet", "--no-baselines", "--device=cpu"]
    assert main([*arguments, *options, "--group-by=none", "--set=eval_every=1"]) == 0
    known = load_run(tmp_path / "run").data["digest"]
    count = evaluated(capsys, tmp_path / "run", data)[0]
    values = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (values["data"]["digest"], count) == (
        load_manifest(data, group_by="none").split("validation").digest,
        4,
    )
    assert main([*arguments, *options, "--resume"]) == 0
    assert load_run(tmp_path / "run").data["digest"] == known != load_manifest(data).digest
