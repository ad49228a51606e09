"""TensorBoard: `RUN/tensorboard/`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from videorwkv.training.loggers.base import LoggedRun, scalars


class TensorBoard:
    """Curves as event files in the run's folder."""

    def begin(self, run: LoggedRun) -> str:
        from torch.utils.tensorboard import SummaryWriter

        # What an earlier attempt logged after its last checkpoint is hidden.
        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.step + 1)
        return ""

    def log(self, entry: Mapping[str, Any]) -> None:
        for name, value in scalars(entry).items():
            self._writer.add_scalar(name, value, entry["step"])

    def end(self, *, finished: bool) -> None:
        self._writer.close()
