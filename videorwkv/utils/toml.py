"""Options as TOML: written by hand, as the standard library only reads it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videorwkv.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def toml_text(values: Mapping[str, Any]) -> str:
    """JSON-ready values as TOML; what is None is left out, which TOML has no word for.

    Args:
        values: numbers, text, truth values, lists of them, and mappings of all of these.
    """
    return "\n".join(_lines(values, ())) + "\n"


def _lines(values: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    lines = [f"[{'.'.join(path)}]"] if path else []
    given = {key: value for key, value in values.items() if value is not None}
    lines += [f"{key} = {_value(value)}" for key, value in given.items() if not _is_table(value)]
    for key, value in given.items():
        if _is_table(value):
            lines += ["", *_lines(value, (*path, key))]
    return lines


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for the one character that JSON leaves alone.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def read_toml(path: str | Path) -> dict[str, Any]:
    """The values of a TOML file.

    Raises:
        UsageError: it is missing or no TOML; the message says where.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:  # a wrong encoding is one, too
        raise UsageError(f"{path} is no TOML: {error}.") from error
