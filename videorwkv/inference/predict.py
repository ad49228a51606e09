"""Name the action in videos: `predict(sources, model=run)`. T frames, K classes, V views."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from videorwkv.data.background import BACKGROUNDS
from videorwkv.errors import NonFiniteError, UsageError, VideoRWKVError
from videorwkv.inference.calibration import tempered
from videorwkv.inference.recogniser import ModelLike, Recogniser
from videorwkv.models.masking import Masks
from videorwkv.models.scores import probabilities
from videorwkv.preprocess.inputs import fit_image
from videorwkv.utils.files import is_junk, make_folder, require_no_source
from videorwkv.utils.options import dataclass_to_dict
from videorwkv.utils.values import brief
from videorwkv.video import Clip, Sampling, Video, open_video
from videorwkv.video.base import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from videorwkv.video.frames_folder import FOLDER_FPS, FolderVideo

if TYPE_CHECKING:
    from rich.table import Table

Source = str | Path | bytes
# What is one source, and no list of them.
_ONE = (str, os.PathLike, bytes, bytearray, memoryview)


@dataclass(frozen=True)
class Prediction:
    """What a model says about one video.

    Args:
        path: the video.
        labels: the best classes, best first; empty if the video could not be read.
        scores: their probabilities.
        times: seconds of the first and the last frame that were looked at.
        above: of a model for several labels: those whose probability reaches their threshold, the
            most probable first, whatever `top` is; None of other models.
        warnings: what was wrong with the file without being fatal.
        error: why it could not be read; empty if it could.
        save_error: why its annotated video was not written; empty if it was, or none was wanted.
        named: whether the best class is named: its probability reaches the threshold that is kept
            with the run (`evaluate --choose-thresholds`), and it is no background class.
    """

    path: str
    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    times: tuple[float, float] = (0.0, 0.0)
    above: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()
    error: str = ""
    save_error: str = ""
    named: bool = True

    @property
    def label(self) -> str:
        """The best class.

        Raises:
            UsageError: the video could not be read.
        """
        if self.error:
            raise UsageError(f"There is no prediction: {self.error} Look at `error` first.")
        return self.labels[0]

    @property
    def score(self) -> float:
        """Its probability."""
        return self.scores[0] if self.scores else 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return dataclass_to_dict(self)


class _Scores(NamedTuple):
    """Scores of one video.

    Args:
        scores_K: probabilities, the mean over views.
        running_TK: probabilities after each frame of the first view.
        clip: the frames of the first view.
        times: seconds of the first and the last frame of all views.
    """

    scores_K: NDArray[np.float32]
    running_TK: NDArray[np.float32]
    clip: Clip
    times: tuple[float, float]


def predict(
    sources: Source | Sequence[Source],
    *,
    model: ModelLike,
    labels: Sequence[str] | None = None,
    sampling: Sampling | None = None,
    views: int | None = None,
    top: int = 5,
    device: str | torch.device = "auto",
    save: str | Path | None = None,
    tube_mask_ratio: float = 0.0,
    motion_mask_ratio: float = 0.0,
    frame_rate: float | None = None,
    allow_playlists: bool = False,
    clip_timeout: float | None = None,
) -> list[Prediction]:
    """Name the action in one or many videos. One that can't be read doesn't stop the others.

    Args:
        sources: files, globs, folders of videos, folders of one clip's frames, or bytes.
        model: a run's folder, a file that `videorwkv.export` wrote, a `Run`, a model, also
            one of `videorwkv.open_exported`, or a `Recogniser`.
        labels: class names; the run's or the file's if None, else class numbers.
        sampling: which frames; the run's or the file's if None, else 16, sampled uniformly.
        views: temporal views of each video whose scores are averaged; those that the run was
            validated with if None, else 1.
        top: how many classes to name.
        device: `auto`, or a device by name.
        save: where to write the video with edge map, labels and scores drawn in: a .mp4 or .gif
            file, or a folder for many. `save_error` says what kept it from being written.
        tube_mask_ratio: fraction of the patches to drop, the same random ones in all frames of a
            view: faster, and less accurate. An exported file always uses its own ratio, and 0 keeps
            a `Recogniser`'s.
        motion_mask_ratio: fraction of the patches to skip in each frame: those that changed least.
        frame_rate: frames a second of folders of frames; the run's if None, else 12.
        allow_playlists: as in `open_video`.
        clip_timeout: seconds for reading one video, after which it counts as unreadable; 0: any
            time. None: the run's, or 300.

    Returns:
        One `Prediction` for each video, in order; `error` says why one could not be read.

    Raises:
        UsageError: a glob or folder without a video, no such run, a wrong option, or `save` would
            replace a video that is read.
        CheckpointError: the run can't be read.
        NonFiniteError: the model gives NaN or infinity; the message names the module.
    """
    return list(
        iter_predictions(
            sources,
            model=model,
            labels=labels,
            sampling=sampling,
            views=views,
            top=top,
            device=device,
            save=save,
            tube_mask_ratio=tube_mask_ratio,
            motion_mask_ratio=motion_mask_ratio,
            frame_rate=frame_rate,
            allow_playlists=allow_playlists,
            clip_timeout=clip_timeout,
        )
    )


def iter_predictions(
    sources: Source | Sequence[Source],
    *,
    model: ModelLike,
    labels: Sequence[str] | None = None,
    sampling: Sampling | None = None,
    views: int | None = None,
    top: int = 5,
    device: str | torch.device = "auto",
    save: str | Path | None = None,
    tube_mask_ratio: float = 0.0,
    motion_mask_ratio: float = 0.0,
    frame_rate: float | None = None,
    allow_playlists: bool = False,
    clip_timeout: float | None = None,
    part: tuple[int, int] = (0, 1),
) -> Iterator[Prediction]:
    """`predict`, one video after another, as they are done; with `part=(n, of)` every `of`-th of
    them, from number n on."""
    for name, value in (("top", top), ("views", views)):
        if value is not None and value < 1:
            raise UsageError(f"predict: {name} ({value}) must be at least 1.")
    masks = Masks(tube_mask_ratio=tube_mask_ratio, motion_mask_ratio=motion_mask_ratio)
    files = list(expand(sources))
    targets = _targets(files, save)[part[0] :: part[1]]
    files = files[part[0] :: part[1]]
    recogniser = Recogniser.open(
        model,
        what="predict",
        labels=labels,
        sampling=sampling,
        views=None if views is None else (views, 1),
        masks=masks,
        device=device,
        clip_timeout=clip_timeout,
    )
    rate = recogniser.frame_rate if frame_rate is None else frame_rate
    with recogniser.evaluating():
        for file, target in zip(files, targets, strict=True):
            name = f"<{len(file)} bytes>" if isinstance(file, bytes) else str(file)
            try:
                with open_video(
                    file,
                    frame_rate=rate,
                    allow_playlists=allow_playlists,
                    time_limit=recogniser.clip_timeout,
                ) as video:
                    found = _recognise(recogniser, video)
                    video.deadline = math.inf  # all frames are drawn, as long as that takes
                    save_error = ""
                    if target is not None:
                        save_error = _annotate(target, video, recogniser, found)
            except NonFiniteError:
                raise  # the model is broken, not the video
            except (VideoRWKVError, OSError) as error:
                yield Prediction(path=name, error=str(error))
                continue
            best = np.argsort(-found.scores_K, kind="stable")[:top]
            yield Prediction(
                path=name,
                labels=tuple(recogniser.labels[k] for k in best),
                scores=tuple(float(found.scores_K[k]) for k in best),
                times=found.times,
                above=recogniser.above(found.scores_K),
                warnings=found.clip.warnings + _about_rate(video, recogniser.sampling, rate),
                save_error=save_error,
                named=recogniser.labels[best[0]] not in BACKGROUNDS
                and bool(found.scores_K[best[0]] >= (recogniser.threshold or 0.0)),
            )


def _about_rate(video: Video, sampling: Sampling, rate: float | None) -> tuple[str, ...]:
    """That the times of a folder's frames are a guess, where frames are chosen by time."""
    if not isinstance(video, FolderVideo) or sampling.fps is None or rate is not None:
        return ()
    return (f"taken for {FOLDER_FPS:g} frames a second, as a folder has no clock; --frame-rate",)


