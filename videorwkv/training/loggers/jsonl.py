"""`log.jsonl`: one JSON object a line, which the package itself reads again.

Each has a `kind` and a `step`; docs/training.md lists the kinds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videorwkv.errors import CheckpointError
from videorwkv.utils.files import write_atomic
from videorwkv.utils.interval import interval_text
from videorwkv.utils.values import open_regular, parse_json

LOG_FILE = "log.jsonl"
# Of an entry, by its kind: the numbers that are read again.
NUMBERS = {"step": ("loss", "accuracy"), "validation": ("loss", "top1")}
LONGEST_LINE = 1 << 20


class JsonLog:
    """The file, written.

    Args:
        folder: the run's.
        step: where the run starts; later entries of an earlier attempt are dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / LOG_FILE
        if self.path.exists():
            kept = [entry for entry in read_log(self.path) if entry["step"] <= step]
            text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in kept)
            write_atomic(self.path, text)

    def log(self, entry: Mapping[str, Any]) -> None:
        """Add an entry.

        Raises:
            CheckpointError: it can't be written; resuming needs the file.
        """
        # JSON has no NaN: an infinite validation loss becomes null.
        clean = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in entry.items()
        }
        try:
            # A clip's name may be no UTF-8; what replaces such bytes is JSON's own escape.
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(json.dumps(clean, ensure_ascii=False) + "\n")
        except OSError as error:
            raise CheckpointError(
                f"Can't write {self.path}: {error.strerror or error}. The last checkpoint is "
                "untouched: make room, then continue with --resume."
            ) from error


def best_validation(folder: Path) -> dict[str, Any] | None:
    """The entry of the validation that chose a run's best weights; None without one."""
    log = folder / "log.jsonl"
    entries = read_log(log) if log.is_file() else []
    chosen = [entry for entry in entries if entry["kind"] == "validation" and _is_best(entry)]
    return chosen[-1] if chosen else None


def _is_best(entry: Mapping[str, Any]) -> bool:
    """Whether a line that anybody may have written holds what `describe_best` tells."""
    rates = [entry.get(name) for name in ("top1", "mean_class_accuracy")]
    rates += [entry[name] for name in ("f1_50", "edit") if "f1_50" in entry and name in entry]
    total, doubt = entry.get("n_total"), entry.get("doubt", "")
    return (
        entry.get("best") is True
        and all(isinstance(rate, int | float) and 0 <= rate <= 1 for rate in rates)
        and type(total) is int
        and 0 < total < 2**63
        and isinstance(doubt, str)
    )


def describe_best(entry: Mapping[str, Any]) -> str:
    """`top-1 0.9434 (106 clips: 88 to 98 %), mean class accuracy 0.5000`, and what to doubt; of a
    timeline `F1@50 0.9021, frame accuracy 0.9434`; of several labels a clip `mAP 0.5312, ...`."""
    sure = interval_text(round(entry["top1"] * entry["n_total"]), entry["n_total"])
    doubt = entry.get("doubt", "")  # logs of version 0.1 have none
    if "f1_50" in entry:
        text = f"F1@50 {entry['f1_50']:.4f}, frame accuracy {entry['top1']:.4f}"
        return text + f"; {doubt}" * bool(doubt)
    precision = entry.get("mean_average_precision")
    if isinstance(precision, int | float):
        text = f"mAP {precision:.4f}, best class right {entry['top1']:.4f}"
        return text + f"; {doubt}" * bool(doubt)
    return (
        f"top-1 {entry['top1']:.4f} ({sure}), mean class accuracy "
        f"{entry['mean_class_accuracy']:.4f}" + f"; {doubt}" * bool(doubt)
    )


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The entries of a `log.jsonl`, which have a `kind` and a `step`, and numbers where numbers
    belong; lines that a crash has cut off, or that hold anything else, are left out.

    Raises:
        CheckpointError: it can't be read, or is no regular file.
    """
    try:
        with open_regular(path) as file:
            # A line that never ends fills no memory.
            lines = iter(lambda: file.readline(LONGEST_LINE), b"")
            return [entry for line in lines if (entry := _entry(line)) is not None]
    except OSError as error:
        raise CheckpointError(
            f"{path} can't be read: {error.strerror or error}. Move it away: a run goes on without."
        ) from error


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = parse_json(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
        return None
    step = entry.get("step")
    if type(step) is not int or not 0 <= step < 2**63:
        return None
    for name in NUMBERS.get(entry["kind"], ()):
        value = entry.get(name)
        # `null` stands for a loss that was not finite.
        is_null = value is None and name == "loss" and name in entry
        is_number = isinstance(value, int | float) and abs(value) < 1e300
        if not (is_null or is_number):
            return None
    return entry


def validations(path: Path, step: int) -> list[dict[str, Any]]:
    """The validations that a `log.jsonl` has up to a step, oldest first; none where it is gone.
    Of one that was made again, as the run had been killed before its checkpoint, the last."""
    entries = read_log(path) if path.is_file() else []
    found = {e["step"]: e for e in entries if e["kind"] == "validation" and e["step"] <= step}
    return list(found.values())
