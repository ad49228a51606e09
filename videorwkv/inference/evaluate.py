"""Evaluate a model on a data set: every clip counts, and one that can't be read counts as wrong.

K classes, N clips, V views of a clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videorwkv.data.dataset import CROPPED, make_dataset
from videorwkv.data.loader import Batch, Loader, make_loader
from videorwkv.data.manifest import Manifest
from videorwkv.errors import DataError
from videorwkv.inference.calibration import tempered
from videorwkv.inference.metrics import Evaluation, Scored
from videorwkv.inference.multilabel import MultilabelEvaluation, require_fitting
from videorwkv.inference.recogniser import ModelLike, Recogniser
from videorwkv.models.masking import NO_MASKS, Masks
from videorwkv.models.scores import probabilities
from videorwkv.preprocess.inputs import Inputs
from videorwkv.utils.processes import ALONE, Processes
from videorwkv.utils.words import counted
from videorwkv.video.base import Sampling


def evaluate(
    model: ModelLike,
    manifest: Manifest,
    sampling: Sampling | None = None,
    *,
    labels: Sequence[str] | None = None,
    views: tuple[int, int] | None = None,
    batch_size: int = 8,
    workers: int = 0,
    device: str | torch.device = "auto",
    precision: str | None = None,
    cache: str | Path | None = None,
    tube_mask_ratio: float = 0.0,
    motion_mask_ratio: float = 0.0,
    clip_timeout: float | None = None,
    lost: dict[str, str] | None = None,
    on_batch: Callable[[int], None] | None = None,
    processes: Processes = ALONE,
    stopped: Callable[[], bool] = lambda: False,
    calibrated: bool = True,
) -> Evaluation:
    """Score every labelled clip of a manifest; scores are averaged over its views.

    Args:
        model: a model, also one of `videorwkv.open_exported`, a `Run`, a run's folder, a file that
            `videorwkv.export` wrote, or a `Recogniser`.
        manifest: the clips, one split as a rule.
        sampling: which frames to read; the run's or the file's own if None.
        labels: the model's K class names, in the order of its logits; the run's or the file's own,
            or the manifest's, if None.
        views: temporal and spatial views of a clip; a run's own if None, else (1, 1).
        batch_size: views that go through the model at once.
        workers: processes that decode; 0 does it here.
        device: `auto`, or a device by name.
        precision: `float32`, or autocast to `bfloat16` or `float16`; a `Recogniser`'s own if None,
            else float32.
        cache: folder that keeps decoded, resized frames.
        tube_mask_ratio: fraction of the patches to drop, the same random ones in all frames of a
            view: faster, and less accurate. An exported file always uses its own ratio, and 0 keeps
            a `Recogniser`'s.
        motion_mask_ratio: fraction of the patches to skip in each frame: those that changed least.
        clip_timeout: seconds after which a worker that is still at a clip is ended, and the clip
            counts as unreadable; 0 waits forever. The run's own if None, else 300.
        lost: `Row.name` -> reason, of clips whose decoder has crashed or hung: they are not tried
            again. Those that are met are added.
        on_batch: called with the number of clips done, after each batch.
        processes: those that share the clips, each of which calls this function alike and gets the
            whole; each clip is scored once, in the same batches as by one process.
        stopped: whether to end with KeyboardInterrupt, asked before each batch; with several
            processes it ends all of them.
        calibrated: at the temperature that is kept with the run (`Calibration`), if one is.

    Raises:
        ManifestError: a label that the model does not know.
        DataError: no clip carries a label.
        UsageError, CheckpointError: no such run, a broken one, one that has no such mask, another
            number of labels than it has classes, or one label where the clips have several.
        NonFiniteError: the model gives NaN or infinity; the message names the module.
    """
    rows = tuple(row for row in manifest.rows if row.label is not None)
    if not rows:
        raise DataError(
            f"{manifest.name}: none of its {len(manifest)} clips carries a label, so there is "
            "nothing to compare with. `videorwkv predict RUN DATA --split NAME --submission FILE` "
            "writes what a run says about them."
        )
    recogniser = Recogniser.open(
        model,
        what="evaluate",
        labels=labels,
        default_labels=manifest.labels,
        sampling=sampling,
        views=views,
        masks=Masks(tube_mask_ratio=tube_mask_ratio, motion_mask_ratio=motion_mask_ratio),
        device=device,
        precision=precision,
        clip_timeout=clip_timeout,
        calibrated=calibrated,
    )
    require_fitting(recogniser.network.config.multilabel, manifest.multilabel, manifest.name)
    scores = score(
        recogniser,
        replace(manifest, rows=rows),
        batch_size=batch_size,
        workers=workers,
        cache=cache,
        lost=lost,
        on_batch=on_batch,
        processes=processes,
        stopped=stopped,
    )
    kind: Callable[..., Evaluation] = Evaluation
    if recogniser.network.config.multilabel:
        kind = partial(MultilabelEvaluation, thresholds_K=recogniser.thresholds_K)
    return kind(
        labels=scores.labels,
        clips=scores.clips,
        views=scores.views,
        tube_mask_ratio=scores.masks.tube_mask_ratio,
        motion_mask_ratio=scores.masks.motion_mask_ratio,
        data={"name": manifest.name, "digest": manifest.digest},
        n_unlabelled=len(manifest.rows) - len(rows),
        n_missing=sum(row.label is not None for row in manifest.missing),
        warnings=scores.warnings,
    )


@dataclass(frozen=True, eq=False)
class Scores:
    """What a model says about every clip of a manifest.

    Args:
        labels: K class names, in the order of the scores.
        clips: one for each row, in order.
        views: temporal and spatial views whose scores were averaged.
        masks: which patches were dropped or skipped.
        warnings: what was wrong with clips that were read all the same.
    """

    labels: tuple[str, ...]
    clips: tuple[Scored, ...]
    views: tuple[int, int]
    masks: Masks = NO_MASKS
    warnings: tuple[str, ...] = ()


def score(
    recogniser: Recogniser,
    manifest: Manifest,
    *,
    batch_size: int = 8,
    workers: int = 0,
    cache: str | Path | None = None,
    lost: dict[str, str] | None = None,
    on_batch: Callable[[int], None] | None = None,
    processes: Processes = ALONE,
    stopped: Callable[[], bool] = lambda: False,
) -> Scores:
    """Score every clip of a manifest, labelled or not; see `evaluate` for arguments and errors."""
    known = manifest.with_labels(recogniser.labels)
    # Whole batches, one after the other in turn: what a batch holds changes the last bits.
    every = range(len(known.rows))
    batches = [every[start : start + batch_size] for start in every[::batch_size]]
    rounds = -(-len(batches) // processes.size)
    own = [index for batch in batches[processes.rank :: processes.size] for index in batch]
    part = replace(known, rows=tuple(known.rows[index] for index in own))
    loader = loader_for(
        recogniser, part, batch_size=batch_size, workers=workers, cache=cache, lost=lost
    )
    generator = torch.Generator().manual_seed(0)  # the same masks at every evaluation
    clips: dict[int, Scored] = {}
    warned: list[tuple[int, str]] = []
    with closing(loader), recogniser.evaluating():
        mine = iter(loader) if own else iter(())
        for _ in range(rounds):
            batch = next(mine, None)
            good = 0 if batch is None else len(batch.indices)
            done = len(clips) + (0 if batch is None else good + len(batch.bad))
            told = processes.gather([good, done, stopped()])
            if any(stop for _, _, stop in told):
                raise KeyboardInterrupt
            goods = [int(count) for count, _, _ in told]
            _skip_masks(recogniser, goods[: processes.rank], batch_size, generator)
            if batch is not None:
                for place, scores_K in _score(recogniser, batch, batch_size, generator):
                    row = known.rows[own[place]]
                    clips[own[place]] = Scored(row.name, row.label or "", scores_K)
                for bad in batch.bad:
                    row = known.rows[own[bad.index]]
                    clips[own[bad.index]] = Scored(row.name, row.label or "", None, bad.reason)
                warned += [(own[place], text) for place, text in batch.warnings]
            _skip_masks(recogniser, goods[processes.rank + 1 :], batch_size, generator)
            if on_batch is not None:
                on_batch(int(sum(count for _, count, _ in told)))
    if processes.size > 1:
        for others, texts in processes.collect((clips, warned)):
            clips |= others
            warned = sorted({*warned, *texts})
    cropped = [text for _, text in warned if text.endswith(CROPPED)]
    warnings = [text for _, text in warned if not text.endswith(CROPPED)]
    if cropped:
        warnings.insert(0, _about_crops(cropped, len(known.rows)))
    return Scores(
        labels=recogniser.labels,
        clips=tuple(clips[index] for index in range(len(known.rows))),
        views=recogniser.views,
        masks=recogniser.masks,
        warnings=tuple(warnings),
    )


def _about_crops(cropped: Sequence[str], total: int) -> str:
    """One line for all clips of which a part is seen."""
    return (
        f"the sides of {len(cropped):,} of {counted(total, 'clip')} are cut off, such as "
        f"{cropped[0]}. More spatial views show the sides as well, such as --views 1x3; a model "
        "trained with model.frame_fit=stretch sees whole frames."
    )


def _skip_masks(
    recogniser: Recogniser, counts: Sequence[int], batch_size: int, generator: torch.Generator
) -> None:
    """Draw the masks of batches that other processes score, of so many clips each: a clip's mask
    does not depend on how many processes there are."""
    if not recogniser.masks.tube_mask_ratio:
        return
    for count in counts:
        views = count * recogniser.views[0] * recogniser.views[1]
        for start in range(0, views, batch_size):
            ratio = recogniser.masks.tube_mask_ratio
            part = min(batch_size, views - start)
            recogniser.network.init_state(part, tube_mask_ratio=ratio, generator=generator)


def _score(
    recogniser: Recogniser, batch: Batch, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """(row, probabilities [K]) of the readable clips of a batch."""
    if batch.inputs is None:
        return

    def scores_of(inputs: Inputs) -> Tensor:
        logits_BK = recogniser.scan(inputs, "evaluate", generator)[:, -1]
        return probabilities(logits_BK.double(), recogniser.network.config).cpu()

    mean_BK = mean_over_views(batch.inputs, batch_size, scores_of)
    scores_BK = tempered(mean_BK.numpy(), recogniser.temperature)
    yield from zip(batch.indices.tolist(), scores_BK, strict=True)


def loader_for(
    recogniser: Recogniser,
    manifest: Manifest,
    *,
    batch_size: int,
    workers: int,
    cache: str | Path | None,
    lost: dict[str, str] | None = None,
) -> Loader:
    """The clips of a manifest as a recogniser wants them; arguments as of `evaluate`."""
    return make_loader(
        make_dataset(
            recogniser.network.config,
            manifest,
            recogniser.sampling,
            views=recogniser.views,
            cache=cache,
        ),
        batch_size=batch_size,
        workers=workers,
        pin_memory=recogniser.device.type == "cuda",
        clip_timeout=recogniser.clip_timeout,
        lost=lost,
    )


def mean_over_views(inputs: Inputs, batch_size: int, of: Callable[[Inputs], Tensor]) -> Tensor:
    """What `of` gives for each clip, [B, X]: the mean over its views.

    Args:
        inputs: frames [B, T, H, W, 3], or [B, V, T, H, W, 3] with views, and their edges.
        batch_size: views that are given to `of` at a time.
        of: inputs without views -> [N, X].
    """
    frames, edges = inputs
    num_views = frames.shape[1] if frames.ndim == 6 else 1
    if frames.ndim == 6:
        frames, edges = frames.flatten(0, 1), edges.flatten(0, 1)
    pairs = zip(frames.split(batch_size), edges.split(batch_size), strict=True)
    parts = [of(Inputs(*pair)) for pair in pairs]
    return torch.cat(parts).unflatten(0, (-1, num_views)).mean(1)
