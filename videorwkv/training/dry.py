"""A dry run: what a training would be made of and how long it would take, from a few of its steps.

The steps are those of `train` itself, in a folder that is thrown away.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from videorwkv.data import Manifest
from videorwkv.errors import DataError
from videorwkv.inference.baselines import baselines as baselines_of
from videorwkv.inference.baselines import some_clips
from videorwkv.inference.evaluate import evaluate
from videorwkv.inference.timeline.evaluate import evaluate_timeline
from videorwkv.models import build_model
from videorwkv.run.pretrained import Pretrained
from videorwkv.run.recipes import Recipe
from videorwkv.training.compare import TRAIN_LIMIT, VALIDATION_LIMIT
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
from videorwkv.utils.processes import Processes, connected
from videorwkv.utils.words import counted

# Steps that are taken: more, up to `MOST`, where they take less than `ENOUGH` seconds; fewer where
# they take longer than `SECONDS`, but at least two.
STEPS, MOST = 24, 400
ENOUGH, SECONDS = 8.0, 60.0
# Steps that are not counted: workers start, kernels are compiled.
WARM_UP = 4
# Batches of the validation split that are scored.
BATCHES = 6
# Clips whose features for the baselines are made.
CLIPS = 40


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
        validation_seconds: of one such validation, with all that goes with it (signs of failure,
            checkpoint); 0 without one.
        start_seconds: before the first step.
        end_seconds: after the last one, for the baselines.
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
    start_seconds: float = 0.0
    end_seconds: float = 0.0

    @property
    def hours(self) -> float:
        """Of the whole run, from its start to its end."""
        steps = self.steps * self.seconds + self.validations * self.validation_seconds
        return (self.start_seconds + steps + self.end_seconds) / 3600

    def report(self) -> str:
        """A few lines for a user."""
        clips, frames, side = self.batch
        rate = clips / max(self.seconds, 1e-9)
        duration = f"{self.hours:.1f} h" if self.hours >= 1 else f"{60 * self.hours:.0f} minutes"
        if self.hours < 1 / 6:
            duration = f"{3600 * self.hours:.0f} seconds"
        lines = [
            f"batches of {counted(clips, 'clip')}: {counted(frames, 'frame')} of {side}x{side}",
            f"{counted(self.measured, 'step')} taken on {self.device}: {self.seconds:.2f} s each, "
            f"{rate:.1f} clips/s; {counted(self.unreadable, 'clip')} unreadable",
        ]
        if self.validation_seconds:
            lines.append(
                f"{counted(self.validations, 'validation')} of {self.validation_seconds:.1f} s each"
            )
        if self.start_seconds or self.end_seconds:
            end = f", {self.end_seconds:.0f} s for baselines after the last" * bool(
                self.end_seconds
            )
            lines.append(f"{self.start_seconds:.0f} s before the first step{end}")
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
    baselines: bool = False,
) -> DryRun:
    """Take a few steps of a training and say how long the whole of it would take.

    Under torchrun, the steps are those of all processes together.

    Args:
        recipe: as for `train`.
        manifest: the data set.
        init: as for `train`.
        device: as for `train`.
        cache: as for `train`; clips that are not in it yet are slower than they will be.
        baselines: as for `train`.

    Raises:
        VideoRWKVError: what `train` would raise.
    """
    with connected(device) as processes:
        where = pick_device(processes.device(device))
        manifest = taught(recipe, manifest)
        recipe = for_data(recipe, manifest)
        require_validations(recipe, manifest)
        options = {"init": init, "device": device, "cache": cache, "quiet": True, "log": ()}
        loader = training_loader(recipe, manifest, cache, where, {}, processes)
        per_epoch = loader.batches_per_epoch
        loader.close()
        steps = recipe.steps or (recipe.epochs or 0) * per_epoch
        eval_every = validation_interval(recipe, per_epoch, steps)
        if where.type == "cuda":
            torch.cuda.reset_peak_memory_stats(where)
        begun = time.perf_counter()
        times, unreadable = _take_steps(recipe, manifest, options, where, processes)
        taken = [after - before for before, after in itertools.pairwise(times)]
        # The mean: clips that take long come again and again.
        seconds = statistics.fmean(taken[WARM_UP - 1 :] or taken)
        validation = _validation_seconds(recipe, manifest, options, where, processes)
        ask = baselines and processes.is_first and not recipe.timeline
        end = _baseline_seconds(manifest, recipe.clip_timeout) if ask and validation else 0.0
    return DryRun(
        batch=(recipe.batch_size, recipe.sampling.num_frames, recipe.model.image_size),
        clips=sum(row.split == "train" and row.label is not None for row in manifest.rows),
        steps=steps,
        measured=len(times),
        seconds=seconds,
        validations=-(-steps // eval_every) if validation else 0,
        validation_seconds=validation,
        unreadable=unreadable,
        memory=_memory(where),
        device=str(where),
        start_seconds=max(0.0, times[0] - begun - seconds),
        end_seconds=end,
    )


def _take_steps(
    recipe: Recipe,
    manifest: Manifest,
    options: Mapping[str, Any],
    device: torch.device,
    processes: Processes,
) -> tuple[list[float], int]:
    """When each step was taken, and how many clips could not be read."""
    times: list[float] = []

    def on_step(step: int) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter())
        passed = times[-1] - times[0]
        enough = step >= MOST or (step >= STEPS and passed >= ENOUGH) or passed > SECONDS
        # All end together, or the others would wait for one that is gone.
        if step >= 2 and processes.first(lambda: enough):
            raise _EnoughError

    # One step more than are taken, so that none is the last one, which is validated.
    short = replace(
        recipe, epochs=None, steps=MOST + 1, eval_every=MOST + 1, checkpoint_minutes=0, patience=0
    )
    training = replace(manifest, rows=tuple(r for r in manifest.rows if r.split == "train"))
    with _folder(processes) as run:
        try:
            train(short, training, run, on_step=on_step, **options)
        except _EnoughError:
            pass
        else:
            raise KeyboardInterrupt  # `train` returns early for nothing else
        bad = processes.first(
            lambda: sum(entry["kind"] == "bad_clip" for entry in read_log(run / "log.jsonl"))
        )
    return times, bad


@contextmanager
def _folder(processes: Processes) -> Iterator[Path]:
    """A place for a run that is thrown away; all processes of a machine see it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(processes.first(lambda: folder)) / "run"
        processes.gather([0.0])  # nobody is in it any more


