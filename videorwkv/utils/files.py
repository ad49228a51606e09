"""Files that are written whole or not at all, their names; room on disks, memory, cores."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from videorwkv.errors import CheckpointError, DataError, UsageError

_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?", re.IGNORECASE)
_JUNK = frozenset(
    {"__MACOSX", ".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini", "$RECYCLE.BIN",
     "System Volume Information", "lost+found", "@eaDir", "#recycle", "@Recycle", "#snapshot"}
)  # fmt: skip
# Usual on every file system in use; a file takes whole blocks.
BLOCK = 4096


@contextmanager
def unfinished(folder: Path, name: str = "") -> Iterator[IO[bytes]]:
    """A new file, open for writing: to be closed and renamed once it is complete, else removed.

    Args:
        folder: where it is made.
        name: what it is called, for one writer at a time: what a killed process has left is
            replaced. Empty: a name of its own.

    Raises:
        OSError: the folder is missing or can't be written to.
    """
    # In the same folder: a rename is atomic within one file system only. Not `tempfile`: its files
    # are their owner's alone, and a cache may serve several users.
    path = folder / (name or f".{uuid.uuid4().hex}.part")
    try:
        with path.open("wb" if name else "xb") as file:
            yield file
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def atomic(path: Path, name: str = "") -> Iterator[IO[bytes]]:
    """An open file that becomes `path` at the end of the block, whole; on an error nothing does.
    `name` as in `unfinished`.

    Raises:
        OSError: the folder is missing or can't be written to, or the disk is full.
    """
    with unfinished(path.parent, name) as file:
        yield file
        # Windows renames no open file.
        file.close()
        os.replace(file.name, path)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that it is either the old or the new one, whole, whatever happens meanwhile.

    Args:
        path: the file.
        content: text is written in UTF-8; what of it is none, as in the name of a file, is escaped.

    Raises:
        CheckpointError: the disk is full or the folder can't be written; the old file stays.
    """
    if isinstance(content, str):
        content = content.encode(errors="backslashreplace")
    try:
        with atomic(path) as file:
            file.write(content)
            file.flush()
            # Results must outlast a power cut; what else is written atomically can be made again.
            os.fsync(file.fileno())
    except OSError as error:
        old = "The one written before is untouched" if path.exists() else "Nothing was written"
        raise CheckpointError(
            f"Can't write {path} ({len(content) / 1e6:.1f} MB): {error.strerror or error}. {old}. "
            "Make room or choose another place. A stopped training run continues with --resume."
        ) from error


def csv_text(rows: Iterable[Iterable[object]], line_end: str = "\r\n") -> str:
    """Rows as the text of a CSV file, the header first."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator=line_end).writerows(rows)
    return buffer.getvalue()


def write_csv(path: Path, rows: Iterable[Iterable[object]], *, is_read: bool = True) -> None:
    """Write rows as a CSV file; errors as `write_atomic`.

    Args:
        path: the file.
        rows: the header first.
        is_read: by people, in a spreadsheet, which would run a text that begins as a formula: it
            gets a quotation mark in front. False for lists that commands read again.
    """
    if is_read:
        rows = ([_no_formula(cell) for cell in row] for row in rows)
    write_atomic(path, csv_text(rows))


def _no_formula(cell: object) -> object:
    is_formula = isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{cell}" if is_formula and not _NUMBER.fullmatch(str(cell)) else cell


def make_folder(folder: Path) -> None:
    """A folder for results, with those above it; one that is there already is fine.

    Raises:
        UsageError: a file is in the way, or the folder above can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder}: the folder can't be made ({error.strerror or error}). Choose another place."
        ) from error


def require_no_source(
    targets: Iterable[Path], sources: Iterable[object], option: str = "--save"
) -> None:
    """`UsageError` if writing one of `targets`, which `option` names, would replace one of the
    files that are read.

    Sources that are no file (cameras, addresses, bytes) are passed over.
    """
    read = {_identity(source) for source in sources if isinstance(source, str | Path)} - {None}
    for target in targets:
        if _identity(target) in read:
            raise UsageError(
                f"{option}: {target} is one of the videos that are read, and would be overwritten. "
                "Give another file or folder."
            )


def _identity(path: str | Path) -> tuple[int, int] | None:
    """The same for all names of one file; None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def is_junk(name: str) -> bool:
    """Whether a file or folder, below others or not, is what systems leave in archives and folders:
    macOS, Windows, Linux, and network storage, whose pictures of clips are no frames."""
    return any(part in _JUNK or part.startswith("._") for part in name.split("/"))


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorts `2.jpg` before `10.jpg`: runs of digits count as numbers."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def slug(name: str) -> str:
    """`[CLS] pooling` -> `cls-pooling`: a name for a file, of 60 characters at most."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60]


def decimal(num_bytes: int) -> str:
    """`1_500_000` -> `1.5 MB`."""
    from rich.filesize import decimal as rich_decimal

    return rich_decimal(num_bytes)


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


def _existing(folder: Path) -> Path:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return place


def cache_folder() -> Path:
    """Where files lie that can be made or fetched again; XDG_CACHE_HOME moves it. OSError if there
    is no home."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        raise FileNotFoundError(base)
    return Path(base) / "videorwkv"


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
