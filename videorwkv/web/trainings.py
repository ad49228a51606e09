"""Trainings that a page starts: `videorwkv train`, then `videorwkv export --to web`, each in a
process of its own, so that the page stays live, and the run is one like any other."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from videorwkv.errors import UsageError, VideoRWKVError
from videorwkv.run.run import folder_digest
from videorwkv.training.compare import scored_before
from videorwkv.training.loggers.jsonl import LOG_FILE, best_validation, read_log
from videorwkv.utils.interval import interval
from videorwkv.utils.progress import seconds_left
from videorwkv.utils.words import counted
from videorwkv.web.clips import ENOUGH_CLIPS
from videorwkv.web.server import files_of
from videorwkv.web.site import is_site

# Points of a curve that a page is given.
POINTS = 200
# Seconds for a training to write its checkpoint and end.
GRACE = 20.0
# Where `videorwkv serve` looks for a run's page.
SITE_FOLDER = "web"
# Phases in which nothing runs, and those in which something does.
IDLE, DONE, FAILED, CANCELLED = "idle", "done", "failed", "cancelled"
TRAINING, EXPORTING = "training", "exporting"


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What all trainings of a page share.

    Args:
        steps: optimiser steps; None: as many as `train` chooses.
        device: as of `train`.
        runtime: the archive of ONNX Runtime for browsers, for a machine without npm.
    """

    steps: int | None = None
    device: str = "auto"
    runtime: str | None = None


class Trainings:
    """At most one at a time; a context manager that ends it. Safe for several threads.

    Args:
        data: the folder of clips.
        out: the folder of the first run; those after it get `-2`, `-3` and so on behind its name.
        options: of every training.

    Raises:
        UsageError: `out` lies in `data`, where it would be a class.
    """

    def __init__(self, data: Path, out: Path, options: TrainingOptions) -> None:
        self.data, self.out, self.options = data, out, options
        if data in (out.absolute(), *out.absolute().parents):
            raise UsageError(
                f"--out {out} lies in the folder of the clips, where it would be a class. Choose "
                "a folder beside it."
            )
        self._lock = threading.Lock()
        self._cache = tempfile.TemporaryDirectory(prefix="videorwkv-teach-")
        self._said = Path(self._cache.name, "said.txt")
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._is_cancelled = False
        self._error = ""
        self._begun: tuple[int, float] | None = None
        # The last run that can be tried, and the files of its page.
        self.tried: Path | None = None
        self.site: Mapping[str, Path] = {}
        self.run, self.phase = out, IDLE
        if (last := self._last()) is not None:
            self._finish(last)

    def __enter__(self) -> Trainings:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End what runs, and forget the decoded frames."""
        self.cancel()
        if self._thread is not None:
            self._thread.join()
        self._cache.cleanup()

    @property
    def is_running(self) -> bool:
        """Whether a training goes on, or its export."""
        return self.phase in (TRAINING, EXPORTING)

    def start(self, classes: Mapping[str, Sequence[object]]) -> None:
        """Train on what the folder has now.

        Args:
            classes: clips of each class.

        Raises:
            UsageError: one goes on already.
        """
        with self._lock:
            if self.is_running:
                raise UsageError("A training goes on already. Wait for it, or cancel it.")
            self.run, self.phase = self._next(), TRAINING
            self._is_cancelled, self._error, self._begun = False, "", None
            holds_back = all(len(clips) >= ENOUGH_CLIPS for clips in classes.values())
            thread = threading.Thread(
                target=self._work, args=(holds_back,), daemon=True, name="videorwkv-teach"
            )
            self._thread = thread
            thread.start()

    def cancel(self) -> None:
        """Ask what runs to end; a training writes its checkpoint first."""
        with self._lock:
            if self.is_running:
                self._is_cancelled = True
                if self._process is not None:
                    self._process.terminate()

    def status(self) -> dict[str, Any]:
        """Where it stands, as JSON: what a page shows."""
        phase, run = self.phase, self.run
        tried = None if self.tried is None else str(self.tried)
        found: dict[str, Any] = {"phase": phase, "run": str(run), "tried": tried}
        if phase == IDLE:
            return found
        log = _log(run)
        steps = [entry for entry in log if entry["kind"] == "step"]
        step, total = (steps[-1]["step"] if steps else 0), _total(run)
        found |= {"step": step, "total": total, "curve": _curve(steps)}
        found["validations"] = [[e["step"], e["top1"]] for e in log if e["kind"] == "validation"]
        found["left"] = self._left(step, total) if phase == TRAINING else None
        found["scoring"] = phase == TRAINING and total is not None and step >= total
        found["error"] = self._error
        if phase == DONE:
            found["result"] = _result(run, log)
        return found

    def _left(self, step: int, total: int | None) -> float | None:
        if not step or total is None:
            return None
        now = time.monotonic()
        if self._begun is None:
            self._begun = step, now
        first, began = self._begun
        return seconds_left(now - began, step - first, total - step)

    def _runs(self) -> list[Path]:
        """Folders of runs that are there, in their order, and one that is not."""
        found = [self.out]
        while found[-1].exists():
            found.append(self.out.with_name(f"{self.out.name}-{len(found) + 1}"))
        return found

    def _next(self) -> Path:
        return self._runs()[-1]

    def _last(self) -> Path | None:
        """The last run that can be tried; those of another folder of that name are not ours."""
        own = folder_digest(self.data)
        sites = (run for run in reversed(self._runs()) if is_site(run / SITE_FOLDER))
        return next((run for run in sites if _config(run, "data", "place") == own), None)

    def _work(self, holds_back: bool) -> None:
        """All of a training, in a thread."""
        try:
            self._train_and_export(holds_back)
        except OSError as error:  # no process could be started; else it would go on for ever
            self._error, self.phase = f"It can't be run here: {error}.", FAILED

    def _train_and_export(self, holds_back: bool) -> None:
        run, options = self.run, self.options
        train = ["train", str(self.data), "--out", str(run), "--device", options.device]
        # Decoded once: most of the time would go there.
        train += ["--cache", str(Path(self._cache.name, "frames")), "--log", "jsonl"]
        if options.steps is not None:
            train += ["--steps", str(options.steps)]
        if not holds_back:
            train += ["--validation-share", "0"]
        export = ["export", str(run), "--to", "web", "--out", str(run / SITE_FOLDER)]
        if options.runtime is not None:
            export += ["--runtime", options.runtime]
        for phase, command in ((TRAINING, train), (EXPORTING, export)):
            self.phase = phase
            code = self._call(command)
            if self._is_cancelled:
                self.phase = CANCELLED
                return
            if code:
                self._error = _reason(self._said, code)
                self.phase = FAILED
                return
        if not is_site(run / SITE_FOLDER):
            self._error, self.phase = f"{run} has no page to try it with.", FAILED
            return
        self._finish(run)

    def _finish(self, run: Path) -> None:
        # Last: a page that is told of a new run asks for its files at once.
        self.site = files_of(run / SITE_FOLDER)
        self.run = self.tried = run
        self.phase = DONE

    def _call(self, command: Sequence[str]) -> int:
        """A command of this package, in its own process; its exit code."""
        own: dict[str, Any] = {"start_new_session": True}
        if os.name == "nt":
            own = {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
        self._said.parent.mkdir(0o700, exist_ok=True)  # a system may have cleared /tmp
        with self._said.open("wb") as said:
            with self._lock:
                if self._is_cancelled:
                    return 1
                # Ctrl-C in the terminal is heard by this program, which ends that one.
                self._process = process = _started(command, said, own)
            ends = None
            while process.poll() is None:
                time.sleep(0.1)
                if self._is_cancelled:
                    ends = ends or time.monotonic() + GRACE
                    if time.monotonic() > ends:
                        _kill(process)
            with self._lock:
                self._process = None
            return process.returncode


def _started(
    command: Sequence[str], said: IO[bytes], own: dict[str, Any]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "videorwkv", *command],
        stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, **own,
    )  # fmt: skip


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With the workers that it may have left."""
    if hasattr(os, "killpg"):
        with suppress(OSError):  # it has just ended
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _reason(said: Path, code: int) -> str:
    """Why a command failed, by what it printed."""
    lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    for line in reversed(lines):
        if found := re.match(r"videorwkv: error: (.*)", line):
            return found[1]
    last = lines[-1] if lines else "it printed nothing"
    return f"The training's process ended with exit code {code}: {last}"


