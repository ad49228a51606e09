"""A process that is killed leaves no helper behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

PARENT = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from videorwkv.utils.processes import end_with_parent


def work():
    import os, time
    print(os.getpid(), flush=True)
    time.sleep(120)
    print("its task has ended", flush=True)


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent) as pool:
        pool.submit(work).result()
"""


def test_a_helper_ends_in_the_middle_of_its_task(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        # Nothing is there to read if the parent has failed.
        helper = int(parent.stdout.readline())
        try:
            parent.kill()
            assert parent.wait() == -signal.SIGKILL
            # The helper holds the pipe as well: this waits until it has ended.
            assert parent.stdout.read() == ""
        finally:
            with suppress(ProcessLookupError):
                os.kill(helper, signal.SIGKILL)
