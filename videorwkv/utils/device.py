"""Which device, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from videorwkv.errors import UsageError


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """`auto` takes a GPU if there is one; a name is obeyed.

    Raises:
        UsageError: no device of that name, or PyTorch can't use it here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UsageError(
            f"Device {str(device)!r} can't be used: {reason}. Usual: auto, cpu, cuda, cuda:1."
        ) from error
    return chosen


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """bfloat16 where the recipe asks for it; the model keeps its scan and memory in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
