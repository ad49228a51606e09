"""state.pt, what resuming needs: step, optimiser, raw weights; tensors and plain values only."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from videorwkv.errors import CheckpointError
from videorwkv.utils.files import write_atomic


def save_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write state.pt: tensors and plain values only, so that reading it runs no code."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomic(folder / "state.pt", buffer.getvalue())


def load_state(folder: Path) -> dict[str, Any]:
    """Read state.pt.

    Raises:
        CheckpointError: it is missing or broken.
    """
    path = folder / "state.pt"
    if not path.is_file():
        raise CheckpointError(
            f"Nothing to resume: {path} is missing. Train anew into another folder with --out."
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} can't be read ({reason}). The weights beside it may be whole: "
            f"`videorwkv evaluate {folder}/last DATA`."
        ) from error
    return dict(state)
