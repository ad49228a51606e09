"""What a run tells while it goes: progress bar, log.jsonl, and the loggers that were asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from videorwkv.training.loggers import Loggers
from videorwkv.training.loggers.jsonl import LOG_FILE, JsonLog
from videorwkv.utils.options import dataclass_to_dict
from videorwkv.utils.progress import LINES_EVERY, duration, make_bar, make_console, seconds_left
from videorwkv.utils.words import counted

if TYPE_CHECKING:
    from videorwkv.inference.baselines import Baseline
    from videorwkv.inference.timeline.results import Validation


# Unreadable clips that are named in the terminal; log.jsonl has them all.
NAMED = 20
# Seconds: what takes less needs no estimate; the longest time between two lines without a bar.
WORTH_TELLING = 60.0
RARELY = 600.0
# A stretch of training over which waiting for data is judged: steps and seconds, at least.
STRETCH = (30, 20.0)


class Monitor:
    """Averages steps over a window and writes them out; a context manager.

    Args:
        folder: the run's folder.
        step: where the run starts; later entries of an earlier attempt are dropped.
        total_steps: where it ends.
        quiet: write the files only, nothing to the terminal.
        loggers: what is told beside log.jsonl; they have begun, and are ended by whoever made them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        step: int,
        total_steps: int,
        quiet: bool = False,
        loggers: Loggers | None = None,
    ) -> None:
        self.console = make_console(quiet=quiet, highlight=False)
        self._file = JsonLog(folder, step)
        self.log_path = self._file.path
        self._loggers = loggers
        # About 2,000 points draw a curve of any run; a short one is logged whole.
        self._every = max(1, total_steps // 2000)
        self._total_steps = total_steps
        self._window: list[dict[str, float]] = []
        self._window_start = time.perf_counter()
        self._since_validation = _Pace()
        self._stretch: _Pace | None = None
        self._warned = False
        self._doubt = ""
        self._named = 0
        self._progress = make_bar(
            self.console,
            "step {task.completed:.0f}/{task.total:.0f}",
            "{task.fields[numbers]}",
        )
        self._task = self._progress.add_task(
            "train", total=total_steps, completed=step, begun=step, numbers=""
        )
        self._begun_at = step
        self._begun = self._told = self._window_start
        self._tell_every = LINES_EVERY

    def __enter__(self) -> Monitor:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def step(
        self, step: int, *, epoch: int, lr: float, grad_norm: float, loss: float, correct: float,
        clips: int, waited: float,
    ) -> None:  # fmt: skip
        """One optimiser step.

        Args:
            step: steps taken so far, this one included.
            epoch: the epoch it belongs to.
            lr: its learning rate.
            grad_norm: the gradient's norm before clipping.
            loss: mean over its clips.
            correct: clips named right; of windows of a timeline, the sum of the shares of their
                frames.
            clips: clips in it.
            waited: seconds spent waiting for its data.
        """
        self._window.append(
            {"loss": loss * clips, "correct": correct, "clips": clips, "norm": grad_norm,
             "waited": waited}
        )  # fmt: skip
        self._tell_time(step)
        if step % self._every and step != self._total_steps:
            return
        now = time.perf_counter()
        sums = {key: sum(entry[key] for entry in self._window) for key in self._window[0]}
        seconds = max(now - self._window_start, 1e-9)
        values = {
            "loss": sums["loss"] / max(1, sums["clips"]),
            "accuracy": sums["correct"] / max(1, sums["clips"]),
            "grad_norm": sums["norm"] / len(self._window),
            "lr": lr,
            "clips_per_s": sums["clips"] / seconds,
            "waiting": min(1.0, sums["waited"] / seconds),
        }
        num_steps = len(self._window)
        self._window.clear()
        self._window_start = now
        self._write({"kind": "step", "step": step, "epoch": epoch, **values})
        pace = _Pace(num_steps, seconds, sums["waited"], int(sums["clips"]))
        self._since_validation += pace
        self._warn_if_starved(pace)
        numbers = f"loss {values['loss']:.3f}  accuracy {values['accuracy']:.3f}"
        self._progress.update(self._task, completed=step, numbers=numbers)

    def _tell_time(self, step: int) -> None:
        """How long it will take: after the first step, and where no bar shows it now and then."""
        now = time.perf_counter()
        done, total = step - self._begun_at, self._total_steps
        left = seconds_left(now - self._begun, done, total - step)
        if left is None or left < WORTH_TELLING:
            return
        if done == 1:
            self.say(
                f"The first step took {duration(now - self._begun)}, starting up included: at most "
                f"about {duration(left)} for the {total - step} that are left."
            )
        elif not self.console.is_terminal and now - self._told >= self._tell_every:
            self.say(f"step {step} of {total}: about {duration(left)} left")
            self._told = now
            self._tell_every = min(2 * self._tell_every, RARELY)

    def validation(self, step: int, evaluation: Validation, *, best: bool) -> None:
        """One validation."""
        values = evaluation.measures
        counts = {"n_ok": evaluation.n_ok, "n_total": evaluation.n_total}
        doubt = evaluation.warning()
        self._write(
            {"kind": "validation", "step": step, **values, **counts, "best": best, "doubt": doubt}
        )
        self.say(
            f"step {step}: validation {evaluation.headline}"
            + (" (best)" if best else "")
            + f", clips read {evaluation.n_ok}/{evaluation.n_total}" * bool(evaluation.bad)
            + (f"; {self._since_validation}" if self._since_validation.steps else "")
        )
        if doubt and doubt != self._doubt:
            self.say(f"warning: {doubt}")
        self._doubt = doubt
        # Validation is no part of the training rate.
        self._since_validation = _Pace()
        self._window_start = time.perf_counter()

    def signs(
        self, step: int, values: dict[str, object], found: list[str], new: dict[str, str]
    ) -> None:
        """Signs of a failing training: all that was measured, those found, advice on new ones."""
        self._write({"kind": "signs", "step": step, **values, "found": found})
        for name, text in new.items():
            self.say(f"warning ({name}): {text}")

    def bad_clip(self, step: int, path: str, reason: str) -> None:
        """A clip that can't be read, the first time it is met."""
        self._write({"kind": "bad_clip", "step": step, "path": path, "reason": reason})
        self._named += 1
        if self._named <= NAMED:
            self.say(f"unreadable: {reason if path in reason else f'{path}: {reason}'}")
        elif self._named == NAMED + 1:
            self.say(f"More clips can't be read; {self.log_path} lists them (bad_clip).")

    def bad_clips(self, step: int, count: int, total: int) -> None:
        """At the end of a run: how many of its clips can't be read, and where they are listed."""
        listed = str(self.log_path)
        self._write(
            {"kind": "bad_clips", "step": step, "count": count, "of": total, "list": listed}
        )
        if count:
            self.say(
                f"{count} of {counted(total, 'clip')} could not be read (skipped in training, "
                f"wrong in validation); {listed} lists them (bad_clip)."
            )

    def baselines(
        self, step: int, found: Sequence[Baseline], *, train: int, validation: int
    ) -> None:
        """After the last step: how well baselines do, and with how many clips of both splits."""
        scored = [dataclass_to_dict(baseline) for baseline in found]
        counts = {"train": train, "validation": validation}
        self._write({"kind": "baselines", "step": step, **counts, "baselines": scored})

    def _warn_if_starved(self, pace: _Pace) -> None:
        if self._warned:
            return
        if self._stretch is None:
            self._stretch = _Pace()  # from now on: the first steps wait for the workers to start
            return
        self._stretch += pace
        steps, seconds = STRETCH
        if self._stretch.steps < steps or self._stretch.seconds < seconds:
            return
        if self._stretch.waiting <= 1 / 3:
            self._stretch = _Pace()
            return
        self.say(
            f"Training waits for data {self._stretch.waiting:.0%} of the time. More --workers, or "
            "--cache DIR for frames that are decoded once, help; `videorwkv data bench DATA` shows "
            "what takes the time."
        )
        self._warned = True

    def say(self, text: str) -> None:
        """A line for the user, above the progress bar."""
        self.console.print(text, markup=False, soft_wrap=True)

    def logger_failed(self, step: int, name: str, reason: str) -> None:
        """A logger beside log.jsonl that could not be used, for the first time."""
        self._file.log({"kind": "logger_failed", "step": step, "name": name, "reason": reason})
        self.say(
            f"warning: the logger {name} has failed ({reason}). Training goes on, and "
            f"{self.log_path} has all that is logged."
        )

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.log(entry)
        if self._loggers is not None:
            self._loggers.log(entry)


class Unheard(Monitor):
    """Of a process that is not the first of several: it tells nothing and writes nothing."""

    def __init__(
        self,
        folder: Path,
        *,
        step: int,
        total_steps: int,
        quiet: bool = False,
        loggers: Loggers | None = None,
    ) -> None:
        self.console = make_console(quiet=True)
        self.log_path = folder / LOG_FILE
        self._named = 0

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def step(
        self, step: int, *, epoch: int, lr: float, grad_norm: float, loss: float, correct: float,
        clips: int, waited: float,
    ) -> None:  # fmt: skip
        pass

    def validation(self, step: int, evaluation: Validation, *, best: bool) -> None:
        pass

    def _write(self, entry: dict[str, Any]) -> None:
        pass


class _Pace(NamedTuple):
    """How fast a stretch of training went: steps, seconds in all, seconds of waiting, clips."""

    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    clips: int = 0

    def __add__(self, other: tuple[Any, ...]) -> _Pace:
        return _Pace(*(mine + more for mine, more in zip(self, other, strict=True)))

    @property
    def waiting(self) -> float:
        return min(1.0, self.waited / max(self.seconds, 1e-9))

    def __str__(self) -> str:
        rate = self.clips / max(self.seconds, 1e-9)
        waits = f", {self.waiting:.0%} of it waiting for data" if self.waiting >= 0.05 else ""
        return f"training {rate:.1f} clips/s{waits}"
