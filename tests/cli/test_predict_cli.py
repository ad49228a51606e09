"""`videorwkv predict`."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from commands import fails
from safetensors.numpy import load_file, save_file

from videorwkv.cli.main import main


def test_missing_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fails(capsys, "predict", run, "wvae.mp4")
    assert code == 1
    assert "wvae.mp4" in line
    assert "no such file" in line


def test_text_file_called_mp4(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp4").write_text("hello\n")
    code, line = fails(capsys, "predict", run, tmp_path / "text.mp4")
    assert code == 1
    assert "text.mp4" in line


def test_annotated_video_that_can_not_be_written(
    run: Path, own_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    clip = own_videos / "wave, left" / "clip 0.mp4"
    out = tmp_path / "out.mp4"
    assert main(["predict", str(run), str(clip), "--save", str(out)]) == 0
    assert f"Written to {out}" in capsys.readouterr().out.replace("\n", "")

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No room")

    monkeypatch.setattr("videorwkv.inference.annotate.write_video", full)
    monkeypatch.setenv("COLUMNS", "300")  # the path on one line, however long it is
    code = main(["predict", str(run), str(clip), "--save", str(out)])
    shown = capsys.readouterr()
    assert (code, "Written to" in shown.out, "wave, left" in shown.out) == (1, False, True)
    assert shown.err.startswith(f"videorwkv: error: The annotated video {out} was not written: ")


def test_one_bad_file_among_good_ones(
    run: Path, own_videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_videos / "broken.mp4").write_text("hello\n")
    code = main(["predict", str(run), str(own_videos), "--json"])
    shown = capsys.readouterr()
    assert code == 1
    assert len(shown.out.splitlines()) == 9
    assert shown.err.count("videorwkv: error:") == 1


@pytest.mark.parametrize("command", ["train", "predict"])
def test_empty_folder(
    command: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    arguments = ["predict", run, empty] if command == "predict" else ["train", empty]
    code, line = fails(capsys, *arguments)
    assert code == (2 if command == "predict" else 1)
    assert str(empty) in line


def test_no_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = fails(capsys, "predict", run.parent / "tinyy", "x.mp4")
    assert (code, "Did you mean 'tiny'" in line) == (2, True)
    code, line = fails(capsys, "evaluate", tmp_path, tiny.MOTION)
    assert (code, "config.json" in line) == (1, True)


def test_checkpoint_of_another_shape(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    weights = load_file(other / "best.safetensors")
    weights["head.bias"] = np.zeros(5, np.float32)
    save_file(weights, other / "best.safetensors")
    code, line = fails(capsys, "predict", other, tiny.write_clip(tmp_path / "clip.mp4"))
    assert code == 1
    assert "'head.bias' has shape [5], the model needs [8]" in line
    (other / "best.safetensors").write_bytes(b"cut off")
    code, line = fails(capsys, "predict", other, tmp_path / "clip.mp4")
    assert (code, "best.safetensors" in line) == (1, True)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_name_that_is_no_utf8_is_shown(
    run: Path,
    tmp_path: Path,
    encoding: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    name = os.fsdecode(b"\xff\xc3\xa9.mp4")
    clip = tiny.write_clip(tmp_path / "clip.mp4").rename(tmp_path / name)
    monkeypatch.setenv("COLUMNS", "200")

    def shown(*more: str) -> bytes:
        # As Python opens it with PYTHONIOENCODING=ascii:strict, say.
        stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stdout)
            assert main(["predict", str(run), str(clip), *more]) == 0
        return stdout.buffer.getvalue()

    assert b"\\udcff" in shown()
    assert json.loads(shown("--json").decode())["path"] == str(clip)
    assert capfd.readouterr().err == ""
