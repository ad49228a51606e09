"""How well a model does where a clip may be of several classes, or of none.

Each class is a question of its own. Its average precision is the mean, over its clips, of the
precision at the rank of each when all clips are sorted by the class's probability: the area under
the curve of precision over recall, as scikit-learn's `average_precision_score` and the official
evaluation of Charades compute it. Clips with one probability share the rank of the last of them.

K classes, N clips.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from videorwkv.data.manifest import SEPARATOR, join_labels, split_labels
from videorwkv.errors import UsageError
from videorwkv.inference.kept import Kept
from videorwkv.inference.metrics import Evaluation, Scored
from videorwkv.utils.files import make_folder, write_atomic, write_csv
from videorwkv.utils.interval import interval_text

if TYPE_CHECKING:
    from rich.table import Table

# Where nobody has chosen one.
USUAL = 0.5
COLUMNS = ("class", "clips", "average precision", "threshold", "F1", "best threshold here")


def average_precision(holds_N: NDArray[np.bool_], scores_N: NDArray[np.float64]) -> float:
    """Of one class; NaN if no clip has it.

    Args:
        holds_N: whether a clip has the class.
        scores_N: its probability; minus infinity for a clip that was not read, which is found by
            no threshold.
    """
    if not holds_N.any():
        return float("nan")
    precision, recall, _ = precision_recall(holds_N, scores_N)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def precision_recall(
    holds_N: NDArray[np.bool_], scores_N: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall at each distinct score as the threshold, from the highest on, and these
    thresholds."""
    order = np.argsort(-scores_N, kind="stable")
    scores, hits = scores_N[order], holds_N[order]
    found = np.isfinite(scores)
    scores, hits = scores[found], hits[found]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)[: len(scores)]
    right = np.cumsum(hits)[last]
    return right / (last + 1), right / max(1, holds_N.sum()), scores[last]


def best_threshold(holds_N: NDArray[np.bool_], scores_N: NDArray[np.float64]) -> float:
    """The threshold with the highest F1, in the middle between two scores; the usual one where no
    clip has the class. Among equals the highest."""
    if not holds_N.any():
        return USUAL
    precision, recall, at = precision_recall(holds_N, scores_N)
    if not len(at):
        return USUAL
    best = int(np.argmax(2 * precision * recall / np.maximum(precision + recall, 1e-12)))
    below = at[best + 1] if best + 1 < len(at) else 0.0
    return float((at[best] + below) / 2)


