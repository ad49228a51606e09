"""Weights on disk: safetensors files that are what was written, and fit the model that asks."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videorwkv.errors import CheckpointError
from videorwkv.models import LCRConfig
from videorwkv.utils.values import SEAL

# As safetensors calls them.
_KINDS = {"F64": "float", "F32": "float", "F16": "float", "BF16": "float", "I64": "int64"}
# The metadata that says what config.json says, in a file that may be taken out of its folder.
DESCRIPTION = "videorwkv"
_INTEGERS = {torch.int64: "int64"}


def tensors_bytes(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> bytes:
    """The content of a safetensors file, with a checksum of the tensors in its metadata.

    Args:
        tensors: a state dict, on any device.
        metadata: what the file says of itself besides.
    """
    from safetensors.torch import save

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(whole, metadata={"format": "pt"})
    # The library writes several entries of the metadata in any order; equal weights are to be equal
    # files. Its format: the header's length in 8 bytes, the header, which is JSON, the tensors.
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] |= {**(metadata or {}), SEAL: checksum(whole)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 over names, types, shapes and values, whatever the order."""
    crc = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        crc = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.reshape(-1).contiguous().view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


def read_tensors(path: Path, wanted: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, on the CPU.

    Names, types and shapes are compared before a tensor is read, so that a file takes no more
    memory than the model does.

    Args:
        path: the file.
        wanted: a state dict of the model that they have to fit; None: whatever there is.

    Raises:
        CheckpointError: no safetensors file, weights of another model, values that have changed
            since they were written, or that are NaN or infinite.
    """
    with _opened(path) as file:
        if wanted is not None:
            _compare(path, file, wanted)
        tensors = {name: file.get_tensor(name) for name in wanted or _names(file)}
        written = (file.metadata() or {}).get(SEAL)
    if written is not None and written != checksum(tensors):
        raise CheckpointError(
            f"{path} has changed since it was written: the checksum of its weights is another. "
            "Take the run's other weights (RUN/best, RUN/last), a copy, or train again."
        )
    require_finite_tensors(path, tensors)
    return tensors


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself.

    Raises:
        CheckpointError: no safetensors file.
    """
    with _opened(path) as file:
        return dict(file.metadata() or {})


def require_fitting(path: Path, config: LCRConfig) -> None:
    """Whether weights can be those of such a model, told without building it.

    A config.json may ask for a model that no machine can hold; no model is larger than its weights.

    Raises:
        CheckpointError: no safetensors file, or one of far fewer numbers.
    """
    with _opened(path) as file:
        held = sum(math.prod(file.get_slice(name).get_shape()) for name in _names(file))
    if held < fewest_weights(config):
        raise CheckpointError(
            f"{path} holds {held:,} numbers; a model of the options in its config.json has at "
            f"least {fewest_weights(config):,} (width {config.width:,}, depth {config.depth:,}, "
            f"num_classes {config.num_classes:,}). Restore the two files from one copy of the run."
        )


def fewest_weights(config: LCRConfig) -> int:
    """A number that is below that of a model's weights, and not far below."""
    layers = config.depth * config.width * (2 * config.width + 2 * config.mix_width)
    grid = config.readout_cells**2 if config.readout == "cells" else 0
    features = grid * config.readout_width if grid else config.width
    stem = 0
    if config.stem == "patch":
        stem = config.width * config.stem_channels * config.patch_size**2
    table = config.num_patches * config.width if config.position == "learned" else 0
    return layers + stem + table + features * config.num_classes + grid * config.readout_width


def require_finite_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """`CheckpointError`, which names `path` and the tensor, if a value is NaN or infinite."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{path}: {name!r} holds NaN or infinity, which no training writes. Take the run's "
                "other weights (RUN/best, RUN/last), a copy, or train again."
            )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    # A pipe would be waited for.
    if not path.is_file():
        raise CheckpointError(f"No weights at {path}. Train a model first: videorwkv train --help")
    try:
        with safe_open(str(path), framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}.") from error


def _names(file: Any) -> list[str]:
    names: list[str] = file.keys()
    return names


def _compare(path: Path, file: Any, wanted: Mapping[str, Tensor]) -> None:
    names = set(_names(file))
    missing, unknown = sorted(wanted.keys() - names), sorted(names - wanted.keys())
    if missing or unknown:
        parts = []
        if missing:
            parts.append(f"{len(missing)} missing, such as {missing[0]!r}")
        if unknown:
            parts.append(f"{len(unknown)} unknown, such as {unknown[0][:80]!r}")
        raise CheckpointError(
            f"{path} holds another model's weights: {'; '.join(parts)}. Its own config.json says "
            "how it was built."
        )
    for name, tensor in wanted.items():
        part = file.get_slice(name)
        shape, kind = list(part.get_shape()), part.get_dtype()
        if shape != list(tensor.shape):
            raise CheckpointError(
                f"{path}: {name!r} has shape {shape}, the model needs "
                f"{list(tensor.shape)}. Build the model with the options of its own "
                "config.json."
            )
        # Weights that somebody has halved still are weights; whole numbers are not.
        own = _INTEGERS.get(tensor.dtype, "float")
        if _KINDS.get(kind) != own:
            raise CheckpointError(
                f"{path}: {name!r} is of type {kind}, the model needs "
                f"{str(tensor.dtype).removeprefix('torch.')}. Write the weights again, or train "
                "again."
            )
