"""`loggers.json` in a run's folder: which loggers it has, and how each of them calls the run.

A training that is resumed goes on with the same ones, and with the same logged run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from videorwkv.errors import CheckpointError
from videorwkv.utils.files import write_atomic
from videorwkv.utils.values import brief, read_json, sealed

KNOWN_FILE = "loggers.json"
# It becomes a part of addresses and of names of files.
_ID = re.compile(r"[\w-][\w.-]{0,199}", re.ASCII)


@dataclass(frozen=True)
class Known:
    """What a run's folder notes.

    Args:
        log: the loggers of the last attempt, as `--log` names them; None: nothing is noted.
        ids: a logger, as `--log` names it -> what finds the run there; those of earlier attempts,
            too.
    """

    log: tuple[str, ...] | None = None
    ids: Mapping[str, str] = field(default_factory=dict)


def is_id(found: object) -> bool:
    """Whether this may be an identifier of a run."""
    return isinstance(found, str) and _ID.fullmatch(found) is not None


def read_known(folder: Path) -> Known:
    """The note; an empty one where there is none.

    Raises:
        CheckpointError: it can't be read, or is not what was written.
    """
    path = folder / KNOWN_FILE
    try:
        values = read_json(path, most=1 << 20)
        log, ids = values.get("log"), values.get("ids")
        if not isinstance(log, list) or not all(isinstance(name, str) for name in log):
            raise ValueError(f"log is {brief(log)}; a list of names is wanted")
        if not isinstance(ids, dict) or not all(map(is_id, ids.values())):
            raise ValueError(f"ids is {brief(ids)}; names with identifiers are wanted")
    except FileNotFoundError:
        return Known()
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: {error}. Move it away: the run then goes on under a new name in its loggers."
        ) from error
    return Known(tuple(log), ids)


def write_known(folder: Path, known: Known) -> None:
    """Write the note; `CheckpointError` if that fails."""
    values = {"log": list(known.log or ()), "ids": dict(known.ids)}
    write_atomic(folder / KNOWN_FILE, json.dumps(sealed(values), indent=1) + "\n")