@dataclass(frozen=True, eq=False)
class MultilabelEvaluation(Evaluation):
    """How well a model does where clips have several labels.

    A clip that could not be read counts against every class that it has. `top1` is the share of the
    clips whose best class is one of theirs, `per_class` the average precision of each class, and
    `mean_class_accuracy` the mean over the classes of (recall + specificity) / 2 at the thresholds.

    Args:
        labels, ...: as in `Evaluation`; a clip's label may be several, as `Row.label` writes them.
        thresholds_K: probabilities from which on a class is taken to hold; None takes 0.5.
    """

    thresholds_K: NDArray[np.float64] | None = None

    @property
    def calibration_error(self) -> float:
        """Not defined where each class is answered by itself."""
        return float("nan")

    @property
    def measures(self) -> dict[str, float]:
        return {**super().measures, "mean_average_precision": self.mean_average_precision}

    @property
    def headline(self) -> str:
        sure = interval_text(self.n_correct, self.n_total)
        return (
            f"loss {self.loss:.3f}, mAP {self.mean_average_precision:.3f}, best class right "
            f"{self.top1:.3f} ({sure})"
        )

    @cached_property
    def _holds_NK(self) -> NDArray[np.bool_]:
        holds_NK = np.zeros((len(self.clips), len(self.labels)), bool)
        for row, clip in enumerate(self.clips):
            holds_NK[row, [self._index[label] for label in split_labels(clip.label)]] = True
        return holds_NK

    @cached_property
    def _scores_NK(self) -> NDArray[np.float64]:
        nothing_K = np.full(len(self.labels), -np.inf)
        rows = [nothing_K if c.scores_K is None else c.scores_K for c in self.clips]
        return np.stack(rows).astype(np.float64) if rows else nothing_K[None][:0]

    @property
    def _at_K(self) -> NDArray[np.float64]:
        return np.full(len(self.labels), USUAL) if self.thresholds_K is None else self.thresholds_K

    def top(self, k: int) -> float:
        """Share of clips with one of their classes among the `k` best."""
        best_NK = np.argsort(-self._scores_NK, axis=1, kind="stable")[:, :k]
        hits_N = np.take_along_axis(self._holds_NK, best_NK, 1).any(1)
        readable_N = np.isfinite(self._scores_NK).any(1)
        return float((hits_N & readable_N).sum() / max(1, self.n_total))

    @property
    def loss(self) -> float:
        """Mean binary cross-entropy of the readable clips, over classes as well, in nats."""
        readable_N = np.isfinite(self._scores_NK).all(1)
        if not readable_N.any():
            return float("nan")
        scores_NK = self._scores_NK[readable_N].clip(1e-12, 1 - 1e-12)
        holds_NK = self._holds_NK[readable_N]
        return float(-np.log(np.where(holds_NK, scores_NK, 1 - scores_NK)).mean())

    @cached_property
    def average_precision_K(self) -> NDArray[np.float64]:
        """Of each class; NaN where no clip has it."""
        pairs = zip(self._holds_NK.T, self._scores_NK.T, strict=True)
        return np.array([average_precision(*pair) for pair in pairs])

    @property
    def mean_average_precision(self) -> float:
        """Over the classes that a clip has."""
        known = self.average_precision_K[~np.isnan(self.average_precision_K)]
        return float(known.mean()) if len(known) else 0.0

    @property
    def per_class(self) -> dict[str, float]:
        """Average precision of every class that a clip has."""
        pairs = zip(self.labels, self.average_precision_K.tolist(), strict=True)
        return {label: value for label, value in pairs if value == value}

    @property
    def mean_class_accuracy(self) -> float:
        found_NK = self._scores_NK >= self._at_K
        own, other = self._holds_NK, ~self._holds_NK
        recall_K = (found_NK & own).sum(0) / np.maximum(1, own.sum(0))
        specificity_K = (~found_NK & other).sum(0) / np.maximum(1, other.sum(0))
        known_K = own.any(0) & other.any(0)
        return float(((recall_K + specificity_K) / 2)[known_K].mean()) if known_K.any() else 0.0

    @cached_property
    def f1_K(self) -> NDArray[np.float64]:
        """F1 of each class at the thresholds; NaN where no clip has it."""
        found_NK = self._scores_NK >= self._at_K
        right_K = (found_NK & self._holds_NK).sum(0)
        total_K = found_NK.sum(0) + self._holds_NK.sum(0)
        return np.where(self._holds_NK.any(0), 2 * right_K / np.maximum(1, total_K), np.nan)

    @property
    def mean_f1(self) -> float:
        """Over the classes that a clip has."""
        known = self.f1_K[~np.isnan(self.f1_K)]
        return float(known.mean()) if len(known) else 0.0

    @cached_property
    def best_thresholds_K(self) -> NDArray[np.float64]:
        """Those with the best F1 on these clips."""
        pairs = zip(self._holds_NK.T, self._scores_NK.T, strict=True)
        return np.array([best_threshold(*pair) for pair in pairs])

    @property
    def chance(self) -> float:
        """The mean average precision of a model that says nothing: how frequent the classes are."""
        share_K = self._holds_NK.mean(0) if len(self.clips) else np.zeros(1)
        return float(share_K[share_K > 0].mean()) if (share_K > 0).any() else 0.0

    @property
    def only_class(self) -> None:
        return None

    @property
    def majority(self) -> float:
        """Share of the clips that have the most frequent class."""
        return float(self._holds_NK.mean(0).max(initial=0.0)) if len(self.clips) else 0.0

    @property
    def n_correct(self) -> int:
        return round(self.top1 * self.n_total)

    def to_dict(self) -> dict[str, Any]:
        own = {
            "multilabel": True,
            "mean_average_precision": self.mean_average_precision,
            "chance": self.chance,
            "mean_f1": self.mean_f1,
            "thresholds": dict(zip(self.labels, self._at_K.tolist(), strict=True)),
            "best_thresholds": dict(zip(self.labels, self.best_thresholds_K.tolist(), strict=True)),
        }
        return {**own, **super().to_dict()}

    def accuracies(self) -> str:
        """`mAP 0.531 (9 classes; chance 0.070), mean F1 0.440, best class right 0.810 (...)`."""
        known = len(self.per_class)
        return (
            f"mAP {self.mean_average_precision:.4f} ({known} classes; chance {self.chance:.4f}), "
            f"mean F1 {self.mean_f1:.4f}, best class right {self.top1:.4f} "
            f"({interval_text(self.n_correct, self.n_total)})"
        )

    def warning(self) -> str:
        if self.n_total and self.mean_average_precision <= 1.1 * self.chance:
            return (
                f"no better than chance: probabilities that say nothing have an mAP of "
                f"{self.chance:.4f}"
            )
        return ""

    def table(self) -> Table:
        from rich.markup import escape
        from rich.table import Table

        table = Table(title="Average precision per class")
        for name in COLUMNS:
            table.add_column(name, justify="left" if name == "class" else "right")
        counts = self._holds_NK.sum(0)
        for k, label in enumerate(self.labels):
            if counts[k]:
                table.add_row(
                    escape(label), str(counts[k]), f"{self.average_precision_K[k]:.3f}",
                    f"{self._at_K[k]:.3f}", f"{self.f1_K[k]:.3f}",
                    f"{self.best_thresholds_K[k]:.3f}",
                )  # fmt: skip
        return table

    def above(self, scores_K: NDArray[np.float64]) -> str:
        """The classes that hold at the thresholds, as `Row.label` writes them."""
        return join_labels(above(scores_K, self.labels, self._at_K))

    def _csv_row(self, clip: Scored, scores: bool) -> list[str]:
        if clip.scores_K is None:
            return super()._csv_row(clip, scores)
        row = super()._csv_row(clip, scores)
        return [*row[:2], self.above(clip.scores_K), *row[3:]]

    def save(self, folder: str | Path, *, scores: bool = False) -> None:
        """Write evaluation.json, classes.csv and predictions.csv into `folder`.

        The column `predicted` of predictions.csv has the classes at or above their thresholds, and
        `score` the highest probability.

        Args:
            folder: it is made where it is missing.
            scores: predictions.csv also has the probability of every class.
        """
        folder = Path(folder)
        make_folder(folder)
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
        write_atomic(folder / "evaluation.json", text)
        counts = self._holds_NK.sum(0).tolist()
        numbers = (self.average_precision_K, self._at_K, self.f1_K, self.best_thresholds_K)
        rows = [
            [label, counts[k], *(f"{x[k]:.6f}" if x[k] == x[k] else "" for x in numbers)]
            for k, label in enumerate(self.labels)
        ]
        write_csv(folder / "classes.csv", [COLUMNS, *rows])
        self._save_predictions(folder, scores)


