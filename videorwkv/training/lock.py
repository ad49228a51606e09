"""One training at a time in a run's folder."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from videorwkv.errors import UsageError
from videorwkv.utils.files import make_folder
from videorwkv.utils.processes import ALONE, Processes

LOCK = ".lock"
# Seconds that the end of a training which is just being ended is waited for.
WAIT = 3.0

# Folders that are locked -> the process and the thread that did it.
_HELD: dict[str, tuple[int, int]] = {}


@contextmanager
def locked(folder: Path, processes: Processes = ALONE) -> Iterator[None]:
    """Make `folder` and keep other trainings out of it. The system unlocks it where this process
    dies, however it dies. The thread that holds the lock may ask for it again.

    Args:
        folder: the run's; one that is made here and stays empty is removed again.
        processes: those that train into it; the first one holds the lock.

    Raises:
        UsageError: another training has it, or it is a file, or can't be made or written to.
    """
    with ExitStack() as held:
        processes.first(lambda: held.enter_context(_locked(folder)))
        yield


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    place = os.path.realpath(folder)
    me = os.getpid(), threading.get_ident()
    if _HELD.get(place) == me:
        yield
        return
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; --out needs a folder for the run.")
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    make_folder(folder)
    path = folder / LOCK
    lock = FileLock(path)
    try:
        lock.acquire(timeout=WAIT)
    except Timeout:
        raise UsageError(
            f"{folder} is in use: {_holder(path)} trains into it. Wait for its end, or choose "
            "another folder with --out."
        ) from None
    except OSError as error:
        raise UsageError(
            f"{folder}: nothing can be written there ({error.strerror or error}). Choose another "
            "folder with --out."
        ) from error
    _HELD[place] = me
    try:
        with suppress(OSError):
            path.write_text(
                f"process {os.getpid()} on {socket.gethostname()}, since "
                f"{time.strftime('%Y-%m-%d %H:%M:%S')},",
                encoding="utf-8",
            )
        yield
    finally:
        del _HELD[place]
        with suppress(OSError):
            if os.listdir(folder) == [LOCK]:
                path.unlink()  # while it is locked: who waits for it looks again
                for empty in made:
                    empty.rmdir()
        lock.release()


def _holder(path: Path) -> str:
    """Who has the lock; some systems let nobody read a locked file."""
    try:
        return path.read_text(encoding="utf-8") or "another process"
    except (OSError, UnicodeDecodeError):
        return "another process"
