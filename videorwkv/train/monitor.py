"""What a run tells while it goes: progress bar, log.jsonl, TensorBoard."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videorwkv.errors import CheckpointError
from videorwkv.files import write_atomic

if TYPE_CHECKING:
    from videorwkv.evaluate import Evaluation


class Monitor:
    """Averages steps over a window and writes them out; a context manager.

    Args:
        folder: the run's folder.
        step: where the run starts; later entries of an earlier attempt are dropped.
        total_steps: where it ends.
        quiet: write the files only, nothing to the terminal.
    """

    def __init__(self, folder: Path, *, step: int, total_steps: int, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from torch.utils.tensorboard import SummaryWriter

        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self._log_path = folder / "log.jsonl"
        if self._log_path.exists():
            kept = [entry for entry in read_log(self._log_path) if entry["step"] <= step]
            text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in kept)
            write_atomic(self._log_path, text.encode())
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        # About 2,000 points draw a curve of any run; a short one is logged whole.
        self._every = max(1, total_steps // 2000)
        self._total_steps = total_steps
        self._window: list[dict[str, float]] = []
        self._window_start = time.perf_counter()
        self._progress = Progress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self._task = self._progress.add_task("train", total=total_steps, completed=step, numbers="")

    def __enter__(self) -> Monitor:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()
        self._board.close()

    def step(
        self, step: int, *, epoch: int, lr: float, grad_norm: float, loss: float, correct: int,
        clips: int, waited: float,
    ) -> None:  # fmt: skip
        """One optimiser step.

        Args:
            step: steps taken so far, this one included.
            epoch: the epoch it belongs to.
            lr: its learning rate.
            grad_norm: the gradient's norm before clipping.
            loss: mean over its clips.
            correct: clips named right.
            clips: clips in it.
            waited: seconds spent waiting for its data.
        """
        self._window.append(
            {"loss": loss * clips, "correct": correct, "clips": clips, "norm": grad_norm,
             "waited": waited}
        )  # fmt: skip
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
        self._window.clear()
        self._window_start = now
        self._write({"kind": "step", "step": step, "epoch": epoch, **values})
        for name, value in values.items():
            self._board.add_scalar(f"train/{name}", value, step)
        numbers = (
            f"loss {values['loss']:.3f}  accuracy {values['accuracy']:.3f}  "
            f"{values['clips_per_s']:.1f} clips/s  waiting {values['waiting']:.0%}"
        )
        self._progress.update(self._task, completed=step, numbers=numbers)

    def validation(self, step: int, evaluation: Evaluation, *, best: bool) -> None:
        """One validation."""
        values = {
            "loss": evaluation.loss,
            "top1": evaluation.top1,
            "top5": evaluation.top5,
            "mean_class_accuracy": evaluation.mean_class_accuracy,
        }
        counts = {"n_ok": evaluation.n_ok, "n_total": evaluation.n_total}
        self._write({"kind": "validation", "step": step, **values, **counts, "best": best})
        for name, value in values.items():
            self._board.add_scalar(f"validation/{name}", value, step)
        self.say(
            f"step {step}: validation loss {evaluation.loss:.3f}, {evaluation.summary()}"
            + (" (best)" if best else "")
        )
        # Validation is no part of the training rate.
        self._window_start = time.perf_counter()

    def bad_clip(self, step: int, path: str, reason: str) -> None:
        """A clip that can't be read, the first time it is met."""
        self._write({"kind": "bad_clip", "step": step, "path": path, "reason": reason})
        self.say(f"skipped: {path}: {reason}")

    def say(self, text: str) -> None:
        """A line for the user, above the progress bar."""
        self.console.print(text, markup=False, soft_wrap=True)

    def _write(self, entry: dict[str, Any]) -> None:
        # JSON has no NaN: an infinite validation loss becomes null.
        clean = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in entry.items()
        }
        try:
            with self._log_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(clean, ensure_ascii=False) + "\n")
        except OSError as error:
            raise CheckpointError(
                f"Can't write {self._log_path}: {error.strerror or error}. The last checkpoint is "
                "untouched: make room, then go on with --resume."
            ) from error


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The objects of a `log.jsonl`; a last line cut off by a crash is left out."""
    entries = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries
