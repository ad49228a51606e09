"""What a logger is: three methods, which are told what `log.jsonl` is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

# Of the entries that have curves: the numbers that are drawn, those that there are, under which
# name. A timeline has the last three in place of top-5.
_CURVES = {
    "step": ("train", ("loss", "accuracy", "grad_norm", "lr", "clips_per_s", "waiting")),
    "validation": (
        "validation",
        (
            *("loss", "top1", "top5", "mean_class_accuracy", "mean_average_precision"),
            *("f1_50", "edit", "false_alarms_in_10_minutes"),
        ),
    ),
}
# How the project is called in services that sort runs by projects.
PROJECT = "videorwkv"


@dataclass(frozen=True, kw_only=True)
class LoggedRun:
    """The training that a logger is told about.

    Args:
        folder: the run's folder.
        step: steps that have been taken already; a run that is resumed begins there.
        config: recipe, data, versions and start, as `config.json` has them: nested, JSON-ready.
        known: what `begin` returned in an earlier attempt at this run; empty in the first one.
    """

    folder: Path
    step: int
    config: Mapping[str, Any]
    known: str = ""

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name


@runtime_checkable
class Logger(Protocol):
    """Something that is told how a training goes.

    It may raise anything: the training goes on without it. Its methods are called one at a time,
    by the process of a training that writes, and what it prints is sent to stderr.
    """

    def begin(self, run: LoggedRun) -> str:
        """The training begins, or goes on. Returns what will find the logged run again when the
        training is resumed: letters, digits, `-`, `_` and `.`; empty if nothing is needed."""

    def log(self, entry: Mapping[str, Any]) -> None:
        """An entry of log.jsonl: its `kind`, its `step`, and what belongs to the kind
        (docs/training.md). Numbers may be infinite or NaN. `scalars` picks those with curves."""

    def end(self, *, finished: bool) -> None:
        """The training ends: all steps were taken, or it may be resumed."""


def scalars(entry: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an entry that are drawn as curves, by their names: `train/loss`,
    `validation/top1`, `baseline/middle_frame` and so on. Empty for entries without any."""
    if entry["kind"] == "baselines":
        # MLflow takes no `+`.
        return {
            f"baseline/{re.sub(r'[^a-z0-9]+', '_', found['name'].lower())}": float(
                max(found["nearest"], found["ridge"])
            )
            for found in entry["baselines"]
        }
    prefix, names = _CURVES.get(entry["kind"], ("", ()))
    return {f"{prefix}/{name}": float(entry[name]) for name in names if name in entry}
