"""The smallest data set and recipe that still train: shared by the tests of the verbs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from videorwkv.data import Augmentation, Manifest, load_manifest
from videorwkv.models import LCRConfig
from videorwkv.run.recipes import Recipe
from videorwkv.training.loop import train
from videorwkv.utils.values import sealed, unsealed
from videorwkv.video import Sampling
from videorwkv.video.writer import write_video

MOTION = "motion:train=20,validation=8,test=8,size=32,frames=6"
# The same by options of the command line.
OPTIONS = [
    "--model=lcr_nano",
    "--workers=0",
    "--batch-size=4",
    "--set=model.image_size=32",
    "--set=model.patch_size=8",
    "--set=model.width=16",
    "--set=model.head_width=8",
    "--set=model.depth=1",
    "--set=sampling.num_frames=3",
    "--recipe=default",
]


def manifest() -> Manifest:
    return load_manifest(MOTION)


def recipe(*, model: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """Random at every step on purpose: drop-path and tube masks are on."""
    config = LCRConfig(
        image_size=32, patch_size=8, width=16, head_width=8, depth=1, tube_mask_ratio=0.25
    )
    base = Recipe(
        model=replace(config, **(model or {})),
        sampling=Sampling(num_frames=3),
        augmentation=Augmentation(),
        steps=4,
        batch_size=4,
        workers=0,
    )
    return replace(base, **changes)


def trained(folder: Path, **changes: Any) -> Path:
    train(recipe(**changes), manifest(), folder, quiet=True)
    return folder


def edit_config(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change a run's config.json and seal it anew, as a stranger would."""
    path = folder / "config.json"
    values = unsealed(json.loads(path.read_text()))
    edit(values)
    path.write_text(json.dumps(sealed(values)))


def write_clip(path: Path, *, frames: int = 8, level: int = 0, flipped: bool = False) -> Path:
    """A real video file: a bright square that moves to the right, or to the left."""
    clip_THWC = np.full((frames, 48, 64, 3), 40 + level, np.uint8)
    for t in range(frames):
        clip_THWC[t, 10:30, 4 * t : 4 * t + 20] = 220
    path.parent.mkdir(parents=True, exist_ok=True)
    clip_THWC = np.ascontiguousarray(clip_THWC[:, :, ::-1]) if flipped else clip_THWC
    write_video(path, clip_THWC, 8)
    return path
