"""The loggers of a training, so held that none of them can stop it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from videorwkv.errors import UsageError
from videorwkv.run.run import Run
from videorwkv.training.loggers.base import LoggedRun, Logger
from videorwkv.training.loggers.choose import NAMES
from videorwkv.training.loggers.known import Known, is_id, read_known, write_known
from videorwkv.utils.values import brief

# Failures in a row after which a logger is left alone: each may have waited minutes for a network.
FAILURES = 3

# Called with the step, the logger's name and the reason.
Tell = Callable[[int, str, str], None]
T = TypeVar("T")


@dataclass
class _Held:
    """A logger; how often in a row it has failed; whether the user knows."""

    name: str
    logger: Logger
    failures: int = 0
    told: bool = False


class Loggers:
    """Loggers by their names, as one; a context manager that ends them.

    Attributes:
        finished: set it where the training has taken all its steps, before the end.
    """

    def __init__(self) -> None:
        self._held: list[_Held] = []
        self._step = 0
        self._tell: Tell | None = None
        self.finished = False

    def __enter__(self) -> Loggers:
        return self

    def __exit__(self, *error: object) -> None:
        for held in self._begun():
            self._call(held, partial(held.logger.end, finished=self.finished))

    def begin(self, chosen: Mapping[str, Logger], run: Run, step: int, tell: Tell) -> None:
        """All of them begin, or go on with what they logged of this run before.

        Args:
            chosen: loggers by their names (`choose`).
            run: the training; its folder notes which loggers it has, and how they call it.
            step: steps that have been taken.
            tell: is told of each logger that fails, once.

        Raises:
            CheckpointError: the note can't be read or written.
        """
        self._step, self._tell = step, tell
        ids = dict(read_known(run.folder).ids)
        config = _config(run)
        for name, logger in chosen.items():
            held = _Held(name, logger)
            logged = LoggedRun(folder=run.folder, step=step, config=config, known=ids.get(name, ""))
            found = self._call(held, partial(_begin, logger, logged))
            if held.failures:
                continue  # what has not begun can't be told anything
            self._held.append(held)
            if found:
                ids[name] = found
        noted = tuple(name for name in chosen if name.partition(":")[0] in NAMES)
        write_known(run.folder, Known(noted, ids))

    def log(self, entry: Mapping[str, Any]) -> None:
        """An entry of log.jsonl, to all of them."""
        self._step = entry["step"]
        for held in self._begun():
            self._call(held, partial(held.logger.log, entry))

    def _begun(self) -> list[_Held]:
        return [held for held in self._held if held.failures < FAILURES]

    def _call(self, held: _Held, action: Callable[[], T]) -> T | None:
        """What a method returns; None if it has failed, which is told once."""
        try:
            with redirect_stdout(sys.stderr):  # some greet there; it is for the result alone
                done = action()
        except Exception as error:  # noqa: BLE001 -- whatever it is, the training is worth more
            held.failures += 1
            if not held.told and self._tell is not None:
                held.told = True
                first = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
                self._tell(self._step, held.name, first)
            return None
        held.failures = 0
        return done


def _begin(logger: Logger, run: LoggedRun) -> str:
    found = logger.begin(run)
    if found != "" and not is_id(found):
        raise UsageError(
            f"begin returned {brief(found)}; letters, digits, -, _ and . are wanted, or nothing"
        )
    return found


def _config(run: Run) -> dict[str, Any]:
    """What services show beside the curves: all that config.json has, but for long lists."""
    data = {name: run.data.get(name) for name in ("name", "digest", "splits")}
    start = None if run.init is None else run.init.get("source")
    recipe = run.recipe.to_dict()
    return {"recipe": recipe, "data": data, "versions": dict(run.versions), "init": start}
