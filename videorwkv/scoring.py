"""Score the clips of a manifest, labelled or not: what evaluation and submission files stand on.

K classes, N clips, V views of a clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from videorwkv.data import CLIP_TIMEOUT, Batch, ClipDataset, FrameCache, Manifest, make_loader
from videorwkv.errors import UsageError
from videorwkv.masks import NO_MASKS, Masks
from videorwkv.models import LCR, Inputs, LCRConfig
from videorwkv.train.checkpoint import Run, load_run
from videorwkv.train.nonfinite import check_scores
from videorwkv.video.sampling import Sampling

if TYPE_CHECKING:
    from videorwkv.runtime import ExportedModel
    from videorwkv.train.recipes import Recipe


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
class Scores:
    """What a model says about every clip of a manifest.

    Args:
        labels: K class names, in the order of the scores.
        clips: one for each row, in order.
        views: temporal and spatial views whose scores were averaged.
        masks: which patches were left out.
        warnings: what was wrong with clips that were read all the same.
    """

    labels: tuple[str, ...]
    clips: tuple[Scored, ...]
    views: tuple[int, int]
    masks: Masks = NO_MASKS
    warnings: tuple[str, ...] = ()


def score(
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
) -> Scores:
    """Score every clip of a manifest, labelled or not; see `videorwkv.evaluate` for arguments.

    Raises:
        ManifestError: a label that the model does not know.
        UsageError, CheckpointError: no such run, or a broken one; another number of labels than
            the model has classes.
        NonFiniteError: the model gives NaN or infinity; the message names the module.
    """
    masks = Masks(tube_mask_ratio=tube_mask_ratio, motion_mask_ratio=motion_mask_ratio)
    if isinstance(model, str | Path):
        model = load_run(model)
    device = pick_device(device)
    own_labels, recipe = origin(model)
    if recipe is not None:
        sampling, views = sampling or recipe.sampling, views or recipe.views
        clip_timeout = recipe.clip_timeout if clip_timeout is None else clip_timeout
    if isinstance(model, Run):
        model = model.model(device)
    model = model.to(device)
    masks = masks.fitted(model)
    labels = tuple(labels or own_labels or manifest.labels)
    check_labels(labels, model.config.num_classes, "evaluate")
    known = manifest.with_labels(labels)
    dataset = make_dataset(
        model.config,
        known,
        sampling or Sampling(),
        views=views or (1, 1),
        cache=cache,
    )
    loader = make_loader(
        dataset,
        batch_size=batch_size,
        workers=workers,
        pin_memory=device.type == "cuda",
        clip_timeout=CLIP_TIMEOUT if clip_timeout is None else clip_timeout,
        lost=lost,
    )
    generator = torch.Generator().manual_seed(0)  # the same masks at every evaluation

    def classifier(inputs: Inputs) -> Callable[[], torch.Tensor]:
        # One state for all calls, so that a look at what went wrong is under the same mask.
        state = masks.start(model, inputs, generator)
        return lambda: model.scan(inputs, state)[0][:, -1]

    clips: dict[int, Scored] = {}
    warnings: list[str] = []
    was_training = model.training
    model.eval()
    try:
        for batch in loader:
            for index, scores_K in _score(model, classifier, batch, device, precision, batch_size):
                row = known.rows[index]
                clips[index] = Scored(row.path, row.label or "", scores_K)
            for bad in batch.bad:
                row = known.rows[bad.index]
                clips[bad.index] = Scored(row.path, row.label or "", None, bad.reason)
            warnings += [text for _, text in batch.warnings]
            if on_batch is not None:
                on_batch(len(clips))
    finally:
        loader.close()
        model.train(was_training)
    return Scores(
        labels=labels,
        clips=tuple(clips[index] for index in range(len(known.rows))),
        views=views or (1, 1),
        masks=masks,
        warnings=tuple(warnings),
    )


def _score(
    model: LCR | ExportedModel,
    classifier: Callable[[Inputs], Callable[[], torch.Tensor]],
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
            classify = classifier(Inputs(*part).to(device))
            logits_BK = classify()
            check_scores(logits_BK, model, classify, "evaluate")
            parts.append(logits_BK.double().softmax(-1).cpu())
    scores_BVK = torch.cat(parts).unflatten(0, (-1, num_views))
    yield from zip(batch.indices.tolist(), scores_BVK.mean(1).numpy(), strict=True)


def origin(
    model: LCR | ExportedModel | Run,
) -> tuple[tuple[str, ...] | None, Recipe | None]:
    """Labels and recipe that a run or an exported file brings along; None for a model alone."""
    from videorwkv.runtime import ExportedModel

    if isinstance(model, Run | ExportedModel):
        return model.labels, model.recipe
    return None, None


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
        reason = str(error).splitlines()[0].rstrip(".")
        raise UsageError(
            f"Device {str(device)!r} can't be used: {reason}. Usual: auto, cpu, cuda, cuda:1."
        ) from error
    return chosen


def check_labels(labels: Sequence[str], num_classes: int, what: str) -> None:
    """`UsageError` unless there is a label for each class; `what` asks."""
    if len(labels) != num_classes:
        raise UsageError(
            f"{what}: {len(labels)} labels for a model of {num_classes} classes. Give one for each "
            "class, in the order of the model's logits."
        )


def make_dataset(
    model: LCRConfig,
    manifest: Manifest,
    sampling: Sampling,
    *,
    cache: str | Path | None = None,
    **options: Any,
) -> ClipDataset:
    """The clips of a manifest as a model with this configuration reads them."""
    frames = None if cache is None else FrameCache.for_images(cache, model.image_size)
    return ClipDataset(
        # Workers get a copy, and have no use for clips that are not there.
        replace(manifest, missing=()),
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
