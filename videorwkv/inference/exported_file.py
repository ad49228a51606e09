"""A file that `videorwkv export` wrote, open: its runtime, and what it says of itself.

B streams, T frames, H height, W width.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import CheckpointError, ConfigError, UsageError
from videorwkv.inference.calibration import Chosen
from videorwkv.inference.engines import BIN_DIGEST, Port, open_engine
from videorwkv.inference.timeline.segments import TimelineOptions
from videorwkv.preprocess.inputs import Inputs
from videorwkv.run.description import read_description
from videorwkv.utils.options import dataclass_from_dict
from videorwkv.utils.values import brief, parse_json, unsealed

FORMAT = 1
# Of a graph of several frames: versions that know none must not take it for a step.
CLIP_FORMAT = 2
# In one input of a file: a state of 1 GiB in float32.
MOST_NUMBERS = 1 << 28
# In these a graph of several frames is as the step that it belongs to.
SHARED = (
    "weights_sha256",
    "precision",
    "frame_size",
    "batch_size",
    "kept",
    "tube_mask_ratio",
    "state",
    "labels",
)


@dataclass(frozen=True, kw_only=True)
class _Step:
    """What an exported file says of its inputs."""

    precision: Literal["float32", "float16", "bfloat16", "int8"]
    frame_size: tuple[int, int]
    batch_size: int | None
    kept: int | None
    tube_mask_ratio: float
    state: tuple[tuple[str, tuple[int, ...], Literal["float32", "float16", "int64", "uint8"]], ...]
    frames: int = 1
    clip_frames: int | None = None
    thresholds: tuple[float, ...] | None = None
    timeline: TimelineOptions | None = None

    def __post_init__(self) -> None:
        sizes = [self.frame_size, *(shape for _, shape, _ in self.state), (self.frames,)]
        sizes += [(size,) for size in (self.batch_size, self.clip_frames) if size is not None]
        for shape in sizes:
            if len(shape) > 8 or min(shape, default=1) < 1 or math.prod(shape) > MOST_NUMBERS:
                raise ConfigError(
                    f"metadata: got a shape of {brief(list(shape))}; allowed: 8 sizes of at least "
                    f"1 that make {MOST_NUMBERS:,} numbers at most"
                )


class ExportedFile:
    """Reads the metadata and opens the runtime; runs nothing yet.

    Args:
        path: a `.onnx` file, an `.xml` file and its `.bin`, or a `.pte` file and its JSON.
        threads: for the runtime's matrix multiplications.

    Raises:
        UsageError: no such file, or its runtime is not installed.
        CheckpointError: not a file that `videorwkv export` wrote, or a broken one.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self.path = path
        self.engine = open_engine(path, threads)
        self.metadata = _metadata(path, self.engine.metadata)
        with _of_another_version(path, self.metadata):
            self.description = read_description(self.metadata)
            own = {
                field.name: self.metadata[field.name]
                for field in fields(_Step)
                if field.default is MISSING or field.name in self.metadata
            }
            step = dataclass_from_dict(_Step, own, where="metadata")
            self.precision, self.kept = step.precision, step.kept
            self.height, self.width = step.frame_size
            self.batch_size, self.tube_mask_ratio = step.batch_size, step.tube_mask_ratio
            self.state_ports = tuple(Port(*port) for port in step.state)
            self.frames, self.clip_frames = step.frames, step.clip_frames
            self.thresholds_K = _checked(step.thresholds, len(self.description.labels))
            # At the temperature of the calibration.
            self.timeline = step.timeline
            self.calibration = Chosen.parse(self.metadata.get("calibration"))
        self.engine.precision = "f32" if self.precision in ("float32", "float16") else "bf16"

    def pixels(self, inputs: Inputs) -> dict[str, Any]:
        """The file's inputs of a frame, or of its T frames, by name."""
        at: Any = (slice(None), 0) if self.frames == 1 else slice(None)
        feeds = {"frame": inputs.frames_BTHWC[at].cpu().numpy()}
        if self.description.recipe.model.edges != "none":
            feeds["edges"] = inputs.edges_BTHW[at].cpu().numpy()
        return feeds


def _checked(thresholds: tuple[float, ...] | None, classes: int) -> NDArray[np.float64] | None:
    if thresholds is None:
        return None
    if len(thresholds) != classes:
        raise ConfigError(f"thresholds: {len(thresholds)}, for {classes} classes; one for each")
    if not all(0 <= value <= 1 for value in thresholds):
        raise ConfigError(f"thresholds: got {brief(list(thresholds))}; allowed: each in [0, 1]")
    return np.array(thresholds, np.float64)


def clip_path(step: Path, frames: int) -> Path:
    """The graph of so many frames beside a step: `wave.xml` -> `wave-frames4.xml`."""
    return step.with_name(f"{step.stem}-frames{frames}{step.suffix}")


def step_path(clip: Path) -> Path:
    """The other way round; a file that was renamed keeps its name."""
    return clip.with_name(re.sub(r"-frames\d+$", "", clip.stem) + clip.suffix)


def open_clip(step: ExportedFile, threads: int) -> ExportedFile | None:
    """The graph of several frames beside a step; None if the step was exported without one, or
    somebody took the step alone.

    Raises:
        CheckpointError: it is of other weights, or was exported with other options.
    """
    if step.clip_frames is None:
        return None
    path = clip_path(step.path, step.clip_frames)
    if not path.is_file():
        return None
    clip = ExportedFile(path, threads)
    apart = [name for name in SHARED if clip.metadata.get(name) != step.metadata[name]]
    if clip.frames != step.clip_frames:
        apart.append("frames")
    if apart:
        raise CheckpointError(
            f"{path} does not belong to {step.path.name}: they differ in {', '.join(apart)}. Copy "
            f"the files that were written together, or delete {path.name}: then each frame runs "
            "by itself."
        )
    return clip


@contextmanager
def _of_another_version(path: Path, metadata: Mapping[str, Any]) -> Iterator[None]:
    """What can't be understood was written by another version, or changed by hand."""
    try:
        yield
    except (UsageError, LookupError, TypeError, ValueError) as error:
        reason = error if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
        versions = metadata.get("versions")
        writer = versions.get("videorwkv", "?") if isinstance(versions, dict) else "?"
        raise CheckpointError(
            f"{path}: its metadata, written by videorwkv {writer}, does not fit this version "
            f"({reason}). Export the run again."
        ) from error


def _metadata(path: Path, text: str | None) -> dict[str, Any]:
    if text is None:
        raise CheckpointError(
            f"{path} carries no metadata of videorwkv, so `videorwkv export` did not write it. "
            "Give a file that it wrote, or a run's folder."
        )
    try:
        metadata = unsealed(parse_json(text))
        found = metadata["format"]
    except (ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path}: its metadata can't be read ({type(error).__name__}: {error}). Export the run "
            "again."
        ) from error
    if found not in (FORMAT, CLIP_FORMAT):
        raise CheckpointError(
            f"{path}: format {brief(found)}; this version reads format {FORMAT}. Export the run "
            "again."
        )
    digest = metadata.get(BIN_DIGEST)
    weights = path.with_suffix(".bin")
    if digest is not None and hashlib.sha256(weights.read_bytes()).hexdigest() != digest:
        raise CheckpointError(
            f"{weights} is not the one that was written with {path.name}. Copy both files, or "
            "export the run again."
        )
    return metadata
