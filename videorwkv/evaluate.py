"""Evaluate a model on a data set: every clip counts, and one that can't be read counts as wrong.

K classes, N clips, V views of a clip.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from videorwkv.data import Batch, ClipDataset, FrameCache, Manifest, make_loader
from videorwkv.errors import DataError, UsageError
from videorwkv.files import write_atomic
from videorwkv.models import LCR, Inputs, LCRConfig
from videorwkv.train.checkpoint import Run, load_run
from videorwkv.train.nonfinite import check_scores
from videorwkv.video.sampling import Sampling

if TYPE_CHECKING:
    from rich.table import Table


class Scored(NamedTuple):
    """One clip: its scores, or the reason why it could not be read."""

    path: str
    label: str
    scores_K: NDArray[np.float64] | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How well a model does. Shares are of all clips, unreadable ones included (as wrong).

    Args:
        labels: K class names, in the order of the logits.
        clips: every labelled clip with its scores.
        views: temporal and spatial views whose scores were averaged.
        tube_mask_ratio: share of the patches that were left out.
        data: name and digest of what was evaluated.
        n_unlabelled: clips left out because they carry no label.
        warnings: what was wrong with clips that were read all the same.
    """

    labels: tuple[str, ...]
    clips: tuple[Scored, ...]
    views: tuple[int, int] = (1, 1)
    tube_mask_ratio: float = 0.0
    data: Mapping[str, str] | None = None
    n_unlabelled: int = 0
    warnings: tuple[str, ...] = ()

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
            -np.log(max(clip.scores_K[self.labels.index(clip.label)], 1e-12))
            for clip in self.clips
            if clip.scores_K is not None
        ]
        return float(np.mean(losses)) if losses else float("nan")

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
    def confusion_KK(self) -> NDArray[np.int64]:
        """Counts of readable clips, row the truth, column the prediction."""
        counts_KK = np.zeros((len(self.labels), len(self.labels)), np.int64)
        for clip in self.clips:
            if clip.scores_K is not None:
                counts_KK[self.labels.index(clip.label), int(clip.scores_K.argmax())] += 1
        return counts_KK

    @property
    def bad(self) -> tuple[Scored, ...]:
        """The clips that could not be read."""
        return tuple(clip for clip in self.clips if clip.scores_K is None)

    def _rank(self, clip: Scored) -> int:
        """How many classes score higher than the true one; K where the clip is unreadable."""
        if clip.scores_K is None:
            return len(self.labels) + 5
        truth = self.labels.index(clip.label)
        # A tie goes to the lower index, as argmax breaks it.
        ahead = clip.scores_K > clip.scores_K[truth]
        return int(ahead.sum() + (clip.scores_K[:truth] == clip.scores_K[truth]).sum())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "top1": self.top1,
            "top5": self.top5,
            "mean_class_accuracy": self.mean_class_accuracy,
            "loss": self.loss if self.n_ok else None,
            "n_ok": self.n_ok,
            "n_total": self.n_total,
            "n_unlabelled": self.n_unlabelled,
            "views": list(self.views),
            "tube_mask_ratio": self.tube_mask_ratio,
            "data": None if self.data is None else dict(self.data),
            "warnings": list(self.warnings),
            "labels": list(self.labels),
            "per_class": self.per_class,
            "unreadable": [{"path": clip.path, "reason": clip.reason} for clip in self.bad],
        }

    def summary(self) -> str:
        """One line: the numbers that matter."""
        masked = f", {self.tube_mask_ratio:.0%} masked" if self.tube_mask_ratio else ""
        return (
            f"top-1 {self.top1:.4f}, top-5 {self.top5:.4f}, "
            f"mean class accuracy {self.mean_class_accuracy:.4f}, "
            f"clips read {self.n_ok}/{self.n_total}, views {self.views[0]}x{self.views[1]}"
            f"{masked}"
        )

    def table(self) -> Table:
        """Accuracy per class, for the terminal."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(title="Accuracy per class")
        table.add_column("class")
        table.add_column("clips", justify="right")
        table.add_column("accuracy", justify="right")
        table.add_column("most often taken for")
        confusion_KK = self.confusion_KK
        sizes = {label: sum(c.label == label for c in self.clips) for label in self.per_class}
        for label, accuracy in self.per_class.items():
            wrong_K = confusion_KK[self.labels.index(label)].copy()
            wrong_K[self.labels.index(label)] = 0
            worst = self.labels[int(wrong_K.argmax())] if wrong_K.any() else ""
            count = f" ({wrong_K.max()})" if worst else ""
            table.add_row(
                escape(label), str(sizes[label]), f"{accuracy:.3f}", f"{escape(worst)}{count}"
            )
        return table

    def save(self, folder: str | Path) -> None:
        """Write evaluation.json, predictions.csv, confusion.csv and confusion.png into `folder`."""
        from videorwkv.plots import save_confusion

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
        write_atomic(folder / "evaluation.json", text.encode())
        unreadable = {label: sum(c.label == label for c in self.bad) for label in self.labels}
        _write_csv(
            folder / "confusion.csv",
            ["true \\ predicted", *self.labels, "unreadable"],
            [
                [label, *row, unreadable[label]]
                for label, row in zip(self.labels, self.confusion_KK.tolist(), strict=True)
            ],
        )
        _write_csv(
            folder / "predictions.csv",
            ["path", "label", "predicted", "score", "reason"],
            [
                [clip.path, clip.label, "", "", clip.reason]
                if clip.scores_K is None
                else [
                    clip.path,
                    clip.label,
                    self.labels[int(clip.scores_K.argmax())],
                    f"{clip.scores_K.max():.4f}",
                    "",
                ]
                for clip in self.clips
            ],
        )
        save_confusion(folder / "confusion.png", self.confusion_KK, self.labels)


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([header, *rows])
    write_atomic(path, buffer.getvalue().encode())


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """`auto` takes a GPU if there is one; a name is obeyed.

    Raises:
        UsageError: no device of that name, or PyTorch can't use it here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"Device {str(device)!r} can't be used: {reason} Usual: auto, cpu, cuda, cuda:1."
        ) from error
    return chosen


