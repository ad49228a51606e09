"""MLflow (extra `mlflow`).

Server and access (`MLFLOW_TRACKING_URI` and so on) are its own settings.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from videorwkv.training.loggers.base import PROJECT, LoggedRun, scalars
from videorwkv.utils.optional import load

# What MLflow takes at once, and of a value.
_MOST_PARAMS, _LONGEST = 100, 6000


class MLflowLogger:
    """A run of MLflow, by its client: the active run of the process is not touched.

    Args:
        project: the experiment; empty: that of `MLFLOW_EXPERIMENT_NAME`, else `videorwkv`.

    Raises:
        UsageError: mlflow is not installed.
    """

    def __init__(self, project: str) -> None:
        self._mlflow = load("mlflow", "The logger mlflow")
        self._entities = load("mlflow.entities", "The logger mlflow")
        self._project = project or os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT

    def begin(self, run: LoggedRun) -> str:
        self._client = self._mlflow.MlflowClient()
        if run.known:
            self._id = run.known
            self._client.update_run(self._id, status="RUNNING")
            return run.known
        experiment = self._client.get_experiment_by_name(self._project)
        number = experiment.experiment_id if experiment else None
        if number is None:
            number = self._client.create_experiment(self._project)
        self._id = str(self._client.create_run(number, run_name=run.name).info.run_id)
        params = [self._entities.Param(name, value[:_LONGEST]) for name, value in _flat(run.config)]
        for first in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._id, params=params[first : first + _MOST_PARAMS])
        return self._id

    def log(self, entry: Mapping[str, Any]) -> None:
        now, step = time.time_ns() // 1_000_000, entry["step"]
        values = scalars(entry).items()
        if values:
            metrics = [self._entities.Metric(name, value, now, step) for name, value in values]
            self._client.log_batch(self._id, metrics=metrics)

    def end(self, *, finished: bool) -> None:
        self._client.set_terminated(self._id, "FINISHED" if finished else "KILLED")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """`{"a": {"b": 1}}` -> `("a.b", "1")`: params of MLflow are texts."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)