def above(
    scores_K: NDArray[Any], labels: Sequence[str], thresholds_K: NDArray[np.float64] | None
) -> tuple[str, ...]:
    """The classes at or above their thresholds, the most probable first."""
    limit_K = np.full(len(labels), USUAL) if thresholds_K is None else thresholds_K
    order = np.argsort(-scores_K, kind="stable")
    return tuple(labels[k] for k in order if scores_K[k] >= limit_K[k])


@dataclass(frozen=True, kw_only=True)
class ClassThresholds(Kept):
    """The probabilities from which on classes hold, chosen for the best F1 on validation clips.

    Args:
        labels, weights_sha256, data: as in `Kept`.
        thresholds: of each class.
        clips: how many they were chosen on.
    """

    NAME = "thresholds"

    thresholds: Mapping[str, float]
    clips: int

    def __post_init__(self) -> None:
        if set(self.thresholds) != set(self.labels):
            raise UsageError("thresholds: they must be of the very classes in `labels`.")
        if not all(0 <= value <= 1 for value in self.thresholds.values()):
            raise UsageError("thresholds: one of them lies outside of [0, 1].")

    @classmethod
    def choose(cls, evaluation: MultilabelEvaluation, *, weights_sha256: str) -> ClassThresholds:
        """Those with the best F1 on the clips of an evaluation."""
        best_K = evaluation.best_thresholds_K.tolist()
        return cls(
            thresholds=dict(zip(evaluation.labels, best_K, strict=True)),
            labels=evaluation.labels,
            weights_sha256=weights_sha256,
            data=dict(evaluation.data or {}),
            clips=evaluation.n_total,
        )

    @property
    def values_K(self) -> NDArray[np.float64]:
        """In the order of the labels."""
        return np.array([self.thresholds[label] for label in self.labels])


def require_fitting(is_multilabel: bool, data_is: bool, name: str) -> None:
    """`UsageError` where clips have several labels, and the model answers with one."""
    if data_is and not is_multilabel:
        raise UsageError(
            f"{name}: its clips have several labels (written with {SEPARATOR} between them), and "
            "the model was trained to answer with one class. Train on clips with several labels, "
            "or give each clip one."
        )
