"""trackio (extra `trackio`): a local dashboard, or a Space of the Hugging Face Hub.

Where it writes (`TRACKIO_DIR`, `TRACKIO_SPACE_ID`, `TRACKIO_SERVER_URL`) is its own setting.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from videorwkv.training.loggers.base import PROJECT, LoggedRun, scalars
from videorwkv.utils.optional import load


class TrackioLogger:
    """A run of trackio.

    Args:
        project: the project; empty: `videorwkv`.

    Raises:
        UsageError: trackio is not installed.
    """

    def __init__(self, project: str) -> None:
        self._trackio = load("trackio", "The logger trackio")
        self._project = project or PROJECT

    def begin(self, run: LoggedRun) -> str:
        # Runs are found again by their names, which two folders may share.
        name = re.sub(r"[^\w-]+", "_", run.name, flags=re.ASCII)[:100]
        known = run.known or f"{name}-{secrets.token_hex(4)}"
        self._run = self._trackio.init(
            project=self._project,
            name=known,
            resume="allow",
            config=dict(run.config),
            embed=False,  # no dashboard in the middle of a notebook
        )
        return known

    def log(self, entry: Mapping[str, Any]) -> None:
        if values := scalars(entry):
            self._run.log(values, step=entry["step"])

    def end(self, *, finished: bool) -> None:
        self._trackio.finish()
