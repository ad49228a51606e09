"""Every error that a user can meet.

VideoRWKVError
├── UsageError          a wrong argument: unknown name, wrong value, missing file
│   └── ConfigError     a model, recipe or option that can't be built
├── DecodeError         a video that can't be opened or decoded
├── DataError           a data set that can't be used as it stands
│   └── ManifestError   a row or a label that can't be understood (names file and line)
├── CheckpointError     a run or weights that can't be read or matched, or a result written
└── NonFiniteError      NaN or infinity, with the name of the module that made it

A message says what happened, what was got, what is allowed and what to do next. The command line
prints it as one line; `UsageError` ends with exit code 2, every other with 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VideoRWKVError(Exception):
    """Base of all errors that this package raises on purpose."""


class UsageError(VideoRWKVError, ValueError):
    """An argument is wrong: the caller can mend it."""


class ConfigError(UsageError):
    """A model, recipe or option that can't be built."""


class DecodeError(VideoRWKVError):
    """A video can't be opened or decoded."""


class DataError(VideoRWKVError):
    """A data set can't be used as it stands."""


class ManifestError(DataError):
    """A row or a label of a data set can't be understood."""


class CheckpointError(VideoRWKVError):
    """A run or its weights can't be read or matched, or a result can't be written."""


class NonFiniteError(VideoRWKVError):
    """NaN or infinity appeared; the message names the module that made it."""


def did_you_mean(name: str, names: Iterable[str], *, lead: str = "Available") -> str:
    """The end of an error about an unknown `name`: the nearest allowed one, then all after `lead`.

    Of more than 40 names, as data sets have labels, only the first are shown.
    """
    allowed = list(names)
    near = difflib.get_close_matches(name, allowed, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    more = f", and {len(allowed) - 20} more" if len(allowed) > 40 else ""
    shown = allowed[:20] if more else allowed
    return f"{hint}{lead}: {', '.join(shown) if shown else 'none'}{more}."
