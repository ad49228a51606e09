"""Weights & Biases (extra `wandb`).

Key, team, server and mode (`WANDB_MODE=offline`) are those of its own settings.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import Any

from videorwkv.training.loggers.base import PROJECT, LoggedRun, scalars
from videorwkv.utils.optional import load


class WandbLogger:
    """A run of Weights & Biases; its local files are in `RUN/wandb/`.

    Args:
        project: the project; empty: that of `WANDB_PROJECT`, else `videorwkv`.

    Raises:
        UsageError: wandb is not installed.
    """

    def __init__(self, project: str) -> None:
        self._wandb = load("wandb", "The logger wandb")
        self._project = project or os.environ.get("WANDB_PROJECT") or PROJECT

    def begin(self, run: LoggedRun) -> str:
        self._run = self._wandb.init(
            project=self._project,
            name=run.name,
            id=run.known or secrets.token_hex(4),
            resume="allow",
            dir=str(run.folder),
            config=dict(run.config),
            # An option that may change on resuming, as the number of workers, may change here.
            allow_val_change=True,
            # What the terminal shows stays there: the progress bar would be logged line by line.
            settings=self._wandb.Settings(console="off"),
        )
        # Its own steps can't go back, which those of a training do that was killed and resumed.
        self._run.define_metric("*", step_metric="step")
        return str(self._run.id)

    def log(self, entry: Mapping[str, Any]) -> None:
        if values := scalars(entry):
            self._run.log({**values, "step": entry["step"]})

    def end(self, *, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)
