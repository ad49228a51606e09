"""What a run says of itself, in its config.json and in exported files: read with distrust.

Such files are passed on, so they may be damaged, edited, or made to do harm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from videorwkv.errors import ConfigError
from videorwkv.run.recipes import Recipe
from videorwkv.utils.options import dataclass_from_dict
from videorwkv.utils.values import brief

# What one clip may take as the model reads it: 7,000 frames of 224 px.
CLIP_BYTES = 1 << 30
# Tokens of a frame, and numbers that pool them: 64 and 5 times those of 224 px in patches of 8.
MOST_TOKENS = 1 << 14
MOST_POOLING = 1 << 26
# No machine gains from more.
MOST_WORKERS = 1024
MOST_VIEWS = 1000
_MISSING = object()


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a run was trained with; `videorwkv.run.run.Run`, which has weights besides, says what
    the fields are."""

    recipe: Recipe
    labels: tuple[str, ...]
    flips: Mapping[str, str] | None
    data: Mapping[str, Any]
    versions: Mapping[str, Any]
    init: Mapping[str, Any] | None = None


def read_description(values: Mapping[str, Any]) -> Description:
    """The description in a JSON object; what else stands in it is passed over.

    Raises:
        ConfigError: something is missing, of a wrong type, or doesn't fit the rest.
    """
    known = {field.name: values.get(field.name, _MISSING) for field in fields(Description)}
    known["init"] = values.get("init")
    for name in ("recipe", "data", "versions"):
        if known[name] is not _MISSING and not isinstance(known[name], Mapping):
            raise ConfigError(f"{name}: got {brief(known[name])}; allowed: an object")
    if known["recipe"] is not _MISSING:
        # Converted apart, so that a message begins with `recipe.lr`.
        known["recipe"] = Recipe.from_dict(known["recipe"])
    if missing := [name for name, value in known.items() if value is _MISSING]:
        raise ConfigError(f"{', '.join(missing)}: missing")
    described = dataclass_from_dict(Description, known, where="run")
    _check_labels(described.labels, described.recipe.model.num_classes)
    _check_data(described.data)
    init = described.init or {"source": "", "sha256": ""}
    for name in ("source", "sha256"):
        if not isinstance(init.get(name), str):
            raise ConfigError(f"init.{name}: got {brief(init.get(name))}; allowed: text")
    _check_size(described.recipe)
    return described


def _check_labels(labels: tuple[str, ...], num_classes: int) -> None:
    if len(labels) != num_classes:
        raise ConfigError(
            f"labels: {len(labels)} for a model of {num_classes} classes (recipe.model.num_classes)"
        )
    seen: set[str] = set()
    for label in labels:
        if label in seen:
            raise ConfigError(f"labels: {brief(label)} is there twice; each class needs its own")
        seen.add(label)


def _check_data(data: Mapping[str, Any]) -> None:
    # Exported models that no run has trained have none.
    for name in ("name", "digest") if data else ():
        if not isinstance(data.get(name), str):
            raise ConfigError(f"data.{name}: got {brief(data.get(name))}; allowed: text")
    if not isinstance(data.get("clips", ""), str):
        raise ConfigError(f"data.clips: got {brief(data['clips'])}; allowed: text")
    rate = data.get("frame_rate")
    if rate is not None and not (type(rate) in (int, float) and 0 < rate < math.inf):
        raise ConfigError(f"data.frame_rate: got {brief(rate)}; allowed: a number above 0, or null")
    splits = data.get("splits", {})
    if not isinstance(splits, dict) or not all(type(count) is int for count in splits.values()):
        raise ConfigError(
            f"data.splits: got {brief(splits)}; allowed: an object of names and whole numbers"
        )


def _check_size(recipe: Recipe) -> None:
    """What is allowed on a command line, at one's own risk, is none of a stranger's choice."""
    model, num_frames = recipe.model, recipe.sampling.num_frames
    tokens = model.num_patches
    pooling = tokens * model.readout_cells**2 if model.readout == "cells" else 0
    needed = 3 * num_frames * model.image_size**2
    for what, value, most in (
        ("model: tokens of a frame, (image_size / patch_size)^2,", tokens, MOST_TOKENS),
        ("model: readout_cells^2 times the tokens of a frame", pooling, MOST_POOLING),
        ("recipe: bytes of a clip, 3 sampling.num_frames model.image_size^2,", needed, CLIP_BYTES),
        ("recipe.workers", recipe.workers, MOST_WORKERS),
        ("recipe.views, both together,", recipe.views[0] * recipe.views[1], MOST_VIEWS),
    ):
        if value > most:
            raise ConfigError(f"{what} are {value:,}; at most {most:,} are allowed")
