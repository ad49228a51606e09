from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clip_files import cut

from videorwkv.cli.main import main
from videorwkv.data.load import load_manifest

# The command line, in a process that never comes to the end of one class's clips.
ENDLESS = """
import sys, time
from videorwkv.cli import main as cli
from videorwkv.data import check
from videorwkv.utils import workers
inspect = check.inspect_clip
def inspect_or_hang(path, *, quick):
    if "going up" in path:
        time.sleep(600)
    return inspect(path, quick=quick)
check.inspect_clip = inspect_or_hang
workers.GRACE = 0.1
sys.exit(cli.main())
"""


@pytest.fixture
def videos(class_folder: Path, tmp_path: Path) -> Path:
    root = tmp_path / "my videos"
    shutil.copytree(class_folder, root)
    return root


def test_exit_codes_and_lists(
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "check", "my videos", "--workers=1"]) == 0
    shown = capsys.readouterr().out
    assert "folder: 12 clips, 4 classes, train 8, validation 4" in shown
    assert "my videos-check: report.csv; good.csv 12, bad.csv 0 clips" in shown

    cut(videos / "going up, slowly/S01_my clip, 1.mp4", 0.5)
    flips = tmp_path / "flips.csv"
    flips.write_text('label,flipped\n"going left, slowly","going right, slowly"\n')
    out = tmp_path / "o u t"
    command = ["data", "check", str(videos), f"--flips={flips}", "--out", str(out), "--workers=1"]
    assert main(command) == 1
    shown = capsys.readouterr().out
    assert "truncated: 1\n  going up, slowly/S01_my clip, 1.mp4: at frame 0: " in shown
    (line,) = (line for line in shown.splitlines() if line.startswith("Train on the good ones: "))
    words = shlex.split(line.partition(": ")[2])
    assert words[:2] == ["videorwkv", "train"]
    good = load_manifest(words[2], flips=words[4])
    assert len(good) == 11
    assert good.flips is not None
    assert good.flips["going left, slowly"] == "going right, slowly"

    assert main([*command, "--json"]) == 1
    values = json.loads(capsys.readouterr().out)
    assert values["verdicts"] == {"ok": 11, "truncated": 1}
    assert (values["good"], values["bad"], values["out"]) == (11, 1, str(out))
    assert main([*command, "--cache=c"]) == 2
    assert "--cache" in capsys.readouterr().err


def test_quick_says_what_was_looked_at(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "check", str(videos), "--out", str(tmp_path / "out"), "--workers=1"]
    assert main([*command, "--quick"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "the first frame can be decoded, and no bytes are missing" in shown
    assert "every frame" not in shown
    assert main(command) == 0
    assert "every frame can be decoded" in " ".join(capsys.readouterr().out.split())


def test_folder_that_cannot_be_made(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "out"
    assert main(["data", "check", str(videos), "--out", str(out)]) == 2
    assert f"{out}: the folder can't be made (Not a directory)" in capsys.readouterr().err


def _lines(results: Path) -> int:
    return results.read_bytes().count(b"\n") if results.exists() else 0


@pytest.mark.skipif(sys.platform != "linux", reason="patched functions need fork")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_what_is_done_stays(videos: Path, tmp_path: Path, how: signal.Signals) -> None:
    arguments = ["data", "check", str(videos), "--out", str(tmp_path / "out"), "--workers=2"]
    results = tmp_path / "out/results.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        # A shell's background job ignores Ctrl-C, and so would this process.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 240
    while _lines(results) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(how)
    _, error = process.communicate(timeout=240)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "Traceback" not in error
        again = shlex.split(error.partition("Resume with: ")[2])
        assert again == ["videorwkv", *arguments]
    before = _lines(results)
    assert 3 <= before < 12
    assert main(arguments) == 0
    paths = [json.loads(line)["path"] for line in results.read_text().splitlines() if line.strip()]
    assert len(paths) == len(set(paths)) == 12
