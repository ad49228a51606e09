"""Frames to verify and to calibrate on, with their edge maps.

B streams, T frames, H height, W width.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from videorwkv.data import Manifest, make_loader
from videorwkv.data.dataset import make_dataset
from videorwkv.data.motion.clips import CLASSES, render
from videorwkv.errors import DataError
from videorwkv.models import LCRConfig
from videorwkv.preprocess.inputs import Inputs, preprocess
from videorwkv.video import open_video
from videorwkv.video.base import Clip, Sampling


def generated(config: LCRConfig, *, streams: int, num_frames: int, seed: int = 0) -> Inputs:
    """Clips of the generated data set `motion`, a class each: [B, T, H, W, 3]."""
    clips = []
    for stream in range(streams):
        rng = np.random.default_rng([seed, stream])
        label = CLASSES[stream % len(CLASSES)]
        frames_THWC = render(label, rng, size=config.image_size, frames=num_frames)
        clips.append(_preprocess(config, frames_THWC))
    return Inputs(*(torch.cat(parts) for parts in zip(*clips, strict=True)))


def of_clip(config: LCRConfig, path: str | Path, *, num_frames: int) -> Inputs:
    """The first frames of a video, from its start again where it is shorter: [1, T, H, W, 3].

    Raises:
        UsageError, DecodeError: there is no such video, or it can't be read.
    """
    with open_video(path) as video:
        clip = video.read(range(min(num_frames, len(video.times()))))
    return looped(_preprocess(config, clip), num_frames)


def looped(inputs: Inputs, num_frames: int) -> Inputs:
    """So many frames, from the start again where there are fewer."""
    index = torch.arange(num_frames) % inputs.frames_BTHWC.shape[1]
    return Inputs(*(x[:, index] for x in inputs))


def of_data(
    config: LCRConfig,
    manifest: Manifest,
    sampling: Sampling,
    *,
    clips: int,
    cache: str | Path | None = None,
) -> list[Inputs]:
    """Clips spread over the training split, or over all where there is none.

    Raises:
        DataError: none of them can be read.
    """
    if "train" in manifest.splits:
        manifest = manifest.split("train")
    # Lists are often sorted by class: take every n-th.
    step = max(1, len(manifest) // clips)
    some = replace(manifest, rows=manifest.rows[::step][:clips])
    loader = make_loader(make_dataset(config, some, sampling, cache=cache), batch_size=1)
    found = [batch.inputs for batch in loader if batch.inputs is not None]
    if not found:
        raise DataError(f"{manifest.name}: none of {len(some)} clips can be read to calibrate on.")
    return found


def _preprocess(config: LCRConfig, clip: Clip | NDArray[np.uint8]) -> Inputs:
    return preprocess(
        clip,
        size=config.image_size,
        edges=config.edges,
        edge_options=config.edge_options,
        frame_fit=config.frame_fit,
    )
