"""A dry run: what a training would be made of and how long it would take, from a few of its steps.

The steps are those of `train` itself, in a folder that is thrown away.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from videorwkv.data import Manifest
from videorwkv.inference.evaluate import evaluate
from videorwkv.inference.timeline.evaluate import evaluate_timeline
from videorwkv.models import build_model
from videorwkv.run.pretrained import Pretrained
from videorwkv.run.recipes import Recipe
from videorwkv.training.loggers.jsonl import read_log
from videorwkv.training.loop import train
from videorwkv.training.setup import (
    for_data,
    require_validations,
    taught,
    training_loader,
    validation_interval,
    validation_split,
)
from videorwkv.utils.device import pick_device
from videorwkv.utils.files import decimal
from videorwkv.utils.words import counted

# Steps that are taken; fewer where they take longer than so many seconds, but at least two.
STEPS, SECONDS = 24, 60.0
# Steps that are not counted: workers start, kernels are compiled.
WARM_UP = 4
# Batches of the validation split that are scored.
BATCHES = 6


class _EnoughError(Exception):
    """The steps that are wanted have been taken."""


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a training would be.

    Args:
        batch: clips of a step, frames of a clip, side of a frame in pixels.
        clips: of the training split.
        steps: of the whole run.
        measured: steps that were taken.
        seconds: of a step, the mean of those counted, waiting for clips included.
        validations: how often the validation split would be scored.
        validation_seconds: of one such validation; 0 without one.
        unreadable: clips that could not be read in the steps that were taken.
        memory: most bytes that were in use, on the GPU, or by this process on a CPU; None where the
            system does not tell.
        device: where it ran.
    """

    batch: tuple[int, int, int]
    clips: int
    steps: int
    measured: int
    seconds: float
    validations: int
    validation_seconds: float
    unreadable: int
    memory: int | None
    device: str

    @property
    def hours(self) -> float:
        """Of the whole run, validations included."""
        return (self.steps * self.seconds + self.validations * self.validation_seconds) / 3600

    def report(self) -> str:
        """A few lines for a user."""
        clips, frames, side = self.batch
        rate = clips / max(self.seconds, 1e-9)
        duration = f"{self.hours:.1f} h" if self.hours >= 1 else f"{60 * self.hours:.1f} minutes"
        lines = [
            f"batches of {counted(clips, 'clip')}: {counted(frames, 'frame')} of {side}x{side}",
            f"{counted(self.measured, 'step')} taken on {self.device}: {self.seconds:.2f} s each, "
            f"{rate:.1f} clips/s; {counted(self.unreadable, 'clip')} unreadable",
        ]
        if self.validation_seconds:
            lines.append(
                f"{counted(self.validations, 'validation')} of {self.validation_seconds:.0f} s each"
            )
        if self.memory is not None:
            lines.append(f"memory: {decimal(self.memory)} at most")
        lines.append(
            f"{self.steps:,} steps would take about {duration}, if nothing else slows them down"
        )
        return "\n".join(lines)


def dry_run(
    recipe: Recipe,
    manifest: Manifest,
    *,
    init: str | Path | Pretrained | None = None,
    device: str | torch.device = "auto",
    cache: str | Path | None = None,
) -> DryRun:
    """Take a few steps of a training and say how long the whole of it would take.

    Args:
        recipe: as for `train`.
        manifest: the data set.
        init: as for `train`.
        device: as for `train`.
        cache: as for `train`; clips that are not in it yet are slower than they will be.

    Raises:
        VideoRWKVError: what `train` would raise.
    """
    where = pick_device(device)
    manifest = taught(recipe, manifest)
    recipe = for_data(recipe, manifest)
    require_validations(recipe, manifest)
    loader = training_loader(recipe, manifest, cache, where, {})
    per_epoch = loader.batches_per_epoch
    loader.close()
    steps = recipe.steps or (recipe.epochs or 0) * per_epoch
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
    times = [time.perf_counter()]

    def on_step(step: int) -> None:
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        times.append(time.perf_counter())
        if step >= 2 and (step == STEPS or times[-1] - times[0] > SECONDS):
            raise _EnoughError

    # One step more than are taken, so that none is the last one, which is validated.
    short = replace(
        recipe, epochs=None, steps=STEPS + 1, eval_every=STEPS + 1, checkpoint_minutes=0,
        patience=0,
    )  # fmt: skip
    training = replace(manifest, rows=tuple(r for r in manifest.rows if r.split == "train"))
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        try:
            train(
                short, training, run, init=init, device=where, cache=cache, on_step=on_step,
                quiet=True, log=(),
            )  # fmt: skip
        except _EnoughError:
            pass
        else:
            raise KeyboardInterrupt  # `train` returns early for nothing else
        unreadable = sum(entry["kind"] == "bad_clip" for entry in read_log(run / "log.jsonl"))
    taken = [after - before for before, after in itertools.pairwise(times)]
    counted_steps = taken[WARM_UP:] or taken[1:]
    eval_every = validation_interval(recipe, per_epoch, steps)
    validation = _validation_seconds(recipe, manifest, where, cache)
    return DryRun(
        batch=(recipe.batch_size, recipe.sampling.num_frames, recipe.model.image_size),
        clips=sum(row.label is not None for row in training.rows),
        steps=steps,
        measured=len(taken),
        # The mean: clips that take long come again and again.
        seconds=statistics.fmean(counted_steps),
        validations=-(-steps // eval_every) if validation else 0,
        validation_seconds=validation,
        unreadable=unreadable,
        memory=_memory(where),
        device=str(where),
    )


def _validation_seconds(
    recipe: Recipe, manifest: Manifest, device: torch.device, cache: str | Path | None
) -> float:
    """Of scoring the whole validation split, from some of its batches."""
    split = validation_split(manifest)
    if split is None:
        return 0.0
    if recipe.timeline:
        return _timeline_seconds(recipe, split, device)
    rows = [row for row in split.rows if row.label is not None]
    chosen = rows[:: max(1, len(rows) // (BATCHES * recipe.batch_size))]
    chosen = chosen[: BATCHES * recipe.batch_size]
    times = [time.perf_counter()]
    evaluate(
        build_model(recipe.model).to(device).eval(),
        replace(split, rows=tuple(chosen)),
        recipe.sampling,
        labels=manifest.labels,
        views=recipe.views,
        batch_size=recipe.batch_size,
        workers=recipe.workers,
        device=device,
        precision=recipe.precision,
        cache=cache,
        clip_timeout=recipe.clip_timeout,
        on_batch=lambda _: times.append(time.perf_counter()),
    )
    if len(times) < 3:
        return times[-1] - times[0]
    start = times[1] - times[0]  # workers start, at every validation
    each = (times[-1] - times[1]) / (len(times) - 2)
    return start + each * (-(-len(rows) // recipe.batch_size) - 1)


def _timeline_seconds(recipe: Recipe, split: Manifest, device: torch.device) -> float:
    """Of finding the segments of the whole validation split, from its first file."""
    count = len({row.path for row in split.rows})
    first = tuple(row for row in split.rows if row.path == split.rows[0].path)
    began = time.perf_counter()
    evaluate_timeline(
        build_model(recipe.model).to(device).eval(),
        replace(split, rows=first),
        recipe.sampling,
        labels=split.labels,
        device=device,
        precision=recipe.precision,
    )
    return (time.perf_counter() - began) * count


def _memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