def _validation_seconds(
    recipe: Recipe,
    manifest: Manifest,
    options: Mapping[str, Any],
    device: torch.device,
    processes: Processes,
) -> float:
    """Of scoring the whole validation split, and of what goes with it, from some of its batches."""
    split = validation_split(manifest)
    if split is None:
        return 0.0
    if recipe.timeline:
        return _timeline_seconds(recipe, split, device)
    rows = [row for row in split.rows if row.label is not None]
    chosen = rows[:: max(1, len(rows) // (BATCHES * recipe.batch_size))]
    chosen = chosen[: BATCHES * recipe.batch_size]
    batch = recipe.batch_size
    times = [time.perf_counter()]
    evaluate(
        build_model(recipe.model).to(device).eval(),
        replace(split, rows=tuple(chosen)),
        recipe.sampling,
        labels=manifest.labels,
        views=recipe.views,
        batch_size=batch,
        workers=recipe.workers,
        device=device,
        precision=recipe.precision,
        cache=options["cache"],
        clip_timeout=recipe.clip_timeout,
        on_batch=lambda _: times.append(time.perf_counter()),
        processes=processes,
    )
    each = (times[-1] - times[1]) / (len(times) - 2) if len(times) > 2 else times[-1] - times[0]
    more = -(-len(rows) // batch) - -(-len(chosen) // batch)
    # One step of a run with these clips, and its validation: workers that start, signs of failure
    # and a checkpoint are part of each.
    marks: list[float] = []
    short = replace(recipe, epochs=None, steps=1, eval_every=1, patience=0)
    train_rows = (row for row in manifest.rows if row.split == "train")
    few = replace(manifest, rows=(*train_rows, *chosen))
    with _folder(processes) as run:
        train(
            short,
            few,
            run,
            on_step=lambda _: marks.append(time.perf_counter()),
            on_validation=lambda *_: marks.append(time.perf_counter()),
            **options,
        )
    return marks[1] - marks[0] + each * more


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


def _baseline_seconds(manifest: Manifest, clip_timeout: float) -> float:
    """Of the baselines, from some of their clips."""
    train_split, validation = manifest.split("train"), validation_split(manifest)
    assert validation is not None
    clips = min(TRAIN_LIMIT, len(train_split)) + min(VALIDATION_LIMIT, len(validation))
    few = some_clips(train_split, CLIPS // 2), some_clips(validation, CLIPS // 2)
    begun = time.perf_counter()
    try:
        baselines_of(*few, clip_timeout=clip_timeout)
    except DataError:
        return 0.0  # of these clips nothing can be said, and `train` would say the same
    return (time.perf_counter() - begun) * clips / max(1, sum(map(len, few)))


def _memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
