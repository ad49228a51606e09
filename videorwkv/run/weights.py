"""Weights in and out as safetensors: a file that can't run code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from videorwkv.errors import CheckpointError
from videorwkv.utils.files import write_atomic


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a state dict to `path`; an old file stays until the new one is whole.

    Raises:
        CheckpointError: the disk is full or the folder can't be written.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_atomic(path, save(tensors, metadata={"format": "pt"}))


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill `model` from `path`; every name and shape must match.

    Raises:
        CheckpointError: no file, not a safetensors file, or weights of another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise CheckpointError(f"No weights at {path}. Train a model first: videorwkv train --help")
    try:
        weights = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}.") from error
    wanted = model.state_dict()
    missing = sorted(wanted.keys() - weights.keys())
    unknown = sorted(weights.keys() - wanted.keys())
    if missing or unknown:
        parts = []
        if missing:
            parts.append(f"{len(missing)} missing, such as {missing[0]!r}")
        if unknown:
            parts.append(f"{len(unknown)} unknown, such as {unknown[0]!r}")
        raise CheckpointError(
            f"{path} holds another model's weights: {'; '.join(parts)}. Its own config.json says "
            "how it was built."
        )
    for name, tensor in weights.items():
        if tensor.shape != wanted[name].shape:
            raise CheckpointError(
                f"{path}: {name!r} has shape {list(tensor.shape)}, the model needs "
                f"{list(wanted[name].shape)}. Build the model with the options of its own "
                "config.json."
            )
    model.load_state_dict(weights)
