"""A process that is killed leaves no helper behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PARENT = """
import multiprocessing, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from videorwkv.utils.processes import end_with_parent


def work(folder):
    import os
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent) as pool:
        pool.submit(work, sys.argv[1]).result()
"""


def test_a_helper_ends_in_the_middle_of_its_task(tmp_path: Path) -> None:
    script, folder = tmp_path / "parent.py", tmp_path / "helpers"
    script.write_text(PARENT)
    folder.mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(folder)])
    try:
        helper = _wait(lambda: next((int(p.name) for p in folder.iterdir()), 0))
        assert helper
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        assert _wait(lambda: not _runs(helper))
    finally:
        parent.kill()


def _wait(found: object, seconds: float = 60) -> int:
    """What `found` gives once it is not zero; zero if that takes too long."""
    assert callable(found)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = found()
        if value:
            return int(value)
        time.sleep(0.05)
    return 0


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # A zombie that nobody has waited for yet has ended.
    state = Path(f"/proc/{process}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")
