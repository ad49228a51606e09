"""`--log NAME[:PROJECT][,NAME[:PROJECT]...]` to loggers."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from videorwkv.errors import UsageError, did_you_mean
from videorwkv.training.loggers.base import Logger
from videorwkv.training.loggers.known import read_known

_HERE = "videorwkv.training.loggers"
# Name -> module and class; its argument is the project, empty for the usual one.
_SERVICES = {
    "wandb": (f"{_HERE}.wandb", "WandbLogger"),
    "trackio": (f"{_HERE}.trackio", "TrackioLogger"),
    "mlflow": (f"{_HERE}.mlflow", "MLflowLogger"),
}
# `jsonl` is the file that is written in any case: alone, it means nothing else.
NAMES = ("tensorboard", "jsonl", *_SERVICES)
DEFAULT = ("tensorboard",)


def choose(
    log: str | Sequence[str | Logger] | None, folder: Path, *, resume: bool
) -> dict[str, Logger]:
    """The loggers of a training, none of which has begun.

    Args:
        log: names with commas between them, or a list of names and of loggers of one's own; None:
            those that the run to resume has, else TensorBoard.
        folder: the run's.
        resume: the run goes on.

    Raises:
        UsageError: an unknown name, or a library that is not installed.
        CheckpointError: what the folder notes of its loggers can't be read.
    """
    if log is None:
        noted = read_known(folder).log if resume else None
        log = DEFAULT if noted is None else noted
    chosen: dict[str, Logger] = {}
    for item in log.split(",") if isinstance(log, str) else log:
        name = item.strip() if isinstance(item, str) else type(item).__name__
        if name in chosen:
            raise UsageError(f"log: {name} is named twice.")
        if not isinstance(item, str):
            if not isinstance(item, Logger):
                raise UsageError(
                    f"log: {item!r} is no logger: it needs the methods begin, log and end "
                    "(videorwkv.training.loggers.Logger)."
                )
            chosen[name] = item
        elif (made := _make(name)) is not None:
            chosen[name] = made
    return chosen


def _make(text: str) -> Logger | None:
    name, colon, project = text.partition(":")
    if name not in NAMES:
        raise UsageError(f"log: unknown logger {name!r}. {did_you_mean(name, NAMES)}")
    if colon and (name not in _SERVICES or not project):
        raise UsageError(
            f"log: got {text!r}; allowed: {name}"
            + (f", or {name}:PROJECT" if name in _SERVICES else ", which has no projects")
            + "."
        )
    if name == "jsonl":
        return None
    if name == "tensorboard":
        from videorwkv.training.loggers.tensorboard import TensorBoard

        return TensorBoard()
    module, kind = _SERVICES[name]
    made: Logger = getattr(importlib.import_module(module), kind)(project)
    return made
