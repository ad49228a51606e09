"""Which device, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from videorwkv.errors import UsageError


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """`auto` takes a GPU if there is one that works, CUDA's or Apple's; a name is obeyed.

    Raises:
        UsageError: no device of that name, or PyTorch can't use it here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() and _works("mps") else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise _refused(device, str(error)) from error
    if reason := _absent(chosen.type):
        raise _refused(device, reason)
    try:
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise _refused(device, str(error)) from error
    return chosen


def _absent(kind: str) -> str:
    """Why there is no device of a kind here; empty if there may be one."""
    if kind == "mps" and not torch.backends.mps.is_built():
        return "this build of PyTorch is not for Apple's GPUs (Metal)"
    if kind == "mps" and not torch.backends.mps.is_available():
        return "there is no Apple GPU (Metal) that PyTorch can use"
    if kind == "cuda" and not torch.cuda.is_available():
        return "there is no GPU of CUDA or ROCm that PyTorch can use"
    if kind not in ("cpu", "cuda", "mps", "xpu"):
        return "models are not run on such a device"
    return ""


def _works(device: str) -> bool:
    """Whether what a model consists of runs on a device: convolution, products, sums along time."""
    try:
        image_BCHW = torch.full((1, 3, 8, 8), 0.01, device=device)
        kernel_KCHW = torch.ones(4, 3, 3, 3, device=device)
        tokens_LC = torch.conv2d(image_BCHW, kernel_KCHW, stride=2, padding=1).flatten(1).T
        total = (tokens_LC.cumsum(0).exp().log() @ tokens_LC.T).logsumexp(0).sum()
        return bool(torch.isfinite(total.cpu()))
    except (RuntimeError, NotImplementedError):
        return False


def _refused(device: str | torch.device, reason: str) -> UsageError:
    # The first sentence: PyTorch goes on with a list of all that it has.
    first = (reason.splitlines() or [""])[0][:200].rstrip(".")
    return UsageError(
        f"Device {str(device)[:40]!r} can't be used: {first}. Usual: auto, cpu, cuda, cuda:1, mps."
    )


# Precisions of half the size.
HALF = ("bfloat16", "float16")


def resolve_precision(device: torch.device, precision: str) -> str:
    """`precision`, or what `auto` takes: bfloat16 on a GPU that has it, else float32.

    CPUs have bfloat16 as well, but these models did not train faster in it: with AMX 1.09 times
    the time of float32, without any instruction for it several times (docs/speed.md).
    """
    if precision != "auto":
        return precision
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if fast else "float32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """bfloat16 or float16 where the recipe asks for it; the model keeps its scan and memory in
    float32."""
    precision = resolve_precision(device, precision)
    dtype = torch.float16 if precision == "float16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision in HALF)
