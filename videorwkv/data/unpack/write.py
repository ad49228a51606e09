"""Members of archives -> files below one folder, each whole or not at all; and what is done."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from videorwkv.data.unpack.pieces import CHUNK, SourceError
from videorwkv.errors import DataError
from videorwkv.utils.files import atomic, make_folder, write_atomic
from videorwkv.utils.values import brief, read_json, sealed

STATE = ".videorwkv-prepare.json"
# One for each folder, as members are written one at a time; the next run goes on in the same file.
UNFINISHED = ".videorwkv-prepare.part"


# What is wrong with a name on this disk, or with what stands there, and with nothing else.
_OF_THE_NAME = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL,
                errno.EILSEQ, errno.ELOOP}  # fmt: skip


class MemberNameError(Exception):
    """A member that can't be written for its name alone: the others can."""


class UnsafeMemberError(DataError):
    """A member of an archive that would be written outside the folder, or is a link or a device."""


def place(folder: Path, name: str, is_file: bool) -> Path:
    """Where a member goes, or `UnsafeMemberError`. Stricter than tarfile's `filter="data"`, which
    takes the slash off an absolute name and lets links inside through."""
    path = PurePosixPath(name)
    # On Windows, `C:x` and `..\\x` lead outside as well.
    is_foreign = os.name == "nt" and (PureWindowsPath(name).anchor or "\\" in name)
    if is_foreign or path.is_absolute() or not path.parts or ".." in path.parts or "\0" in name:
        raise UnsafeMemberError(f"member {name!r} would be written outside {folder}; refused.")
    if not is_file:
        raise UnsafeMemberError(f"member {name!r} is a link or a device; refused.")
    return folder / path


def size_there(path: Path) -> int | None:
    """Bytes of what stands there; -1 for a folder, None for nothing."""
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unwritable(path, error) from error
    return -1 if path.is_dir() else size


def write_file(path: Path, size: int, content: IO[bytes]) -> None:
    """Write a file under another name, then rename it.

    Raises:
        DataError: the disk is full or can't be written to.
        MemberNameError: the name is too long, or a file stands where a folder is needed.
        SourceError, EOFError and others: `content` can't be read, or not up to `size`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path, UNFINISHED) as file:
            written = 0
            for chunk in _chunks(content):
                written += file.write(chunk)
                file.flush()
            if written != size:
                raise EOFError(f"{path.name} breaks off")
    except OSError as error:
        raise _unwritable(path, error) from error


def _chunks(content: IO[bytes]) -> Iterator[bytes]:
    try:
        while chunk := content.read(CHUNK):
            yield chunk
    except OSError as error:
        raise SourceError(str(error)) from error


def _unwritable(path: Path, error: OSError) -> DataError | MemberNameError:
    if error.errno in _OF_THE_NAME:
        shown = str(path) if len(str(path)) < 200 else f"{str(path)[:99]}...{str(path)[-99:]}"
        return MemberNameError(f"{shown} ({error.strerror})")
    return DataError(
        f"{path} can't be written ({error.strerror or error}). What is complete stays: make room "
        "or choose another folder with --out, then run the same command again."
    )


class State:
    """What is done, in a small file in the target folder.

    `done`: of each archive, its clips and its first and last file. `begun`: the bytes on disk that
    an archive has come to, whichever parts of it there were.
    """

    def __init__(self, root: Path) -> None:
        self._path, self._saved = root / STATE, time.monotonic()
        try:
            known = read_json(self._path) if self._path.exists() else {}
            self.done: dict[str, dict[str, Any]] = dict(known.get("done", {}))
            for done in self.done.values():
                if type(done["clips"]) is not int or not all(
                    isinstance(e, str) for e in done["ends"]
                ):
                    raise ValueError(f"got {brief(done)}; wanted clips and ends")
            begun = dict(known.get("begun", {}))
            # Earlier versions kept more than a number; what they began is estimated anew.
            self.begun = {place: size for place, size in begun.items() if type(size) is int}
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise DataError(
                f"{self._path} can't be read ({error}). Delete it: then everything is looked "
                "through again, and what stands is kept."
            ) from error

    def save(self, *, every: float = 0.0) -> None:
        """Write it, if so many seconds have gone by."""
        if time.monotonic() - self._saved >= every:
            self._saved = time.monotonic()
            write_atomic(self._path, json.dumps(sealed({"done": self.done, "begun": self.begun})))


@contextmanager
def only_one(root: Path) -> Iterator[None]:
    """`DataError` while another process unpacks into `root`: both would write the same files."""
    make_folder(root)
    try:
        import fcntl
    except ImportError:  # Windows refuses to rename a file that another process writes
        yield
        return
    handle = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise DataError(f"{root}: another process is unpacking into this folder.") from None
    except OSError:
        pass  # network file systems without locks
    try:
        yield
    finally:
        os.close(handle)
