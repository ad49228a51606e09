from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from commands import fails

from videorwkv.cli.main import main
from videorwkv.run.run import read_run


def test_start_from_a_run(
    own_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny.trained(tmp_path / "old", steps=1, lr=3e-3)
    out = ["--out", str(tmp_path / "tuned"), "--workers=0", "--steps=1", "--no-baselines"]
    train = ["train", str(own_videos), *out, "--init", str(run)]
    assert main([*train, "--freeze=stem", "--layer-decay=0.5"]) == 0
    said = capsys.readouterr().err
    assert "recipe finetune over the recipe chosen for 6 clips" in said
    assert f"starts from {run}: " in said
    assert "the classifier knows 0 of 2 labels" in said
    made, begun = read_run(tmp_path / "tuned").recipe, read_run(run).recipe
    assert (made.freeze, made.layer_decay, made.steps) == (("stem",), 0.5, 1)
    assert (made.model.width, made.lr) == (begun.model.width, begun.lr)
    assert made.model.num_classes == 2
    # What is printed after Ctrl-C: the same command.
    again = [*train, "--freeze=stem", "--layer-decay=0.5", "--resume", "--quiet"]
    assert main(again) == 0
    # It was laid over what was chosen for the clips, which the run alone has.
    assert main([*train[:2], *out, "--resume", "--recipe=finetune", "--quiet"]) == 0

    code, line = fails(capsys, "train", own_videos, "--recipe=finetune", "--out", tmp_path / "x")
    assert code == 2
    assert "name a run with --init" in line
    code, line = fails(capsys, *train[:2], "--out", tmp_path / "x", "--init", tmp_path / "none")
    assert code == 2
    assert "No run at" in line
    code, line = fails(
        capsys, *train[:2], "--out", tmp_path / "x", "--init", run, "--model=lcr_nano", "--quiet"
    )
    assert code == 2
    assert "width 16 there, 96 here" in line
