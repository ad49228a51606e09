"""JSON that may have been damaged, or written by somebody else: bounded, checked, and sealed.

A seal is a checksum inside the object that it covers. It tells damage from what was written; it is
no signature, and files without one (of earlier versions) are read as they are.
"""

from __future__ import annotations

import errno
import json
import os
import reprlib
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

# What a description of a run or of a clip takes, many times over.
MOST_BYTES = 64 << 20
SEAL = "crc32"

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 80
_short.maxlevel = 2


def brief(value: object) -> str:
    """`repr` for a message: of at most a few hundred characters, whatever the value is."""
    # A pickle may share its parts so that writing them all out would never end.
    return _short.repr(value)


def open_regular(path: str | Path) -> IO[bytes]:
    """A regular file, open for reading.

    Raises:
        OSError: it can't be read, or is no regular file: a pipe would be waited for, and some
            devices never end.
    """
    # Opening a pipe waits for a writer, unless it is told not to.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    file = open(handle, "rb")  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return file


def read_limited(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Raises:
        OSError: as `open_regular`.
        ValueError: it is larger.
    """
    parts: list[bytes] = []
    left = most
    with open_regular(path) as file:
        # In pieces: Python makes room for all that is asked for.
        while part := file.read(min(left + 1, 1 << 20)):
            left -= len(part)
            if left < 0:
                raise ValueError(f"it has more than {most:,} bytes")
            parts.append(part)
    return b"".join(parts)


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; `ValueError`, and nothing else, where it is none.

    NaN and infinity are no JSON, though Python reads and writes them.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("objects or lists are nested too deeply") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def read_json(path: str | Path, most: int = MOST_BYTES) -> dict[str, Any]:
    """The JSON object in a file, its seal checked and taken off.

    Raises:
        OSError: it can't be read, or is no regular file.
        ValueError: it is too large, no JSON, no object, or not what was written.
    """
    return unsealed(parse_json(read_limited(path, most)))


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The object with its checksum in it."""
    return {**values, SEAL: _checksum(values)}


def unsealed(values: Any) -> dict[str, Any]:
    """The way back from `sealed`; an object without a seal is given as it is.

    Raises:
        ValueError: no object, or its checksum is that of another one.
    """
    if not isinstance(values, dict):
        raise ValueError(f"got {brief(values)}; wanted an object, {{...}}")
    # In frame caches of version 0.1.0, a list of sums has that name.
    if not isinstance(values.get(SEAL), str):
        return values
    rest = {key: value for key, value in values.items() if key != SEAL}
    if values[SEAL] != _checksum(rest):
        raise ValueError(
            f'it has changed since it was written (its checksum "{SEAL}" is that of another text)'
        )
    return rest


def _checksum(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x}"
