"""What this machine has: room on disks, memory, cores."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from videorwkv.errors import DataError
from videorwkv.utils.files import decimal

# Usual on every file system in use; a file takes whole blocks.
BLOCK = 4096


def room_taken(size: int) -> int:
    """Bytes that a file of `size` bytes takes on disk."""
    return -(-size // BLOCK) * BLOCK


def free_space(folder: Path) -> int:
    """Bytes free for `folder`, which may not exist yet."""
    return shutil.disk_usage(_existing(folder)).free


def require_room(folder: Path, needed: float, what: str) -> None:
    """`DataError` unless the disk of `folder`, which may not exist yet, can hold `needed` bytes.

    Args:
        folder: where it is to be written.
        needed: bytes.
        what: begins the message.
    """
    free = free_space(folder)
    if needed > free:
        raise DataError(
            f"{what} needs {decimal(round(needed))}, but the disk of {folder} has {decimal(free)} "
            "free. Make room, or choose a folder on another disk; nothing was written."
        )


def require_files(folder: Path, needed: float, what: str) -> None:
    """The same for the number of files, where the file system has a limit and tells it."""
    if not hasattr(os, "statvfs"):
        return
    status = os.statvfs(_existing(folder))
    # File systems without such a limit give 0.
    if status.f_files and needed > status.f_favail:
        raise DataError(
            f"{what} needs {needed:,.0f} files, but the file system of {folder} has room for "
            f"{status.f_favail:,} more (inodes; `df -i` shows them). Choose a folder on another "
            "one; nothing was written."
        )


def _existing(folder: Path) -> Path:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return place


def memory_size() -> int:
    """Bytes of this machine's memory; 8 GB where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 8_000_000_000


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
