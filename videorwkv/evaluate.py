"""Evaluate a model on a data set: every clip counts, and one that can't be read counts as wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from videorwkv.data import Manifest
from videorwkv.errors import DataError
from videorwkv.evaluation import Evaluation as Evaluation
from videorwkv.models import LCR
from videorwkv.scoring import Scored as Scored
from videorwkv.scoring import score
from videorwkv.train.checkpoint import Run
from videorwkv.video.sampling import Sampling

if TYPE_CHECKING:
    from videorwkv.runtime import ExportedModel


def evaluate(
    model: LCR | ExportedModel | Run | str | Path,
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
    motion_mask_ratio: float = 0.0,
    clip_timeout: float | None = None,
    lost: dict[str, str] | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score every labelled clip of a manifest; scores are averaged over its views.

    Args:
        model: a model, also one of `videorwkv.open_exported`, a `Run`, a run's folder, or a file
            that `videorwkv.export` wrote.
        manifest: the clips, one split as a rule.
        sampling: which frames; the run's or the file's own if None.
        labels: the model's K class names, in the order of its logits; the run's or the file's own,
            or the manifest's, if None.
        views: temporal and spatial views of a clip; a run's own if None, else (1, 1).
        batch_size: views that go through the model at once.
        workers: processes that decode; 0 does it here.
        device: `auto`, or a device by name.
        precision: `float32`, or `bfloat16` autocast.
        cache: folder for frames decoded and shrunk once.
        tube_mask_ratio: share of the patches to leave out, the same in all frames of a view: their
            cost is saved, at some loss of accuracy. An exported file keeps to its own.
        motion_mask_ratio: the same, but in each frame those patches that changed least.
        clip_timeout: seconds after which a worker that is still at a clip is ended, and the clip
            counts as unreadable; 0 waits forever. A run's own if None, else 300.
        lost: path -> reason, of clips whose decoder has crashed or hung: they are not tried again.
            Those that are met are added.
        on_batch: called with the number of clips done, after each batch.

    Raises:
        ManifestError: a label that the model does not know.
        DataError: no clip carries a label.
        UsageError, CheckpointError: no such run, a broken one, one that has no such mask, or
            another number of labels than it has classes.
        NonFiniteError: the model gives NaN or infinity; the message names the module.
    """
    rows = tuple(row for row in manifest.rows if row.label is not None)
    if not rows:
        raise DataError(
            f"{manifest.name}: none of its {len(manifest)} clips carries a label, so there is "
            "nothing to compare with. `videorwkv predict RUN DATA --split NAME --submission FILE` "
            "writes what a run says about them."
        )
    scores = score(
        model,
        replace(manifest, rows=rows),
        sampling,
        labels=labels,
        views=views,
        batch_size=batch_size,
        workers=workers,
        device=device,
        precision=precision,
        cache=cache,
        tube_mask_ratio=tube_mask_ratio,
        motion_mask_ratio=motion_mask_ratio,
        clip_timeout=clip_timeout,
        lost=lost,
        on_batch=on_batch,
    )
    return Evaluation(
        labels=scores.labels,
        clips=scores.clips,
        views=scores.views,
        **scores.masks.ratios,
        data={"name": manifest.name, "digest": manifest.digest},
        n_unlabelled=len(manifest.rows) - len(rows),
        n_missing=sum(row.label is not None for row in manifest.missing),
        warnings=scores.warnings,
    )
