"""How fast a data set is read, step by step, beside the shortest loop around the decoder.

`bench(manifest, options)` times four steps of reading (decode, + resize, + edges, + collate) and
the loops of `bench_baseline`, which give the same frames, in this process and in worker processes.
All are timed in turn, round after round, so that whatever else the machine does meets all. The
files lie in memory by then (page cache): what is measured is work, not the disk.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.reading.baseline import Task, opencv_images, pyav_from_start, pyav_key_frames
from benchmarks.reading.report import BenchReport, Timing
from videorwkv.data.cache import FrameCache
from videorwkv.data.dataset import BadClip, ClipDataset, Sample
from videorwkv.data.loader import make_loader
from videorwkv.data.manifest import Manifest, Row
from videorwkv.data.transforms import Augmentation
from videorwkv.errors import ConfigError, DataError, UsageError, did_you_mean
from videorwkv.preprocess.edges import EDGE_METHODS, edge_map
from videorwkv.preprocess.inputs import fit_box, fit_image
from videorwkv.utils.workers import Lost, WorkerPool
from videorwkv.video.base import Sampling, Transform
from videorwkv.video.decoding import UNTIMED
from videorwkv.video.frames_folder import FolderVideo

# Clips in a batch of the loader: its size does not matter to the rate, its memory does.
BATCH = 4
# A measurement with workers takes at least so many clips each, or the last one would count most.
CLIPS_PER_WORKER = 4


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What is read and how often.

    Args:
        num_frames: frames of a clip, spread over it.
        size: side of the frames in pixels.
        edges: method in `EDGE_METHODS`.
        clips: at most so many, spread over the data set.
        workers: numbers of worker processes; 0 reads in this one.
        rounds: how often everything is timed.
        train: random places, crops and colours, instead of evaluation's fixed ones.
    """

    num_frames: int = 16
    size: int = 224
    edges: str = "canny"
    clips: int = 32
    workers: tuple[int, ...] = (0, 1, 2)
    rounds: int = 5
    train: bool = False

    def __post_init__(self) -> None:
        for name in ("num_frames", "size", "clips", "rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"bench: {name} ({getattr(self, name)}) must be at least 1.")
        if not self.workers or min(self.workers) < 0 or len(set(self.workers)) < len(self.workers):
            raise ConfigError(
                f"bench: workers {list(self.workers)} must be different numbers, each 0 or more."
            )
        if self.edges not in EDGE_METHODS:
            raise UsageError(
                f"Unknown edge method {self.edges!r}. {did_you_mean(self.edges, EDGE_METHODS)}"
            )


def bench(
    manifest: Manifest,
    options: BenchOptions,
    *,
    cache: FrameCache | None = None,
    on_share: Callable[[float], None] = lambda share: None,
) -> BenchReport:
    """Time reading.

    Args:
        manifest: the data set; labels and splits don't matter.
        options: what is read and how often.
        cache: read from this cache, which is filled first; the loops around the decoder still read
            the clips themselves.
        on_share: told after each timing which share of all of them is done.

    Raises:
        DataError: no clip can be read.
    """
    with _one_thread():
        dataset, unreadable = _readable(manifest, options, cache)
        rows = len(dataset.manifest.rows)
        passes = max(_passes(rows, workers) for workers in options.workers)
        steps = _Steps(dataset, [_task(dataset, index) for index in range(rows * passes)])
        names = [*steps.loops, "decode", "resize", "edges", "collate"]
        timings = {
            (step, workers): Timing(step, workers, rows * _passes(rows, workers))
            for workers in options.workers
            for step in names
        }
        alone = Timing("edges alone", 0, rows)
        differing = steps.check(rows)
        total = options.rounds * len(timings)
        with ExitStack() as stack:
            runners = {n: stack.enter_context(_Runner(steps, n)) for n in options.workers}
            for number in range(options.rounds):
                # There and back: where the machine slows down, both ends of the list meet it.
                order = list(timings)[:: -1 if number % 2 else 1]
                for done, key in enumerate(order):
                    step, workers = key
                    runners[workers].time(step, timings[key])
                    on_share((number * len(timings) + done + 1) / total)
                alone.measure(steps.make_edges)
    return BenchReport(
        options=options,
        clips=rows,
        cached=cache is not None,
        generated=manifest.opener is not None,
        decoder=manifest.decoder,
        differing=differing,
        unreadable=tuple(unreadable),
        timings=(*timings.values(), alone),
        baselines=tuple(steps.loops),
    )


def unlabelled(folder: str | Path, decoder: str = "auto") -> Manifest | None:
    """The videos that lie in a folder itself, for which no data set layout is needed."""
    from videorwkv.video.base import VIDEO_SUFFIXES

    folder = Path(folder)
    if not folder.is_dir():
        return None
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    rows = tuple(Row(str(path), None) for path in files)
    if not rows:
        return None
    return Manifest(name="folder", rows=rows, labels=(), root=str(folder), decoder=decoder)


def _passes(clips: int, workers: int) -> int:
    """How often one measurement reads all clips."""
    return max(1, -(-CLIPS_PER_WORKER * workers // clips))


def _readable(
    manifest: Manifest, options: BenchOptions, cache: FrameCache | None
) -> tuple[ClipDataset, list[BadClip]]:
    """The clips that are timed, once read, and those that can't be read."""
    rows = manifest.rows
    if len(rows) > options.clips:
        places = np.linspace(0, len(rows) - 1, options.clips).round().astype(int)
        rows = tuple(rows[place] for place in places)
    dataset = ClipDataset(
        replace(manifest, rows=rows, missing=()),
        sampling=Sampling(num_frames=options.num_frames),
        size=options.size,
        edges=options.edges,
        augmentation=Augmentation() if options.train else None,
        cache=cache,
    )
    samples = [dataset[0, index] for index in range(len(rows))]
    unreadable = [sample for sample in samples if isinstance(sample, BadClip)]
    bad = {clip.index for clip in unreadable}
    good = tuple(row for index, row in enumerate(rows) if index not in bad)
    if not good:
        raise DataError(
            f"{manifest.name}: none of the {len(rows)} clips that were tried can be read. The "
            f"first: {unreadable[0].reason} `videorwkv data check` tells more."
        )
    return _changed(dataset, manifest=replace(dataset.manifest, rows=good)), unreadable


def _changed(dataset: ClipDataset, **attributes: Any) -> ClipDataset:
    other = copy.copy(dataset)
    vars(other).update(attributes)
    return other


def _task(dataset: ClipDataset, index: int) -> Task | None:
    """What a loop around the decoder needs to know; None for generated clips."""
    if dataset.manifest.opener is not None:
        return None
    _, row = dataset.locate(index)
    drawn = dataset.draw((0, index))
    with dataset.manifest.open(row) as video:
        times = video.times()
        height, width = video.read([0]).frames_THWC.shape[1:3]
        files = tuple(video.files) if isinstance(video, FolderVideo) else ()
    indices = drawn.sampling.indices(times, rng=drawn.places).tolist()
    box = fit_box(height, width, dataset.frame_fit)
    if drawn.draw is not None:
        box = drawn.draw.crop_box(height, width)
    # Absolute, so that FFmpeg takes no part of the name for a protocol.
    path = os.path.abspath(row.path)
    pts, key_pts = ([], []) if files else _pts(path)
    # Where packets don't tell the frames, only a pass from the beginning does.
    known = len(pts) == len(times)
    return Task(
        path=path,
        indices=tuple(indices),
        box=box,
        size=dataset.size,
        files=files,
        pts=tuple(pts[place] for place in indices) if known else (),
        key_pts=tuple(key_pts),
    )


def _pts(path: str) -> tuple[list[int], list[int]]:
    """All pts of a file and those of its key frames, increasing; empty where packets have none,
    or other pictures' ones."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        is_guess = container.format.name in UNTIMED and stream.codec_context.has_b_frames
        packets = [
            packet for packet in container.demux(stream) if packet.size and not packet.is_discard
        ]
    if is_guess or any(packet.pts is None for packet in packets):
        return [], []
    keys = {packet.pts for packet in packets if packet.is_keyframe}
    return sorted({packet.pts for packet in packets}), sorted(keys)


class _Steps:
    """Reads a clip up to some step and throws it away.

    Args:
        dataset: reads with edges.
        tasks: its clips for the loops around the decoder.
    """

    def __init__(self, dataset: ClipDataset, tasks: Sequence[Task | None]) -> None:
        self.dataset = dataset
        self._without_edges = _changed(dataset, edges="none")
        self._tasks = tasks
        self._frames: list[NDArray[np.uint8]] = []
        self.loops: dict[str, Callable[[Task], NDArray[np.uint8]]] = {}
        known = [task for task in tasks if task is not None]
        if len(known) < len(tasks):
            return
        if all(task.files for task in known):
            self.loops = {"OpenCV": opencv_images}
        elif not any(task.files for task in known):
            self.loops = {"PyAV": pyav_from_start}
            if all(task.pts for task in known):
                self.loops["PyAV, seeking"] = pyav_key_frames

    def __call__(self, step_index: tuple[str, int]) -> None:
        step, index = step_index
        if step in self.loops:
            task = self._tasks[index]
            assert task is not None
            self.loops[step](task)
        elif step == "decode":
            # A pixel is enough: the whole frame is RGB by then.
            self._read(index, lambda image_HWC: image_HWC[:1, :1])
        else:
            dataset = self.dataset if step == "edges" else self._without_edges
            _good(dataset[0, index])

    def check(self, count: int) -> int:
        """In how many of the first clips a loop gives other frames than the loader."""
        differing = 0
        for index in range(count):
            self._frames.append(_good(self.dataset[0, index]).inputs.frames_BTHWC.numpy())
            task = self._tasks[index]
            # A cache may have changed the frames.
            if task is None or self.dataset.cache is not None:
                continue
            draw = self.dataset.draw((0, index)).draw
            frame_fit = self.dataset.frame_fit
            whole = partial(fit_image, size=self.dataset.size, frame_fit=frame_fit)
            crop = draw.crop if draw is not None else whole
            frames_THWC = self._read(index, crop)
            differing += not all(
                np.array_equal(loop(task), frames_THWC) for loop in self.loops.values()
            )
        return differing

    def make_edges(self) -> None:
        """The edges of all clips."""
        for frames_THWC in self._frames:
            edge_map(frames_THWC, self.dataset.edges, self.dataset.edge_options)

    def _read(self, index: int, transform: Transform) -> NDArray[np.uint8]:
        _, row = self.dataset.locate(index)
        sampling, places, _ = self.dataset.draw((0, index))
        with self.dataset.open(row) as video:
            clip = video.sample(
                sampling.num_frames, fps=sampling.fps, rng=places, transform=transform
            )
        return clip.frames_THWC


class _Runner:
    """Times steps with some number of workers; a context manager that ends them."""

    def __init__(self, steps: _Steps, workers: int) -> None:
        self._steps = steps
        rows = len(steps.dataset.manifest.rows)
        dataset = _changed(steps.dataset, repeats=_passes(rows, workers))
        self._loader = make_loader(dataset, batch_size=BATCH, workers=workers)
        self._pool = None
        if workers:
            self._pool = WorkerPool(steps, workers=workers, initializer=_single_threaded)
            # Processes start late, and the first clip in each imports what it needs.
            self._run("decode", rows)
        self._collate()

    def __enter__(self) -> _Runner:
        return self

    def __exit__(self, *error: object) -> None:
        self._loader.close()
        if self._pool is not None:
            self._pool.close()

    def time(self, step: str, timing: Timing) -> None:
        """One measurement, added to `timing`."""
        if step == "collate":
            timing.measure(self._collate)
        else:
            timing.measure(lambda: self._run(step, timing.clips))

    def _run(self, step: str, clips: int) -> None:
        if self._pool is None:
            for index in range(clips):
                self._steps((step, index))
            return
        for index in range(clips):
            self._pool.submit(index, (step, index))
        for _ in range(clips):
            _, answer = self._pool.next()
            if isinstance(answer, Lost):
                raise DataError(f"bench: a worker was lost: {answer.reason}.")

    def _collate(self) -> None:
        for batch in self._loader:
            if batch.bad:
                raise DataError(f"{batch.bad[0].reason} It could be read a moment ago.")


def _good(sample: Sample | BadClip) -> Sample:
    if isinstance(sample, BadClip):
        raise DataError(f"{sample.reason} It could be read a moment ago.")
    return sample


def _single_threaded() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in a worker: all that is timed has one thread."""
    threads, opencv_threads = torch.get_num_threads(), cv2.getNumThreads()
    _single_threaded()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(opencv_threads)
