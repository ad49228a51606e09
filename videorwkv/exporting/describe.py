"""The JSON beside an exported file: all that a reader needs who has neither this package nor a
library that opens the file's own metadata, such as the page in a browser or a program in C++.

    {
      "format": 1,
      "file": "step-float32.onnx", "sha256": "...", "bytes": 2561024,
      "frames": 1, "clip": {"file": "step-float32-frames4.onnx", "frames": 4},
      "labels": ["waving", ...], "activation": "softmax", "thresholds": null,
      "frame": {"height": 112, "width": 112, "colours": "RGB", "fit": "crop",
                "shrink": "area", "enlarge": "linear"},
      "edges": {"method": "canny", "options": {...}},
      "stream": {"fps": 10.0, "threshold": 0.5, "temperature": 1.0, "background": [],
                 "smooth": 0.5, "gap": 2.0, "reset_every": null, "notes": []},
      "timeline": null,
      "inputs": [{"name": "frame", "shape": ["streams", 112, 112, 3], "dtype": "uint8"}, ...],
      "outputs": [{"name": "logits", "shape": ["streams", 27], "dtype": "float32"}, ...],
      "state": [{"input": "state.hidden.0", "output": "next.hidden.0"}, ...],
      ...
    }

`docs/export.md` says what each stands for.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from videorwkv.data.background import background_places
from videorwkv.errors import CheckpointError
from videorwkv.exporting.unroll import PER_STREAM
from videorwkv.inference.engines import NEXT, STATE, SUFFIXES, Port, beside_path
from videorwkv.inference.exported_file import clip_path
from videorwkv.inference.stream import StreamOptions
from videorwkv.models import LCRConfig
from videorwkv.utils.files import write_atomic
from videorwkv.utils.options import dataclass_to_dict
from videorwkv.video.base import Sampling

FORMAT = 1
# What stands for the number of streams in a shape that any number fits.
STREAMS = "streams"


def description_path(file: Path) -> Path:
    """`wave.onnx` -> `wave.onnx.json`: no other file of a run is called so."""
    return beside_path(file)


def write_description(
    file: Path,
    about: Mapping[str, Any],
    *,
    config: LCRConfig,
    sampling: Sampling,
    frame_ports: Iterable[Port],
    state_ports: Iterable[Port],
) -> Path:
    """Write the JSON of an exported file beside it.

    Args:
        file: written already.
        about: the metadata that stands in it.
        config: of the model as it was exported.
        sampling: how far apart the frames of its training were.
        frame_ports: the step's inputs of a frame; a graph of several takes as many of each.
        state_ports: those of the state.

    Returns:
        The JSON's path.

    Raises:
        CheckpointError: the disk is full or the folder can't be written.
    """
    content = file.read_bytes()
    length, clip_frames = about.get("frames", 1), about["clip_frames"]
    clip = None
    if clip_frames is not None and length == 1:
        clip = {"file": clip_path(file, clip_frames).name, "frames": clip_frames}
    streams = about["batch_size"] or STREAMS
    logits = (len(about["labels"]),) if length == 1 else (length, len(about["labels"]))
    frames, states = tuple(frame_ports), tuple(state_ports)
    if length > 1:
        frames = tuple(
            port if port.name in PER_STREAM else replace(port, shape=(length, *port.shape))
            for port in frames
        )
    options = StreamOptions()
    chosen = naming(about)
    life = options.life(sampling, config.cell)
    text = {
        "format": FORMAT,
        "file": file.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "precision": about["precision"],
        "frames": length,
        "clip": clip,
        "labels": about["labels"],
        # Of the logits: with `sigmoid` several labels may hold, each from its threshold on.
        "activation": "sigmoid" if config.multilabel else "softmax",
        "thresholds": about["thresholds"],
        "frame": {
            "height": about["frame_size"][0],
            "width": about["frame_size"][1],
            "colours": "RGB",
            "fit": config.frame_fit,
            "shrink": "area",
            "enlarge": "linear",
        },
        "edges": {"method": config.edges, "options": dataclass_to_dict(config.edge_options)},
        "sampling": dataclass_to_dict(sampling),
        "stream": {
            "fps": options.rate(sampling),
            "threshold": chosen["threshold"],
            # Divides the logits before the softmax.
            "temperature": chosen["temperature"],
            # Places of the classes that are never named.
            "background": list(background_places(about["labels"])),
            "smooth": options.smooth,
            "gap": options.gap,
            "reset_every": life if math.isfinite(life) else None,
            "notes": list(options.notes(sampling)),
        },
        "timeline": about["timeline"],
        "inputs": [
            *(_port(port.name, port, streams) for port in frames),
            *(_port(STATE + port.name, port, streams) for port in states),
        ],
        "outputs": [
            _port("logits", Port("logits", logits), streams),
            *(_port(NEXT + port.name, port, streams) for port in states),
        ],
        # Zero at a stream's first frame.
        "state": [{"input": STATE + port.name, "output": NEXT + port.name} for port in states],
        "patches_kept": about["kept"],
        "weights_sha256": about["weights_sha256"],
        "versions": about["versions"],
        "verification": about["verification"],
    }
    if file.suffix.lower() == SUFFIXES["executorch"]:
        text["metadata"] = about  # the file itself has no room for it
    path = description_path(file)
    write_atomic(path, json.dumps(text, ensure_ascii=False, indent=2) + "\n")
    return path


def naming(about: Mapping[str, Any]) -> dict[str, float]:
    """Threshold and temperature of a stream, as of a file's metadata."""
    usual = {"threshold": StreamOptions().threshold, "temperature": 1.0}
    return about.get("calibration") or usual


def read_description(path: Path) -> dict[str, Any] | None:
    """What `write_description` has written; None where there is no such file.

    Raises:
        CheckpointError: there is one that can't be read.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read ({error}). Export the run again.") from error
    return found


def _port(name: str, port: Port, streams: int | str) -> dict[str, Any]:
    return {"name": name, "shape": [streams, *port.shape], "dtype": port.dtype}
