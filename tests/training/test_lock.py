from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tiny

from videorwkv.cli.main import main
from videorwkv.errors import UsageError
from videorwkv.training import lock
from videorwkv.training.lock import LOCK, MARK, locked
from videorwkv.training.loop import train

HOLDER = """
import sys
from pathlib import Path
from videorwkv.training.lock import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""

# As on some network folders.
NO_LOCKS = """
import fcntl, os, sys
def flock(*_):
    raise OSError(int(sys.argv[2]), os.strerror(int(sys.argv[2])))
fcntl.flock = flock
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "WAIT", 0.2)


def test_another_training_is_kept_out_until_its_process_is_gone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-c", HOLDER, str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        before = sorted(path.name for path in run.iterdir())
        with pytest.raises(UsageError, match=rf"in use: process {other.pid} on .*--out"):
            train(tiny.recipe(), tiny.manifest(), run, quiet=True)
        # By the command line before the clips are looked for, with --resume likewise.
        for more in ([], ["--resume"]):
            assert main(["train", str(tmp_path / "no clips"), "--out", str(run), *more]) == 2
            assert "is in use: process" in capfd.readouterr().err
        assert sorted(path.name for path in run.iterdir()) == before
        other.kill()
    assert train(tiny.recipe(steps=1), tiny.manifest(), run, quiet=True).step == 1


def test_workers_do_not_keep_the_lock(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        child = os.fork()
        if not child:
            threading.Event().wait()
    try:
        with locked(tmp_path / "run"):
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "it has ended, and shows nothing"
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_the_thread_that_has_it_may_ask_again_and_no_other(tmp_path: Path) -> None:
    found: list[str] = []

    def ask() -> None:
        try:
            with locked(tmp_path / "run"):
                found.append("both")
        except UsageError as error:
            found.append(str(error))

    with locked(tmp_path / "run"):
        ask()
        other = threading.Thread(target=ask)
        other.start()
        other.join()
        (tmp_path / "link").symlink_to(tmp_path / "run")
        with locked(tmp_path / "link"):
            pass
    assert found[0] == "both"
    assert "is in use" in found[1]
    ask()
    assert found[2] == "both"


def test_a_folder_that_stays_empty_goes_again(tmp_path: Path) -> None:
    with locked(tmp_path / "runs" / "mine"):
        assert (tmp_path / "runs" / "mine" / LOCK).exists()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").mkdir()
    with locked(tmp_path / "kept"):
        pass
    assert (tmp_path / "kept").is_dir()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "run" / LOCK).mkdir(parents=True)
    with pytest.raises(UsageError, match=r"nothing can be written there \(.*--out"):
        train(tiny.recipe(), tiny.manifest(), tmp_path / "run", quiet=True)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    run = tmp_path / "run"
    command = [sys.executable, "-c", NO_LOCKS + HOLDER, str(run), str(number)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(UsageError, match=rf"process {other.pid} on .*delete .*{MARK}"):
            train(tiny.recipe(), tiny.manifest(), run, quiet=True)
        other.kill()
        other.wait()
        # What a killed process leaves keeps nobody out.
        monkeypatch.setattr(lock, "WAIT", 10.0)
        with locked(run), locked(run):
            assert (run / MARK).read_text().startswith(f"{os.getpid()}\n")
    assert os.listdir(run) == []
