"""Recognise actions in live sources, frame by frame: `stream(run, source)`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videorwkv.errors import UsageError
from videorwkv.inference.annotate import AnnotatedVideoWriter
from videorwkv.inference.pacing import AfterDrop
from videorwkv.inference.predict import Source
from videorwkv.inference.recogniser import ModelLike, Recogniser
from videorwkv.inference.stream_loop import Stream as Stream
from videorwkv.inference.stream_options import THRESHOLD
from videorwkv.inference.stream_options import StreamOptions as StreamOptions
from videorwkv.inference.stream_sources import open_sources, title
from videorwkv.inference.track import StreamEvent as StreamEvent
from videorwkv.inference.track import StreamPrediction as StreamPrediction
from videorwkv.inference.track import Track
from videorwkv.utils.files import require_no_source
from videorwkv.utils.words import counted
from videorwkv.video import Video
from videorwkv.video.live import LiveOptions


def stream(
    model: ModelLike,
    source: Source | int | Video | Sequence[Source | int | Video],
    *,
    labels: Sequence[str] | None = None,
    fps: float | None = None,
    threshold: float | None = None,
    smooth: float = 0.5,
    gap: float = 2.0,
    reset_every: float | None = None,
    tube_mask_ratio: float = 0.0,
    motion_mask_ratio: float = 0.0,
    top: int = 5,
    half: bool = False,
    device: str | torch.device = "auto",
    save: str | Path | None = None,
    frame_rate: float | None = None,
    allow_playlists: bool = False,
    names: Sequence[str] | None = None,
    reconnect: bool = False,
    after_drop: AfterDrop = "auto",
    stall: float = 5.0,
    live: LiveOptions | None = None,
    load_state: str | Path | None = None,
    on_event: Callable[[StreamEvent], None] = lambda event: None,
) -> Stream:
    """Name the action in a camera, a broadcast or a file, frame by frame, without an end.

    The model gets frames as far apart in time as in training. A live source's frames are never late
    by more than one: those that come while the model is busy are dropped, and counted. Files are
    read whole, as fast as it goes. What the model remembers stays of the same size for ever.

    Several sources share the model: a step takes the frames that wait, at most one of each.

    Args:
        model: a run's folder, a file that `videorwkv.export` wrote, or a `Run`: run in their
            fastest way (`LCR.for_inference`); or a model or a `Recogniser`, run as it is.
        source: what `open_video` takes, such as 0 for the first camera; `-` or a FIFO; an open
            `Video`; or a list of them.
        labels: class names; the run's or the file's if None, else class numbers.
        fps, smooth, gap, reset_every, top, stall, after_drop: see `StreamOptions`.
        threshold: see `StreamOptions`; None: what is kept with the run (`Calibration`), else 0.5.
        tube_mask_ratio, motion_mask_ratio: see `StreamOptions`.
        half: run matrix multiplications in bfloat16; only for a run that is not exported.
        device: `auto`, or a device by name.
        save: an .mp4 file to write, when the stream ends: the classified frames with edge map,
            labels and scores drawn in, at the source's speed; pauses end after 10 s. Of several
            sources, each has a file, with its number before the ending.
        frame_rate: frames a second of a folder of frames; the run's if None, else 12.
        allow_playlists: as in `open_video`.
        names: what the sources are called, in order; as they were given if None.
        reconnect: open a camera or network stream again when it is lost or ends, after 1 s, 2 s and
            so on up to 30 s; one that can't be opened at first is tried again, too.
        live: how live sources are read; pipes are read whatever it says.
        load_state: a file of `Stream.save_state`, to go on from; the sources are those that it was
            saved for, in their order.
        on_event: is called with what befalls a source, by whoever iterates.

    Returns:
        A `Stream`, which yields a `StreamPrediction` for each classified frame.

    Raises:
        UsageError: a wrong option, no such run, a mask that the file was not exported with, a
            source whose frames carry no times and no `source_fps`, a state of another model.
        CheckpointError: the run or the state can't be read.
        DecodeError: here or while iterating: the source can't be opened or breaks off. Where there
            are several, the others go on: `Stream.failed`.
        NonFiniteError: while iterating: the model gives NaN or infinity.

    Example:
        >>> for prediction in stream("runs/mine", 0):  # doctest: +SKIP
        ...     if prediction.changed:
        ...         print(prediction.time, prediction.label)
    """
    options = StreamOptions(
        fps=fps,
        threshold=THRESHOLD if threshold is None else threshold,
        smooth=smooth,
        gap=gap,
        reset_every=reset_every,
        tube_mask_ratio=tube_mask_ratio,
        motion_mask_ratio=motion_mask_ratio,
        top=top,
        stall=stall,
        after_drop=after_drop,
    )
    several: list[Any] = list(source) if isinstance(source, list | tuple) else [source]
    titles = _titles(several, names)
    films = _films(save, len(several))
    if save is not None:
        require_no_source(
            [film for film in films if film is not None],
            [one.name if isinstance(one, Video) else one for one in several],
        )
    recogniser = Recogniser.open(
        model,
        what="stream",
        labels=labels,
        masks=options.masks,
        device=device,
        fastest=True,
        half=half,
    )
    if threshold is None and recogniser.threshold is not None:
        options = replace(options, threshold=recogniser.threshold)
    with ExitStack() as resources:
        resources.enter_context(recogniser.evaluating())
        if not all(isinstance(one, Video) for one in several):
            # The first step takes long; once a camera is open, its frames do not wait.
            size = recogniser.network.config.image_size
            black = recogniser.network.preprocess(np.zeros((size, size, 3), np.uint8))
            recogniser.step(black, recogniser.init_state(), "a black frame")
        opened = open_sources(
            several,
            titles,
            frame_rate=recogniser.frame_rate if frame_rate is None else frame_rate,
            allow_playlists=allow_playlists,
            reconnect=reconnect,
            live=live or LiveOptions(),
            resources=resources,
        )
        fps = options.rate(recogniser.sampling)
        # Half a frame early: times are rounded, and the nearest frame is meant.
        life = options.life(recogniser.sampling, recogniser.network.config.cell) - 0.5 / fps
        tracks = []
        for one, film in zip(opened, films, strict=True):
            writer = None
            if film is not None:
                writer = AnnotatedVideoWriter(
                    film, recogniser.labels, fps, frame_fit=recogniser.network.config.frame_fit
                )
                resources.enter_context(writer)
            tracks.append(
                Track(
                    one.name,
                    one.video,
                    recogniser.labels,
                    options,
                    life,
                    writer,
                    one.told,
                    owns=one.is_own,
                )
            )
        found = Stream(
            recogniser,
            options,
            tracks,
            resources.pop_all(),
            notes=[one.note for one in opened if one.note],
            on_event=on_event,
        )
        if load_state is not None:
            with ExitStack() as broken:
                broken.callback(found.close)
                found.resume(Path(load_state))
                broken.pop_all()
        return found


def _titles(several: Sequence[Source | int | Video], names: Sequence[str] | None) -> list[str]:
    """What the sources are called, each otherwise."""
    if not several:
        raise UsageError("stream: got no source; wanted: one, or a list of them.")
    if names is not None and len(names) != len(several):
        raise UsageError(
            f"stream: got {len(names)} names (--names) for {counted(len(several), 'source')}; give "
            "one for each, in order."
        )
    given = names or [title(source) for source in several]
    twice = next((name for place, name in enumerate(given) if name in given[:place]), None)
    if twice is not None:
        raise UsageError(
            f"stream: two sources are called {twice!r}, and their lines could not be told apart. "
            "Name each source once, or give them names with --names (names)."
        )
    return list(given)


def _films(save: str | Path | None, count: int) -> list[Path | None]:
    """The annotated video of each source."""
    if save is None:
        return [None] * count
    path = Path(save)
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{number + 1}{path.suffix}") for number in range(count)]


def __getattr__(name: str) -> object:
    if name != "Moment":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        "Moment is now StreamPrediction; the old name goes with version 0.3.",
        DeprecationWarning,
        stacklevel=2,
    )
    return StreamPrediction
