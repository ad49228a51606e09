"""Weights that come with the package, for models to start from.

Each is a run's folder below `weights/`, with its model card and float16 weights.
"""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from videorwkv.errors import UsageError
from videorwkv.models.config import LCRConfig

if TYPE_CHECKING:
    from videorwkv.models.lcr import LCR

# Name of a start -> preset that its weights are of.
SHIPPED = {"scenes": "lcr_pico"}
# Peak learning rate to go on with from them (LOG.md, 2026-12-01).
START_LR = 1e-3
# In place of a name: random weights, also where a start would be chosen.
NOTHING = "none"
# Options that leave the weights as they are, but for the classifier.
FREE_OPTIONS = (
    "num_classes",
    "multilabel",
    "num_frames",
    "frame_fit",
    "drop_path",
    "tube_mask_ratio",
)


def shipped_folder(name: str) -> Path | None:
    """The run's folder of a start that comes with the package; None for any other name."""
    return Path(__file__).with_name("weights") / name if name in SHIPPED else None


def start_of(config: LCRConfig) -> str | None:
    """The start whose weights fit a model whole, but for its classifier; None if there is none."""
    for name in SHIPPED:
        known = _config_of(name)
        if replace(config, **{option: getattr(known, option) for option in FREE_OPTIONS}) == known:
            return name
    return None


@functools.cache
def _config_of(name: str) -> LCRConfig:
    folder = shipped_folder(name)
    assert folder is not None
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return LCRConfig.from_dict(values["recipe"]["model"])


def load_start(model: LCR) -> None:
    """Give a model the weights of its start; the classifier stays as it is.

    Raises:
        UsageError: none is shipped for such a model.
    """
    from safetensors.torch import load_file

    name = start_of(model.config)
    if name is None:
        presets = " and ".join(SHIPPED.values())
        raise UsageError(
            f"No weights are shipped for this model; there are some for {presets} with the "
            "preset's options. `videorwkv train --init` starts from those of a run."
        )
    folder = shipped_folder(name)
    assert folder is not None
    tensors = load_file(folder / "model.safetensors")
    own = model.state_dict()
    for key, tensor in tensors.items():
        if not key.startswith("head."):
            own[key].copy_(tensor)
