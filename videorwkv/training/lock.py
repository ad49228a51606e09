"""One training at a time in a run's folder."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from videorwkv.errors import UsageError
from videorwkv.utils.files import make_folder
from videorwkv.utils.processes import ALONE, Processes

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = ".lock"
# In place of it where the file system has no locks: a file that is there while a process lives
# that it names.
MARK = ".lock-mark"
# What such file systems answer: some network folders.
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP})
# Seconds that the end of a training which is just being ended is waited for.
WAIT = 3.0

# Folders that are locked -> the process and the thread that did it.
_HELD: dict[str, tuple[int, int]] = {}


@contextmanager
def locked(folder: Path, processes: Processes = ALONE) -> Iterator[None]:
    """Make `folder` and keep other trainings out of it. The system unlocks it where this process
    dies, however it dies; where the file system has no locks, another training on the same machine
    does. The thread that holds the lock may ask for it again.

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
    from filelock import Timeout

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
    try:
        lock, is_mark = _acquired(folder)
    except Timeout as error:
        mark = folder / MARK
        gone = f" If that process is gone, delete {mark}." * (error.lock_file == str(mark))
        raise UsageError(
            f"{folder} is in use: {_holder(folder)} trains into it. Wait for its end, or choose "
            f"another folder with --out.{gone}"
        ) from None
    except OSError as error:
        raise UsageError(
            f"{folder}: nothing can be written there ({error.strerror or error}). Choose another "
            "folder with --out."
        ) from error
    _HELD[place] = me
    try:
        if not is_mark:  # which says so itself
            with suppress(OSError):
                path.write_text(
                    f"process {os.getpid()} on {socket.gethostname()}, since "
                    f"{time.strftime('%Y-%m-%d %H:%M:%S')},",
                    encoding="utf-8",
                )
        yield
    finally:
        del _HELD[place]
        if is_mark:
            lock.release()
        with suppress(OSError):
            if os.listdir(folder) == [LOCK]:
                path.unlink()  # while it is locked: who waits for it looks again
                for empty in made:
                    empty.rmdir()
        lock.release()


def _acquired(folder: Path) -> tuple[BaseFileLock, bool]:
    """The lock, held; and whether it is a mark. Raises what `filelock` raises."""
    from filelock import FileLock, SoftFileLock

    lock: BaseFileLock = FileLock(folder / LOCK, fallback_to_soft=False)
    try:
        lock.acquire(timeout=WAIT)
    except OSError as error:  # being out of time has no number
        if error.errno not in _NO_LOCKS:
            raise
    else:
        return lock, False
    lock = SoftFileLock(folder / MARK)
    lock.acquire(timeout=WAIT)
    return lock, True


def _holder(folder: Path) -> str:
    """Who has the lock; some systems let nobody read a locked file."""
    for name in (MARK, LOCK):
        with suppress(OSError, UnicodeDecodeError):
            text = (folder / name).read_text(encoding="utf-8")
            if name == MARK:  # the number of a process and the name of its machine
                text = "process {} on {}".format(*text.split("\n")[:2]) if "\n" in text else ""
            if text:
                return text
    return "another process"
