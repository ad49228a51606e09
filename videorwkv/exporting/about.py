"""What an exported file says of the run that it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import torch

from videorwkv.inference.calibration import read_calibration
from videorwkv.inference.exported_file import FORMAT
from videorwkv.inference.multilabel import read_thresholds
from videorwkv.models import LCR
from videorwkv.run.environment import versions
from videorwkv.run.recipes import Recipe
from videorwkv.run.run import Run
from videorwkv.video.base import Sampling


def describe_run(
    run: Run | LCR, labels: Sequence[str] | None, sampling: Sampling | None
) -> tuple[LCR, Recipe, dict[str, Any]]:
    """The model, its recipe and what of it goes into the file."""
    from safetensors.torch import save

    if isinstance(run, Run):
        network, recipe = run.model(), run.recipe
        names, flips, data = run.labels, run.flips, run.data
        weights = run.weights.read_bytes()
        chosen = chosen_for(run, hashlib.sha256(weights).hexdigest())
    else:
        network = run.cpu().eval()
        recipe = Recipe(model=run.config, sampling=sampling or Sampling(), epochs=1)
        names = tuple(labels or (str(k) for k in range(run.config.num_classes)))
        flips, data, chosen = None, {}, {"thresholds": None, "calibration": None}
        dense = torch.contiguous_format
        state = network.state_dict().items()
        weights = save({name: x.float().clone(memory_format=dense) for name, x in state})
    about = {
        "format": FORMAT,
        "labels": list(names),
        "flips": None if flips is None else dict(flips),
        **chosen,
        "data": dict(data),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "versions": {**versions(), **_library_versions()},
    }
    return network, recipe, about


def chosen_for(run: Run, weights_sha256: str) -> dict[str, Any]:
    """What `evaluate --choose-thresholds` has kept with a run, as JSON values: `thresholds` of
    several labels, and `calibration`; None where nothing was chosen.

    Raises:
        CheckpointError: it can't be read, or was chosen for other weights.
    """
    several = run.recipe.model.multilabel
    thresholds_K = read_thresholds(run.folder, run.labels) if several else None
    kept = read_calibration(run, weights_sha256)
    return {
        "thresholds": None if thresholds_K is None else thresholds_K.tolist(),
        "calibration": None if kept is None else kept.chosen._asdict(),
    }


def _library_versions() -> dict[str, str]:
    found = {}
    for name in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
