"""Members of archives -> files below one folder, each whole or not at all; and what is done."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from videorwkv.data.unpack.parts import CHUNK
from videorwkv.errors import DataError

STATE = ".videorwkv-prepare.json"
# One for each folder, as members are written one at a time; the next run goes on in the same file.
UNFINISHED = ".videorwkv-prepare.part"
SAVE_EVERY = 10.0


class UnsafeMemberError(DataError):
    """A member of an archive that would be written outside the folder, or is a link or a device."""


class Conflict(Exception):  # noqa: N818 - a verdict on one member; the caller counts them
    """A file of another size stands under a member's name; it is left as it is."""


class Target:
    """The folder that archives are unpacked into.

    Args:
        root: made if need be.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, folder: str, name: str) -> Path:
        """Where a member goes; `UnsafeMemberError` if that were outside."""
        path = PurePosixPath(name)
        unsafe = (
            path.is_absolute()
            or ".." in path.parts
            or "\0" in name
            # On Windows, `C:x` and `..\\x` lead outside as well.
            or (os.name == "nt" and (PureWindowsPath(name).anchor or "\\" in name))
        )
        if unsafe or not path.parts:
            raise UnsafeMemberError(
                f"member {name!r} would be written outside {self.root}; refused."
            )
        return self.root / folder / path

    def stands(self, path: Path, size: int) -> bool:
        """Whether the file is there; `Conflict` where it has another size, `DataError` where the
        folder can't be looked into."""
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise _unwritable(path, error) from error
        if found.st_size != size or path.is_dir():
            raise Conflict(f"{path} has {found.st_size:,} bytes, the archive's {size:,}")
        return True

    def write(self, path: Path, size: int, content: IO[bytes]) -> None:
        """Write a file under another name, then rename it.

        Raises:
            DataError: the disk is full or can't be written to.
            EOFError: `content` is shorter than `size`.
            Exception: what reading `content` raises; nothing stays then.
        """
        unfinished = path.with_name(UNFINISHED)
        try:
            with _writing(path):
                file = _create(unfinished)
            written = 0
            with file:
                while chunk := content.read(CHUNK):
                    written += len(chunk)
                    with _writing(path):
                        file.write(chunk)
                        file.flush()
            if written != size:
                raise EOFError(f"{path.name} breaks off")
            with _writing(path):
                os.replace(unfinished, path)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise


def _create(path: Path) -> IO[bytes]:
    try:
        return path.open("wb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Errors of the target are errors for the user; those of the source are the caller's."""
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> DataError:
    return DataError(
        f"{path} can't be written ({error.strerror or error}). What is complete stays: make room "
        "or choose another folder with --out, then run the same command again."
    )


class State:
    """What is done, in a small file in the target folder: done archives are not read again.

    Args:
        root: the target folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / STATE
        self._saved = time.monotonic()
        try:
            known = json.loads(self._path.read_text(encoding="utf-8"))
            self._done: dict[str, dict[str, Any]] = dict(known["done"])
            self._begun: dict[str, dict[str, Any]] = dict(known["begun"])
            self._checked: set[str] = set(known["checked"])
        except FileNotFoundError:
            self._done, self._begun, self._checked = {}, {}, set()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self._path} can't be read ({error}). Delete it: then everything is looked "
                "through again, and what stands is kept."
            ) from error

    def is_done(self, identity: str) -> bool:
        """Whether an archive is unpacked, and its first and last file still stand."""
        known = self._done.get(identity)
        return known is not None and all((self._root / name).exists() for name in known["ends"])

    def done(self, identity: str, place: str, *, clips: int, ends: list[Path]) -> None:
        """An archive is unpacked; `ends` are its first and its last file."""
        relative = [end.relative_to(self._root).as_posix() for end in ends]
        self._done[identity] = {"place": place, "clips": clips, "ends": relative}
        self._begun.pop(place, None)
        self.save()

    def clips(self, identity: str) -> int:
        """Clips in an archive that is done."""
        return int(self._done[identity]["clips"])

    def begun(self, place: str) -> int:
        """Bytes on disk that an archive has come to before, whichever parts of it there were."""
        known = self._begun.get(place)
        if known is None or not (self._root / known["last"]).exists():
            return 0
        return int(known["size"])

    def reached(self, place: str, size: int, last: Path) -> None:
        """An archive has come to `size` bytes on disk, and to the file `last`."""
        if size >= self.begun(place):
            self._begun[place] = {"size": size, "last": last.relative_to(self._root).as_posix()}
        if time.monotonic() - self._saved > SAVE_EVERY:
            self.save()

    def is_checked(self, identity: str) -> bool:
        """Whether a part has been checked against its sum."""
        return identity in self._checked

    def checked(self, identity: str) -> None:
        self._checked.add(identity)
        self.save()

    def save(self) -> None:
        """`DataError` if the folder can't be written to."""
        self._saved = time.monotonic()
        content = {"done": self._done, "begun": self._begun, "checked": sorted(self._checked)}
        unfinished = self._path.with_name(f"{STATE}.new")
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(json.dumps(content), encoding="utf-8")
            os.replace(unfinished, self._path)
        except OSError as error:
            raise DataError(
                f"{self._path} can't be written ({error.strerror}). Make room or choose another "
                "folder with --out; what is complete stays."
            ) from error


@contextmanager
def only_one(root: Path) -> Iterator[None]:
    """`DataError` while another process unpacks into `root`: both would write the same files."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{root} can't be made ({error.strerror}). Choose another folder with --out."
        ) from error
    try:
        import fcntl
    except ImportError:  # Windows refuses to rename a file that another process writes
        yield
        return
    handle = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{root}: another process is unpacking into this folder.") from None
        except OSError:
            pass  # network file systems without locks
        yield
    finally:
        os.close(handle)