def _annotate(target: Path, video: Video, recogniser: Recogniser, found: _Scores) -> str:
    """Write the annotated video; what kept it from being written, which costs no prediction."""
    from videorwkv.inference.annotate import write_annotated

    network, labels = recogniser.network, recogniser.labels
    try:
        write_annotated(target, video, network, found.clip.times, found.running_TK, labels)
    except (VideoRWKVError, OSError) as error:
        return f"The annotated video {target} was not written: {error}"
    return ""


def _recognise(recogniser: Recogniser, video: Video) -> _Scores:
    """One video: sample its frames, preprocess, run the model, average over the views."""
    times, views = video.times(), recogniser.views[0]
    chosen = [recogniser.sampling.indices(times, view=v, num_views=views) for v in range(views)]
    # All views from one pass over the file.
    wanted = np.unique(np.concatenate(chosen))
    # Frame by frame what the model's `preprocess` would do first: of large videos, frames of full
    # size would take gigabytes.
    config = recogniser.network.config
    read = video.read(
        wanted.tolist(),
        transform=lambda image_HWC: fit_image(image_HWC, config.image_size, config.frame_fit),
    )
    clips = []
    for indices in chosen:
        at = np.searchsorted(wanted, indices)
        clips.append(Clip(read.frames_THWC[at], read.times[at], read.source, read.warnings))
    running = []
    # The tube mask, and so the prediction, does not depend on the videos before.
    generator = torch.Generator().manual_seed(0)
    for clip in clips:
        inputs = recogniser.network.preprocess(clip)
        logits_BTK = recogniser.scan(inputs, video.name, generator)
        running.append(probabilities(logits_BTK[0].float(), config).cpu().numpy())
    scores_K = np.mean([running_TK[-1] for running_TK in running], axis=0)
    scores_K, running_TK = (tempered(x, recogniser.temperature) for x in (scores_K, running[0]))
    return _Scores(scores_K, running_TK, clips[0], (float(read.times[0]), float(read.times[-1])))