def evaluate(
    model: LCR | Run | str | Path,
    manifest: Manifest,
    sampling: Sampling | None = None,
    *,
    labels: Sequence[str] | None = None,
    views: tuple[int, int] | None = None,
    batch_size: int = 8,
    workers: int = 0,
    device: str | torch.device = "auto",
    precision: str = "float32",
    cache: str | Path | None = None,
    tube_mask_ratio: float = 0.0,
    on_batch: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score every labelled clip of a manifest; scores are averaged over its views.

    Args:
        model: a model, a `Run` or a run's folder.
        manifest: the clips, one split as a rule.
        sampling: which frames; a run's own if None.
        labels: the model's K class names, in the order of its logits; a run's own, or the
            manifest's, if None.
        views: temporal and spatial views of a clip; a run's own if None, else (1, 1).
        batch_size: views that go through the model at once.
        workers: processes that decode; 0 does it here.
        device: `auto`, or a device by name.
        precision: `float32`, or `bfloat16` autocast.
        cache: folder for frames decoded and shrunk once.
        tube_mask_ratio: share of the patches to leave out, the same in all frames of a view: their
            cost is saved, at some loss of accuracy.
        on_batch: called with the number of clips done, after each batch.

    Raises:
        ManifestError: a label that the model does not know.
        DataError: no clip carries a label.
        UsageError, CheckpointError: no such run, or a broken one.
        NonFiniteError: the model gives NaN or infinity; the message names the module.
    """
    if isinstance(model, str | Path):
        model = load_run(model)
    device = pick_device(device)
    if isinstance(model, Run):
        run = model
        labels, sampling = run.labels, sampling or run.recipe.sampling
        views = views or run.recipe.views
        model = run.model(device)
    model = model.to(device)
    labels = tuple(labels or manifest.labels)
    known = manifest.with_labels(labels)
    rows = tuple(row for row in known.rows if row.label is not None)
    if not rows:
        raise DataError(f"{manifest.name}: none of its {len(manifest)} clips carries a label.")
    labelled = replace(known, rows=rows)
    dataset = make_dataset(
        model.config,
        labelled,
        sampling or Sampling(),
        views=views or (1, 1),
        cache=cache,
    )
    loader = make_loader(
        dataset,
        batch_size=batch_size,
        workers=workers,
        pin_memory=device.type == "cuda",
    )
    masks = torch.Generator().manual_seed(0)  # the same masks at every evaluation

    def classify(inputs: Inputs) -> torch.Tensor:
        if not tube_mask_ratio:
            return model(inputs)
        batch, _, height, width = inputs.edges_BTHW.shape
        state = model.init_state(
            batch, image_size=(height, width), tube_mask_ratio=tube_mask_ratio, generator=masks
        )
        return model.scan(inputs, state)[0][:, -1]

    clips: list[Scored | None] = [None] * len(rows)
    warnings: list[str] = []
    was_training = model.training
    model.eval()
    try:
        for batch in loader:
            for index, scores_K in _score(model, classify, batch, device, precision, batch_size):
                clips[index] = Scored(rows[index].path, rows[index].label or "", scores_K)
            for bad in batch.bad:
                row = rows[bad.index]
                clips[bad.index] = Scored(row.path, row.label or "", None, bad.reason)
            warnings += [text for _, text in batch.warnings]
            if on_batch is not None:
                on_batch(sum(clip is not None for clip in clips))
    finally:
        model.train(was_training)
    assert all(clip is not None for clip in clips)
    return Evaluation(
        labels=labels,
        clips=tuple(clip for clip in clips if clip is not None),
        views=views or (1, 1),
        tube_mask_ratio=tube_mask_ratio,
        data={"name": manifest.name, "digest": manifest.digest},
        n_unlabelled=len(known.rows) - len(rows),
        warnings=tuple(warnings),
    )


def _score(
    model: LCR,
    classify: Callable[[Inputs], torch.Tensor],
    batch: Batch,
    device: torch.device,
    precision: str,
    batch_size: int,
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """(row, probabilities [K]) of the readable clips of a batch."""
    if batch.inputs is None:
        return
    frames, edges = batch.inputs
    num_views = frames.shape[1] if frames.ndim == 6 else 1
    if frames.ndim == 6:
        frames, edges = frames.flatten(0, 1), edges.flatten(0, 1)
    parts = []
    with torch.inference_mode(), autocast(device, precision):
        for part in zip(frames.split(batch_size), edges.split(batch_size), strict=True):
            inputs = Inputs(*part).to(device)
            logits_BK = classify(inputs)
            check_scores(logits_BK, model, partial(classify, inputs), "evaluate")
            parts.append(logits_BK.double().softmax(-1).cpu())
    scores_BVK = torch.cat(parts).unflatten(0, (-1, num_views))
    yield from zip(batch.indices.tolist(), scores_BVK.mean(1).numpy(), strict=True)


def make_dataset(
    model: LCRConfig,
    manifest: Manifest,
    sampling: Sampling,
    *,
    cache: str | Path | None = None,
    **options: Any,
) -> ClipDataset:
    """The clips of a manifest as a model with this configuration reads them."""
    # A quarter more than the model's size leaves room for crops.
    frames = None if cache is None else FrameCache(str(cache), model.image_size * 5 // 4)
    return ClipDataset(
        manifest,
        sampling=sampling,
        size=model.image_size,
        edges=model.edges,
        edge_options=model.edge_options,
        cache=frames,
        **options,
    )


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """bfloat16 where the recipe asks for it; the model keeps its scan and memory in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
