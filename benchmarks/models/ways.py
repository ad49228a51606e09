"""How a model is run: `WAYS`, by name, and what makes a model run so."""

from __future__ import annotations

import copy
import importlib.util
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videorwkv.data import load_manifest
from videorwkv.errors import UsageError, did_you_mean
from videorwkv.exporting import export
from videorwkv.inference.engines import openvino_core
from videorwkv.inference.exported import open_exported
from videorwkv.models import LCR
from videorwkv.utils.optional import load, quiet

# Tensors in, tensors or arrays out; the first is the logits.
Program = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to run a model.

    Args:
        precision: of its matrix multiplications.
        needs: `compiler`, or modules that must be installed.
        peers: whether peers run so too.
    """

    precision: str = "float32"
    needs: tuple[str, ...] = ()
    peers: bool = True


_ONNX = ("onnx", "onnxscript", "onnxruntime")
_OPENVINO = ("onnx", "onnxscript", "openvino")

WAYS = {
    "eager": Way(),
    "inference": Way(peers=False),
    "bfloat16": Way(precision="bfloat16"),
    "compiled": Way(needs=("compiler",)),
    "compiled-bfloat16": Way(precision="bfloat16", needs=("compiler",)),
    "onnx": Way(needs=_ONNX, peers=False),
    "onnx-int8": Way(precision="int8", needs=_ONNX, peers=False),
    "openvino": Way(needs=_OPENVINO),
    "openvino-bfloat16": Way(precision="bfloat16", needs=_OPENVINO),
    "openvino-int8": Way(precision="int8", needs=(*_OPENVINO, "onnxruntime"), peers=False),
}


def find_ways(names: Sequence[str]) -> tuple[str, ...]:
    """The ways of these names; `all` is all that can run here, and `eager` always comes first.

    Raises:
        UsageError: an unknown way, or one whose library or compiler is missing.
    """
    if "all" in names:
        here = [name for name, way in WAYS.items() if missing(way) is None]
        names = [*here, *(name for name in names if name != "all")]
    for name in names:
        if name not in WAYS:
            raise UsageError(f"Unknown way {name!r}. {did_you_mean(name, [*WAYS, 'all'])}")
        lack = missing(WAYS[name])
        if lack == "compiler":
            raise UsageError(
                f"The way {name!r} needs a C++ compiler, and none of CXX, c++, g++ and clang++ is "
                "here; install one, or choose other ways with --ways."
            )
        if lack is not None:
            load(lack, f"The way {name!r}")
    return tuple(dict.fromkeys(("eager", *names)))


def missing(way: Way) -> str | None:
    """The first of what a way needs that is not here."""
    for name in way.needs:
        if name == "compiler":
            found = any(
                shutil.which(x) for x in (os.environ.get("CXX", ""), "c++", "g++", "clang++")
            )
        else:
            found = importlib.util.find_spec(name) is not None
        if not found:
            return name
    return None


def lcr_program(
    model: LCR, way: str, folder: Path, tube_mask_ratio: float, clip_frames: int | None = None
) -> Any:
    """The model as this way runs it: its `init_state`, `step` and `scan`.

    Args:
        model: in evaluation mode.
        way: a name of `WAYS`.
        folder: room for exported files.
        tube_mask_ratio: that an exported file has built in.
        clip_frames: frames of the graph for clips that is exported beside the step; None: no such
            graph. In 8 bits there is none.

    Raises:
        UsageError, CheckpointError: it can't be exported.
    """
    engine, _, precision = way.partition("-")
    if way == "eager":
        return model
    if engine in ("inference", "bfloat16", "compiled"):
        half = WAYS[way].precision == "bfloat16"
        return model.for_inference(half=half, compiled=engine == "compiled")
    exported = export(
        model,
        folder,
        to=engine,
        precision=precision or "float32",
        tube_mask_ratio=tube_mask_ratio,
        clip_frames=None if precision == "int8" else clip_frames,
        # Any clips do: ranges change the numbers, not the time.
        calibrate=load_manifest("motion") if precision == "int8" else None,
    )
    return open_exported(exported.path)


def peer_program(
    network: nn.Module, way: str, tensors: Sequence[Tensor], convolutions: bool
) -> Program:
    """A peer as this way runs it; it takes `tensors` and returns the logits first.

    Args:
        network: in evaluation mode.
        way: a name of `WAYS`.
        tensors: of one call, float32; the shapes are fixed.
        convolutions: whether its weights and pixels lie channels last in PyTorch.
    """
    if way.startswith("openvino"):
        return _openvino(network, tensors, WAYS[way].precision)
    network = copy.deepcopy(network)
    dtype = torch.bfloat16 if WAYS[way].precision == "bfloat16" else torch.float32
    network = network.to(dtype)
    if convolutions:
        for weight in network.parameters():
            weight.data = _channels_last(weight.data)
    program = torch.compile(network, dynamic=False) if way.startswith("compiled") else network

    def run(first: Tensor, *rest: Tensor) -> Any:
        with torch.inference_mode():
            return program(first.to(dtype), *rest)

    return run


def prepared(tensors: Sequence[Tensor], way: str, convolutions: bool) -> tuple[Any, ...]:
    """A call's tensors as a way reads them best: their type and layout cost it no time."""
    if way.startswith("openvino"):
        return tuple(x.contiguous().numpy() for x in tensors)
    dtype = torch.bfloat16 if WAYS[way].precision == "bfloat16" else torch.float32
    first, *rest = (x.to(dtype) for x in tensors)
    return (_channels_last(first) if convolutions else first, *rest)


def _channels_last(x: Tensor) -> Tensor:
    if x.ndim == 4:
        return x.to(memory_format=torch.channels_last)
    return x.to(memory_format=torch.channels_last_3d) if x.ndim == 5 else x


def _openvino(network: nn.Module, tensors: Sequence[Tensor], precision: str) -> Program:
    openvino = load("openvino", "The way 'openvino'")
    with quiet(), torch.inference_mode():
        file = openvino.convert_model(network, example_input=tuple(tensors))
    # With shapes left open it is slower.
    file.reshape({x: list(y.shape) for x, y in zip(file.inputs, tensors, strict=True)})
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
    }
    request = openvino_core().compile_model(file, "CPU", options).create_infer_request()

    def run(*arrays: Any) -> Any:
        # A stream's state is the request's own output: the next call would write over it.
        found = request.infer(arrays, share_inputs=True, share_outputs=len(arrays) == 1)
        return tuple(found[output] for output in range(len(found)))

    return run