def expand(sources: Source | Sequence[Source]) -> Iterator[Source]:
    """Globs and folders become their videos, sorted; anything else stays as it is.

    Raises:
        UsageError: a glob or folder without a video, or something else than these.
    """
    given: Any = sources
    is_list = isinstance(given, Iterable) and not isinstance(given, _ONE)
    for source in map(_as_source, given if is_list else [given]):
        if isinstance(source, bytes) or "://" in str(source):
            yield source
        elif os.path.isdir(source):
            yield from _videos_in(Path(source))
        elif not os.path.exists(source) and glob.has_magic(str(source)):
            found = sorted(glob.glob(str(source), recursive=True))
            if not found:
                raise UsageError(f"No file matches {str(source)!r}.")
            for path in found:
                yield from _videos_in(Path(path)) if os.path.isdir(path) else [path]
        else:
            yield source


def _as_source(given: Any) -> Source:
    if isinstance(given, bytearray | memoryview):
        return bytes(given)
    if not isinstance(given, str | bytes | os.PathLike):
        raise UsageError(
            "predict takes paths, addresses and the content of files as bytes; got "
            f"{brief(given)}. Cameras, by their number, are for videorwkv.stream."
        )
    return given if isinstance(given, str | bytes) else Path(given)


def _videos_in(folder: Path) -> list[Source]:
    """The videos below a folder; the folder itself if it holds one clip's frames. What is hidden or
    the system's is passed over, as in data sets."""
    found: list[Source] = []
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if _is_seen(name))
        files = [name for name in files if _is_seen(name)]
        suffixes = {Path(name).suffix.lower() for name in files}
        videos = sorted(n for n in files if Path(n).suffix.lower() in VIDEO_SUFFIXES)
        found += [Path(here, name) for name in videos]
        if not videos and suffixes & IMAGE_SUFFIXES:
            found.append(Path(here))
    if not found:
        raise UsageError(
            f"{folder}: no video in it, nor a folder of frames. Video files end in "
            f"{', '.join(sorted(VIDEO_SUFFIXES))}."
        )
    return found


def _is_seen(name: str) -> bool:
    return not name.startswith(".") and not is_junk(name)


def _targets(files: Sequence[Source], save: str | Path | None) -> list[Path | None]:
    """Where each annotated video goes: over none of the others, and over none of the videos."""
    if save is None:
        return [None] * len(files)
    save = Path(save)
    if save.suffix.lower() in (".mp4", ".gif") and not save.is_dir():
        if len(files) > 1:
            raise UsageError(
                f"--save {save}: one file for {len(files)} videos; give a folder instead."
            )
        require_no_source([save], files)
        make_folder(save.parent)
        return [save]
    if save.suffix and not save.is_dir():
        raise UsageError(f"--save {save}: wanted a .mp4 or .gif file, or a folder.")
    make_folder(save)
    targets: list[Path | None] = []
    for number, file in enumerate(files):
        stem = f"clip-{number}" if isinstance(file, bytes) else Path(file).stem
        target = save / f"{stem}.mp4"
        while target in targets:
            target = save / f"{stem}-{number}.mp4"
            number += 1
        targets.append(target)
    require_no_source(filter(None, targets), files)
    return targets


def predictions_table(predictions: Sequence[Prediction]) -> Table:
    """Predictions for the terminal."""
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    table.add_column("video", overflow="fold")
    table.add_column("label")
    table.add_column("score", justify="right")
    table.add_column("seconds", justify="right")
    for prediction in predictions:
        if prediction.error:
            table.add_row(escape(prediction.path), "[red]not readable[/red]", "", "")
            table.add_section()
            continue
        notes = [f"[yellow]{escape(w)}[/yellow]" for w in prediction.warnings]
        if not prediction.named:
            notes.insert(0, "[yellow]no class is certain enough[/yellow]")
        seconds = f"{prediction.times[0]:.2f}-{prediction.times[1]:.2f}"
        # Of several labels those that hold are marked.
        held = prediction.above
        marks = [f"{'* ' * (x in held)}{x}" for x in prediction.labels] if held is not None else []
        # A row for each label: one that is wrapped must not move its score to another's line.
        rows = zip_longest(
            (escape(prediction.path), *notes),
            map(escape, marks or prediction.labels),
            (f"{score:.3f}" for score in prediction.scores),
            (seconds,),
            fillvalue="",
        )
        for row in rows:
            table.add_row(*row)
        table.add_section()
    return table
