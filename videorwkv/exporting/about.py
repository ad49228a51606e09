"""What an exported file says of the run that it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import torch

from videorwkv.inference.calibration import Chosen
from videorwkv.inference.choices import Choices, chosen_timeline
from videorwkv.inference.exported_file import FORMAT
from videorwkv.models import LCR
from videorwkv.run.environment import versions
from videorwkv.run.recipes import Recipe
from videorwkv.run.run import Run
from videorwkv.utils.options import dataclass_to_dict
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
        chosen = chosen_for(run)
    else:
        network, own = run.cpu().eval(), None if run.origin is None else run.origin.recipe
        usual = Sampling() if own is None else own.sampling
        recipe = Recipe(epochs=1) if own is None else own
        recipe = replace(recipe, model=run.config, sampling=sampling or usual)
        classes = run.config.num_classes
        names = tuple(labels or (map(str, range(classes)) if own is None else run.origin.labels))
        flips, data, chosen = None, {}, chosen_for(run)
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


def chosen_for(run: Run | LCR) -> dict[str, Any]:
    """What `evaluate --choose-thresholds` has kept with a run, or with that of a model of
    `from_pretrained`, as JSON values: `thresholds` of several labels, `calibration`, and `timeline`
    (how probabilities become segments); None where nothing was chosen.

    Raises:
        CheckpointError: it can't be read, or was chosen for other weights or another temperature.
    """
    kept = Choices.of(run)
    calibration = None
    if kept.threshold is not None:
        calibration = Chosen(kept.temperature, kept.threshold)._asdict()
    timeline = chosen_timeline(run, kept.temperature)
    return {
        "thresholds": None if kept.thresholds_K is None else kept.thresholds_K.tolist(),
        "calibration": calibration,
        "timeline": None if timeline is None else dataclass_to_dict(timeline),
    }


def _library_versions() -> dict[str, str]:
    found = {}
    for name in ("onnx", "onnxscript", "onnxruntime", "openvino", "executorch"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
