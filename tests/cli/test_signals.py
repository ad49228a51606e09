"""Signals that end a program, sent from outside to all of its processes, as schedulers do."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file

from videorwkv.training.state import load_state

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="such signals are POSIX's")

# Long enough to be stopped in the middle, with a process that reads the clips.
TRAIN = ["train", tiny.MOTION, *tiny.OPTIONS, "--workers=1", "--no-baselines"]


def start(
    folder: Path, *more: str, terminal: str | None = None, **options: object
) -> subprocess.Popen[bytes]:
    """A training in a session of its own, with a terminal where one is named."""

    def prepare() -> None:
        # Under nohup the tests have inherited that it is ignored, and a program has to obey that.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        if terminal is not None:
            os.close(os.open(terminal, os.O_RDWR))

    command = [sys.executable, "-m", "videorwkv", *TRAIN, "--out", str(folder), *more]
    return subprocess.Popen(command, start_new_session=True, preexec_fn=prepare, **options)  # type: ignore[call-overload,no-any-return]


def wait_for(path: Path, process: subprocess.Popen[bytes], size: int) -> None:
    end = time.monotonic() + 120
    while not (path.exists() and path.stat().st_size > size):
        assert process.poll() is None, "it has ended"
        assert time.monotonic() < end, "it has not come so far"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_all_processes_saves_and_resume_gives_the_same(
    tmp_path: Path, number: int
) -> None:
    folder, steps = tmp_path / "run", ["--steps=600", "--set=eval_every=500"]
    with start(folder, *steps, stderr=subprocess.PIPE) as process:
        wait_for(folder / "log.jsonl", process, 1000)
        os.killpg(process.pid, number)
        said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130, said
    assert "Resume with: videorwkv train" in said
    assert 0 < load_state(folder)["step"] < 600


def test_a_terminal_that_is_closed_saves(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    terminal, end = pty.openpty()
    process = start(
        folder, "--steps=100000", terminal=os.ttyname(end), stdin=end, stdout=end, stderr=end
    )
    os.close(end)
    with process:
        os.set_blocking(terminal, False)
        log = folder / "log.jsonl"
        limit = time.monotonic() + 120
        while not (log.exists() and log.stat().st_size > 1000):
            try:
                os.read(terminal, 65536)
            except BlockingIOError:
                time.sleep(0.02)
            assert time.monotonic() < limit
        os.close(terminal)  # its session is told (SIGHUP), and nothing can be written any more
        process.wait(timeout=60)
    assert load_state(folder)["step"] > 0


def test_one_command_is_enough_after_any_end(tmp_path: Path) -> None:
    """Stopped again and again, by a signal or killed, and always started by the same command."""
    folder, whole = tmp_path / "run", tmp_path / "whole"
    more = ["--steps=60", "--set=eval_every=20", "--resume"]
    with start(whole, *more, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        assert process.wait(timeout=120) == 0
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP):
        with start(folder, *more, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            size = (folder / "log.jsonl").stat().st_size if folder.exists() else 0
            wait_for(folder / "log.jsonl", process, size + 400)
            os.killpg(process.pid, number)
            process.wait(timeout=60)
    with start(folder, *more, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        assert process.wait(timeout=120) == 0
    ours, theirs = load_file(folder / "last.safetensors"), load_file(whole / "last.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
