"""How well a model finds segments, and the files that keep it. K classes, V videos."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from videorwkv.data.background import background_of
from videorwkv.data.timeline import ActionSegment
from videorwkv.inference.metrics import Evaluation
from videorwkv.inference.timeline import metrics
from videorwkv.inference.timeline.files import write_timelines
from videorwkv.inference.timeline.segments import Timeline, TimelineOptions
from videorwkv.utils.files import make_folder, write_atomic, write_csv
from videorwkv.utils.options import dataclass_to_dict
from videorwkv.utils.words import counted

if TYPE_CHECKING:
    from rich.table import Table


class ScoredVideo(NamedTuple):
    """One file.

    Args:
        path: the file.
        seconds: its length as far as it was read.
        truth, found: segments, sorted by their start.
        confusion_KK: frames by true class (row) and found class (column).
        loss: mean cross-entropy of its frames in nats; NaN if the class of none is known.
        warnings: what was wrong with the file without being fatal.
        reason: why it could not be read; empty if it could.
    """

    path: str
    seconds: float = 0.0
    truth: tuple[ActionSegment, ...] = ()
    found: tuple[ActionSegment, ...] = ()
    confusion_KK: NDArray[np.int64] | None = None
    loss: float = math.nan
    warnings: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, eq=False)
class TimelineEvaluation:
    """How well a model finds segments; metrics.py has the definitions.

    Args:
        labels: K class names, the background among them.
        videos: every labelled file.
        options: how probabilities became segments.
        fps: frames a second that the model got.
        data: name and digest of what was evaluated.
        n_unlabelled: files not evaluated because no segment of theirs has a label.
        n_missing: files not evaluated because they are listed but not on disk.
    """

    labels: tuple[str, ...]
    videos: tuple[ScoredVideo, ...]
    options: TimelineOptions
    fps: float
    data: Mapping[str, str] | None = None
    n_unlabelled: int = 0
    n_missing: int = 0

    @property
    def truth(self) -> list[tuple[ActionSegment, ...]]:
        """The true segments of each file."""
        return [video.truth for video in self.videos]

    @property
    def found(self) -> list[tuple[ActionSegment, ...]]:
        """The segments found in each file."""
        return [video.found for video in self.videos]

    @property
    def n_total(self) -> int:
        return len(self.videos)

    @property
    def n_ok(self) -> int:
        return sum(not video.reason for video in self.videos)

    @property
    def bad(self) -> tuple[ScoredVideo, ...]:
        """The files that could not be read."""
        return tuple(video for video in self.videos if video.reason)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was wrong with files that were read all the same."""
        return tuple(text for video in self.videos for text in video.warnings)

    @property
    def minutes(self) -> float:
        """Length of what was read."""
        return sum(video.seconds for video in self.videos) / 60

    @property
    def confusion_KK(self) -> NDArray[np.int64]:
        """Frames of all files, row the truth, column what was found."""
        shape = len(self.labels), len(self.labels)
        read = [v.confusion_KK for v in self.videos if v.confusion_KK is not None]
        return np.sum(read, axis=0) if read else np.zeros(shape, np.int64)

    @property
    def top1(self) -> float:
        """Share of the frames whose class was found, the background among the classes."""
        counts_KK = self.confusion_KK
        return float(np.trace(counts_KK) / max(1, counts_KK.sum()))

    @property
    def mean_class_accuracy(self) -> float:
        """The same for each class that has a frame, and the mean of them."""
        accuracies = [x for x in self._frame_accuracies().values() if not math.isnan(x)]
        return float(np.mean(accuracies)) if accuracies else 0.0

    @property
    def loss(self) -> float:
        """Mean cross-entropy of the frames, the mean over the files, in nats."""
        losses = [video.loss for video in self.videos if not math.isnan(video.loss)]
        return float(np.mean(losses)) if losses else math.nan

    @property
    def f1_50(self) -> float:
        """Segmental F1 at an overlap of 0.5."""
        return self.f1(0.5)

    def f1(self, overlap: float) -> float:
        """Segmental F1 at an overlap."""
        return metrics.hits(self.truth, self.found, overlap).f1

    @property
    def edit(self) -> float:
        """Mean edit score of the files."""
        pairs = zip(self.truth, self.found, strict=True)
        return float(np.mean([metrics.edit_score(*pair) for pair in pairs]))

    def mean_average_precision(self, iou: float) -> float:
        """mAP at a temporal IoU; NaN where nothing was to be found."""
        return metrics.mean_average_precision(self.truth, self.found, iou)

    def point_mean_average_precision(self, offset: float) -> float:
        """Point mAP of the starts at an offset in seconds; NaN where nothing was to be found."""
        return metrics.point_mean_average_precision(self.truth, self.found, offset)

    @property
    def lateness(self) -> tuple[float, float]:
        """Seconds by which found segments begin and end too late, the medians."""
        return metrics.lateness(self.truth, self.found)

    @property
    def false_alarms(self) -> int:
        """Segments during which nothing of their label happens."""
        return metrics.false_alarms(self.truth, self.found)

    @property
    def false_alarms_in_10_minutes(self) -> float:
        return self.false_alarms / max(self.minutes, 1e-9) * 10

    @property
    def per_class(self) -> dict[str, dict[str, float | int | None]]:
        """Every class but the background that is in the truth or was found."""
        accuracies = self._frame_accuracies()
        present = {*metrics.labels_of(self.truth), *metrics.labels_of(self.found)}
        values: dict[str, dict[str, float | int | None]] = {}
        for label in self.labels:
            if label not in present:
                continue
            counts = metrics.hits(self.truth, self.found, 0.5, label)
            values[label] = {
                "segments": counts.right + counts.missed,
                "found": counts.right + counts.wrong,
                "f1_50": counts.f1,
                "average_precision_50": _clean(
                    metrics.average_precision(self.truth, self.found, label, 0.5)
                ),
                "frame_accuracy": _clean(accuracies[label]),
                "false_alarms": metrics.false_alarms(self.truth, self.found, label),
            }
        return values

    def _frame_accuracies(self) -> dict[str, float]:
        counts_KK = self.confusion_KK
        totals_K = counts_KK.sum(1)
        return {
            label: counts_KK[k, k] / totals_K[k] if totals_K[k] else math.nan
            for k, label in enumerate(self.labels)
        }

    @property
    def measures(self) -> dict[str, float]:
        """What a training logs of a validation."""
        return {
            "loss": self.loss,
            "top1": self.top1,
            "mean_class_accuracy": self.mean_class_accuracy,
            "f1_50": self.f1_50,
            "edit": self.edit,
            "false_alarms_in_10_minutes": self.false_alarms_in_10_minutes,
        }

    @property
    def headline(self) -> str:
        """The same in a few words."""
        return (
            f"loss {self.loss:.3f}, F1@50 {self.f1_50:.3f}, edit {self.edit:.3f}, frame accuracy "
            f"{self.top1:.3f}"
        )

    def summary(self) -> str:
        """The numbers that matter, in three lines."""
        map_values = [self.mean_average_precision(iou) for iou in metrics.IOUS]
        starts = [self.point_mean_average_precision(offset) for offset in (1.0, 10.0)]
        missing = f" (and {self.n_missing} not on disk, not counted)" if self.n_missing else ""
        total = sum(map(len, self.truth))
        return (
            f"F1@10 {self.f1(0.1):.4f}, F1@25 {self.f1(0.25):.4f}, F1@50 {self.f1(0.5):.4f}, edit "
            f"{self.edit:.4f}, frame accuracy {self.top1:.4f} (mean over the classes "
            f"{self.mean_class_accuracy:.4f})\n"
            f"mAP {_shown(np.mean(map_values))} (mean of tIoU 0.1 to 0.7; at 0.5 "
            f"{_shown(map_values[4])}), point mAP {_shown(starts[0])} within 1 s, "
            f"{_shown(starts[1])} within 10 s\n"
            f"{counted(self.false_alarms, 'false alarm')} in {self.minutes:.1f} minutes "
            f"({self.false_alarms_in_10_minutes:.2f} in 10), {counted(total, 'segment')} in "
            f"{counted(self.n_total, 'video')}, read {self.n_ok}/{self.n_total}{missing}"
            + self._about_lateness()
        )

    def _about_lateness(self) -> str:
        """What to do where boundaries are found late, as by all models that see no future."""
        late = float(np.mean(self.lateness))
        if math.isnan(late):
            return ""
        start, end = self.lateness
        text = f"\nsegments begin {start:+.2f} s and end {end:+.2f} s after the true ones (median)"
        lag = round(self.options.lag + late, 1)
        if abs(late) < 0.1 or lag < 0:
            return text
        return f"{text}; on data that the result is not reported for, try --lag {lag:g}"

    def warning(self) -> str:
        """What makes the numbers say less than they seem to; empty where nothing does."""
        if not any(self.found):
            return f"no segment was found at all; a threshold of {self.options.threshold:g} is high"
        if not any(self.truth):
            return "the data have no segment: what was found is false, and nothing could be missed"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "f1": {f"{k:.0%}".rstrip("%"): self.f1(k) for k in metrics.OVERLAPS},
            "edit": self.edit,
            "frame_accuracy": self.top1,
            "mean_class_frame_accuracy": self.mean_class_accuracy,
            "map": {f"{k:g}": _clean(self.mean_average_precision(k)) for k in metrics.IOUS},
            "point_map": {
                f"{k:g}": _clean(self.point_mean_average_precision(k)) for k in metrics.OFFSETS
            },
            "lateness": [_clean(value) for value in self.lateness],
            "false_alarms": self.false_alarms,
            "false_alarms_in_10_minutes": self.false_alarms_in_10_minutes,
            "minutes": self.minutes,
            "loss": _clean(self.loss),
            "n_ok": self.n_ok,
            "n_total": self.n_total,
            "n_unlabelled": self.n_unlabelled,
            "n_missing": self.n_missing,
            "options": dataclass_to_dict(self.options),
            "fps": self.fps,
            "data": None if self.data is None else dict(self.data),
            "labels": list(self.labels),
            "per_class": self.per_class,
            "warnings": list(self.warnings),
            "unreadable": [{"path": video.path, "reason": video.reason} for video in self.bad],
        }

    def table(self) -> Table:
        """The classes, for the terminal."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(title="Segments by class")
        table.add_column("class")
        for name in ("true", "found", "F1@50", "AP@0.5", "frames right", "false alarms"):
            table.add_column(name, justify="right")
        for label, values in self.per_class.items():
            shown = [
                f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)
                for value in values.values()
            ]
            table.add_row(escape(label), *shown)
        name = background_of(self.labels) or ""
        background = self._frame_accuracies().get(name, math.nan)
        if not math.isnan(background):
            table.add_row(name, "", "", "", "", f"{background:.3f}", "")
        return table

    def save(self, folder: str | Path) -> None:
        """Write timeline.json, segments.csv and confusion.csv (frames) into `folder`."""
        folder = Path(folder)
        make_folder(folder)
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
        write_atomic(folder / "timeline.json", text)
        found = [Timeline(video.path, video.found) for video in self.videos]
        write_timelines(folder / "segments.csv", found)
        rows: list[Sequence[object]] = [["true \\ found", *self.labels]]
        for label, row in zip(self.labels, self.confusion_KK.tolist(), strict=True):
            rows.append([label, *row])
        write_csv(folder / "confusion.csv", rows)


# What a training measures on its validation split.
Validation: TypeAlias = Evaluation | TimelineEvaluation


def _shown(value: float | np.floating[Any]) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _clean(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value