def _log(run: Path) -> list[dict[str, Any]]:
    try:
        return read_log(run / LOG_FILE)
    except VideoRWKVError:  # there is none yet
        return []


def _total(run: Path) -> int | None:
    """Steps of a run, where its recipe counts them."""
    steps = _config(run, "recipe", "steps")
    return steps if type(steps) is int and steps > 0 else None


def _config(run: Path, part: str, name: str) -> Any:
    """What stands in a run's config.json; None where it does not."""
    try:
        return json.loads((run / "config.json").read_text(encoding="utf-8"))[part][name]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _curve(steps: Sequence[Mapping[str, Any]]) -> list[list[float | None]]:
    """[step, loss, accuracy], each the mean over neighbours."""
    width = max(1, -(-len(steps) // POINTS))
    points = []
    for start in range(0, len(steps), width):
        part = steps[start : start + width]
        losses = [entry["loss"] for entry in part if entry["loss"] is not None]
        loss = sum(losses) / len(losses) if losses else None
        points.append([part[-1]["step"], loss, sum(e["accuracy"] for e in part) / len(part)])
    return points


def _result(run: Path, log: list[dict[str, Any]]) -> list[str]:
    """How good a run is, in sentences."""
    best = best_validation(run)
    if best is not None:
        return _scores(best, log)
    return [
        f"How good it is has not been measured: from {ENOUGH_CLIPS} clips of each class on, a "
        "fifth of them is held back for that."
    ]


def _scores(best: Mapping[str, Any], log: list[dict[str, Any]]) -> list[str]:
    total = best["n_total"]
    right = round(best["top1"] * total)
    low, high = interval(right, total)
    lines = [
        f"Of {counted(total, 'clip')} held back from training it names {right} right "
        f"({100 * right / total:.0f} %; so few clips leave open {100 * low:.0f} to "
        f"{100 * high:.0f} %)."
    ]
    scored = scored_before(log)
    if scored is not None:
        baseline = max(scored.baselines, key=lambda baseline: baseline.best)
        theirs = round(baseline.best * scored.validation)
        lines.append(
            f"Without a network, the best of some simple rules ({baseline.name}) names {theirs} "
            "right."
        )
        if right == total == theirs:
            lines.append("So these clips can't tell the two apart: record harder ones.")
        elif theirs >= right:
            lines.append("So the model has not learnt more than that: record more clips.")
    lines.append(
        "Clips of one sitting look alike. Other people, places and distances are harder, until "
        "there are clips of them."
    )
    return lines
