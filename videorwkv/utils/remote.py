"""Files at an address, `https://host/clip.mp4` or `s3://bucket/clip.mp4`, through fsspec."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from videorwkv.errors import DataError, DecodeError, UsageError
from videorwkv.utils.files import decimal

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://", re.I)
# fsspec knows more, among them some that run commands, open other files or ask for passwords.
SCHEMES = ("http", "https", "s3", "gs", "gcs", "az", "abfs", "abfss", "hf", "memory")
# Whole in memory: a clip, or the index of shards.
MOST_BYTES = 2 << 30
# Seconds before another attempt where a network fails.
PAUSES = (1.0, 5.0)

T = TypeVar("T")


def is_address(text: str) -> bool:
    """Whether it begins as `scheme://`; a path does not."""
    return _ADDRESS.match(text) is not None


def check_address(address: str) -> None:
    """`UsageError` unless its scheme is in `SCHEMES`."""
    found = _ADDRESS.match(address)
    scheme = found[1].lower() if found else ""
    # fsspec reads `a::b` as a file inside of another.
    if scheme not in SCHEMES or "::" in address:
        raise UsageError(
            f"{address}: addresses of this kind are not read. Allowed: "
            f"{', '.join(f'{name}://' for name in SCHEMES[:-1])}. Download the file and give its "
            "path."
        )


def read_address(address: str) -> bytes:
    """The content of a file of at most `MOST_BYTES`; errors as in `describe_address`, and
    `DecodeError` if it is larger."""
    system, path = _system(address)
    size = describe_address(address)[0]
    if size is not None and size > MOST_BYTES:
        raise DecodeError(
            f"{address}: {decimal(size)} are more than the {decimal(MOST_BYTES)} that are read at "
            "once. Download the file, and cut it."
        )
    return bytes(_tried(address, lambda: system.cat_file(path)))


def describe_address(address: str) -> tuple[int | None, str]:
    """Size in bytes, None where the server does not tell, and what changes when the file does.

    Raises:
        UsageError: the scheme is not read, or a package that it needs is not installed.
        DecodeError: no such file, or the server refuses it.
        DataError: the server can't be reached, three times.
    """
    system, path = _system(address)
    found = _tried(address, lambda: system.info(path))
    size = found.get("size")
    names = ("ETag", "etag", "LastModified", "last_modified", "mtime", "created", "md5")
    sign = [str(found[name]) for name in names if found.get(name)]
    return (int(size) if size is not None else None), repr([size, *sign])


def fetch_address(address: str, target: Path) -> None:
    """Copy a file to disk; errors as in `describe_address`, and `OSError` if `target` can't be
    written."""
    system, path = _system(address)
    with target.open("wb"):
        pass  # an error of this disk is none of the network

    def fetch() -> None:
        system.get_file(path, str(target))

    _tried(address, fetch)


def _system(address: str) -> tuple[Any, str]:
    check_address(address)
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"{address}: a package that reads it is not installed ({error}). "
            "pip install 'videorwkv[remote]' brings those for http://, https:// and s3://; for "
            "others, install the package that fsspec names."
        ) from error
    return system, path


def _tried(address: str, action: Callable[[], T]) -> T:
    """The result of `action`, at the third attempt if the network fails twice."""
    for pause in (*PAUSES, None):
        try:
            return action()
        except ImportError as error:
            raise UsageError(f"{address}: {error}. pip install 'videorwkv[remote]'.") from error
        except Exception as error:  # every system has errors of its own
            if reason := _refusal(error):
                raise DecodeError(f"{address}: {reason}.") from error
            if pause is None:
                raise DataError(
                    f"{address}: can't be fetched ({type(error).__name__}: {error}). Once the "
                    "network is back, a training goes on with --resume."
                ) from error
            time.sleep(pause)
    raise AssertionError


def _refusal(error: BaseException) -> str:
    """What a server has answered that another attempt would not change; else nothing."""
    status = getattr(error, "status", None)
    if isinstance(status, int) and 400 <= status < 500 and status not in (408, 429):
        return "no such file" if status in (404, 410) else f"the server refuses it ({status})"
    if isinstance(error, PermissionError):
        return f"access is denied ({error})"
    if isinstance(error, FileNotFoundError):
        # fsspec says so of every failure to ask about a file by http.
        cause = error.__cause__
        return "no such file" if cause is None else _refusal(cause)
    return ""
