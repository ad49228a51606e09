"""How well a model does: accuracies, confusion, and the files that keep them.

K classes, N clips.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from videorwkv.data.background import background_places
from videorwkv.inference.baselines import Baseline
from videorwkv.inference.calibration import calibration_error, tempered
from videorwkv.utils.files import make_folder, write_atomic, write_csv
from videorwkv.utils.interval import interval, interval_text
from videorwkv.utils.options import dataclass_to_dict

if TYPE_CHECKING:
    from rich.table import Table


class Scored(NamedTuple):
    """One clip: its scores, or the reason why it could not be read.

    Args:
        path: the clip.
        label: its true class; empty if unknown.
        scores_K: probabilities, the mean over its views; None if it could not be read.
        reason: why not.
    """

    path: str
    label: str
    scores_K: NDArray[np.float64] | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How well a model does. Accuracies are over all clips; unreadable ones count as wrong.

    Args:
        labels: K class names, in the order of the logits.
        clips: every labelled clip with its scores.
        views: temporal and spatial views whose scores were averaged.
        tube_mask_ratio: fraction of the patches that were dropped, the same ones in all frames.
        motion_mask_ratio: fraction of the patches that were skipped, chosen frame by frame.
        data: name and digest of what was evaluated.
        n_unlabelled: clips not evaluated because they have no label.
        n_missing: clips not evaluated because they are listed but not on disk.
        warnings: what was wrong with clips that were read all the same.
        baselines: how well methods without a network do on the same clips.
    """

    labels: tuple[str, ...]
    clips: tuple[Scored, ...]
    views: tuple[int, int] = (1, 1)
    tube_mask_ratio: float = 0.0
    motion_mask_ratio: float = 0.0
    data: Mapping[str, str] | None = None
    n_unlabelled: int = 0
    n_missing: int = 0
    warnings: tuple[str, ...] = ()
    baselines: tuple[Baseline, ...] = ()

    @property
    def n_total(self) -> int:
        return len(self.clips)

    @property
    def n_ok(self) -> int:
        return sum(clip.scores_K is not None for clip in self.clips)

    @property
    def top1(self) -> float:
        return self.top(1)

    @property
    def top5(self) -> float:
        return self.top(5)

    def top(self, k: int) -> float:
        """Share of clips whose true class is among the `k` best (all of them if K <= k)."""
        return sum(self._rank(clip) < k for clip in self.clips) / max(1, self.n_total)

    @property
    def loss(self) -> float:
        """Mean cross-entropy of the readable clips, in nats."""
        losses = [
            -np.log(max(clip.scores_K[self._index[clip.label]], 1e-12))
            for clip in self.clips
            if clip.scores_K is not None
        ]
        return float(np.mean(losses)) if losses else float("nan")

    @property
    def calibration_error(self) -> float:
        """Expected calibration error of the readable clips (`calibration_error`)."""
        return calibration_error(*self.arrays())

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Probabilities [N, K] and true classes [N] of the readable clips."""
        good = [clip for clip in self.clips if clip.scores_K is not None]
        scores_NK = np.array([clip.scores_K for clip in good], np.float64)
        truth_N = np.array([self._index[clip.label] for clip in good], np.int64)
        return scores_NK.reshape(len(good), len(self.labels)), truth_N

    def named(self, threshold: float, temperature: float = 1.0) -> tuple[float, float]:
        """Shares of all clips that are named right, and wrong, from a probability on, if a
        background class is never named."""
        scores_NK, truth_N = self.arrays()
        scores_NK = tempered(scores_NK, temperature)
        best_N = scores_NK.argmax(1)
        is_named_N = (scores_NK.max(1) >= threshold) & ~np.isin(
            best_N, background_places(self.labels)
        )
        right = int((is_named_N & (best_N == truth_N)).sum())
        total = max(1, self.n_total)
        return right / total, (int(is_named_N.sum()) - right) / total

    @property
    def per_class(self) -> dict[str, float]:
        """Accuracy of every class that has a clip."""
        counts: dict[str, list[bool]] = {}
        for clip in self.clips:
            counts.setdefault(clip.label, []).append(self._rank(clip) == 0)
        return {label: sum(counts[label]) / len(counts[label]) for label in self.labels
                if label in counts}  # fmt: skip

    @property
    def mean_class_accuracy(self) -> float:
        """Mean over the classes that have a clip, each counting the same."""
        values = list(self.per_class.values())
        return float(np.mean(values)) if values else 0.0

    @property
    def only_class(self) -> str | None:
        """The class that every readable clip is taken for, where others were to be found; else
        None."""
        predicted = {
            int(clip.scores_K.argmax()) for clip in self.clips if clip.scores_K is not None
        }
        if len(predicted) != 1 or len({clip.label for clip in self.clips}) < 2:
            return None
        return self.labels[predicted.pop()]

    @property
    def majority(self) -> float:
        """Top-1 of always answering with the most frequent class."""
        counts = Counter(clip.label for clip in self.clips)
        return max(counts.values(), default=0) / max(1, self.n_total)

    @property
    def n_correct(self) -> int:
        """Clips whose true class is the best one."""
        return sum(self._rank(clip) == 0 for clip in self.clips)

    @property
    def confusion_KK(self) -> NDArray[np.int64]:
        """Counts of readable clips, row the truth, column the prediction."""
        counts_KK = np.zeros((len(self.labels), len(self.labels)), np.int64)
        for clip in self.clips:
            if clip.scores_K is not None:
                counts_KK[self._index[clip.label], int(clip.scores_K.argmax())] += 1
        return counts_KK

    @property
    def bad(self) -> tuple[Scored, ...]:
        """The clips that could not be read."""
        return tuple(clip for clip in self.clips if clip.scores_K is None)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {label: index for index, label in enumerate(self.labels)}

    def _rank(self, clip: Scored) -> float:
        """How many classes come before the true one; infinite where the clip is unreadable."""
        if clip.scores_K is None:
            return float("inf")
        truth = self._index[clip.label]
        # A tie goes to the lower index, as argmax breaks it.
        ahead = clip.scores_K > clip.scores_K[truth]
        return int(ahead.sum() + (clip.scores_K[:truth] == clip.scores_K[truth]).sum())

    @property
    def measures(self) -> dict[str, float]:
        """What a training logs of a validation."""
        return {
            "loss": self.loss,
            "top1": self.top1,
            "top5": self.top5,
            "mean_class_accuracy": self.mean_class_accuracy,
        }

    @property
    def headline(self) -> str:
        """Loss and top-1 in a few words."""
        sure = interval_text(self.n_correct, self.n_total)
        return f"loss {self.loss:.3f}, top-1 {self.top1:.3f} ({sure})"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        baselines = [dataclass_to_dict(baseline) for baseline in self.baselines]
        return {
            "top1": self.top1,
            "top1_interval": list(interval(self.n_correct, self.n_total)),
            "top5": self.top5 if self.has_top5 else None,
            "mean_class_accuracy": self.mean_class_accuracy,
            "majority": self.majority,
            "only_class": self.only_class,
            "loss": self.loss if self.n_ok else None,
            "calibration_error": None if np.isnan(error := self.calibration_error) else error,
            "n_ok": self.n_ok,
            "n_total": self.n_total,
            "n_unlabelled": self.n_unlabelled,
            "n_missing": self.n_missing,
            "views": list(self.views),
            "tube_mask_ratio": self.tube_mask_ratio,
            "motion_mask_ratio": self.motion_mask_ratio,
            "data": None if self.data is None else dict(self.data),
            "warnings": list(self.warnings),
            "labels": list(self.labels),
            "per_class": self.per_class,
            "unreadable": [{"path": clip.path, "reason": clip.reason} for clip in self.bad],
            **({"baselines": baselines} if baselines else {}),
        }

    def summary(self) -> str:
        """One line: the numbers that matter."""
        masked = f", {self.tube_mask_ratio:.0%} masked" if self.tube_mask_ratio else ""
        if self.motion_mask_ratio:
            masked = f", {self.motion_mask_ratio:.0%} masked by motion"
        missing = f" (and {self.n_missing} not on disk, not counted)" if self.n_missing else ""
        error = self.calibration_error
        trust = "" if np.isnan(error) else f", calibration error {error:.3f}"
        return (
            f"{self.accuracies()}{trust}, clips read {self.n_ok}/{self.n_total}{missing}, "
            f"views {self.views[0]}x{self.views[1]}{masked}"
        )

    def accuracies(self) -> str:
        """`top-1 0.9500 (106 clips: 88 to 98 %), mean class accuracy 0.5000`, with top-5 where it
        can be wrong."""
        top5 = f", top-5 {self.top5:.4f}" if self.has_top5 else ""
        return (
            f"top-1 {self.top1:.4f} ({interval_text(self.n_correct, self.n_total)}){top5}, "
            f"mean class accuracy {self.mean_class_accuracy:.4f}"
        )

    def warning(self) -> str:
        """What makes top-1 look better than the model is, in a line; empty where nothing does."""
        if self.only_class is not None:
            return (
                f"predicts one class only: {self.only_class!r} for every clip; always answering "
                f"with the most frequent class scores {self.majority:.4f}"
            )
        classes = self.per_class
        if len(classes) < 2 or self.majority < 1.5 / len(classes) or self.top1 > self.majority:
            return ""
        return (
            f"no better than always answering with the most frequent class ({self.majority:.4f}); "
            "the mean class accuracy counts every class the same"
        )

    @property
    def has_top5(self) -> bool:
        """Whether top-5 says anything: with five classes or fewer, every clip is among the five."""
        return len(self.labels) > 5

    def table(self) -> Table:
        """Accuracy per class, for the terminal."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(title="Accuracy per class")
        table.add_column("class")
        table.add_column("clips", justify="right")
        table.add_column("accuracy", justify="right")
        table.add_column("95 % interval", justify="right")
        table.add_column("most often taken for")
        confusion_KK = self.confusion_KK
        sizes = Counter(clip.label for clip in self.clips)
        for label, accuracy in self.per_class.items():
            wrong_K = confusion_KK[self._index[label]].copy()
            wrong_K[self._index[label]] = 0
            worst = self.labels[int(wrong_K.argmax())] if wrong_K.any() else ""
            count = f" ({wrong_K.max()})" if worst else ""
            low, high = interval(round(accuracy * sizes[label]), sizes[label])
            table.add_row(
                escape(label), str(sizes[label]), f"{accuracy:.3f}", f"{low:.2f} to {high:.2f}",
                f"{escape(worst)}{count}",
            )  # fmt: skip
        return table

    def _csv_row(self, clip: Scored, scores: bool) -> list[str]:
        if clip.scores_K is None:
            return [clip.path, clip.label, "", "", clip.reason, *[""] * len(self.labels) * scores]
        best = int(clip.scores_K.argmax())
        row = [clip.path, clip.label, self.labels[best], f"{clip.scores_K[best]:.4f}", ""]
        return [*row, *(f"{score:.6f}" for score in clip.scores_K if scores)]

    def save(self, folder: str | Path, *, scores: bool = False) -> None:
        """Write evaluation.json, predictions.csv, confusion.csv and confusion.png into `folder`.

        Args:
            folder: it is made where it is missing.
            scores: predictions.csv also has the score of every class, in a column for each.
        """
        from videorwkv.inference.plots import save_confusion

        folder = Path(folder)
        make_folder(folder)
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
        write_atomic(folder / "evaluation.json", text)
        unreadable = Counter(clip.label for clip in self.bad)
        write_csv(
            folder / "confusion.csv",
            [
                ["true \\ predicted", *self.labels, "unreadable"],
                *(
                    [label, *row, unreadable[label]]
                    for label, row in zip(self.labels, self.confusion_KK.tolist(), strict=True)
                ),
            ],
        )
        self._save_predictions(folder, scores)
        save_confusion(folder / "confusion.png", self.confusion_KK, self.labels)

    def _save_predictions(self, folder: Path, scores: bool) -> None:
        write_csv(
            folder / "predictions.csv",
            [
                ["path", "label", "predicted", "score", "reason"]
                + [f"score of {label}" for label in self.labels if scores],
                *(self._csv_row(clip, scores) for clip in self.clips),
            ],
        )
