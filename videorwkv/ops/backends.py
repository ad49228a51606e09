"""Which way of computing the scan runs: named, or chosen for the machine."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from videorwkv.errors import UsageError, did_you_mean
from videorwkv.ops import native, triton_scan

Function = TypeVar("Function", bound=Callable[..., object])
Result = TypeVar("Result")

BACKENDS = ("auto", "native", "triton", "chunked", "reference")

_named: contextvars.ContextVar[str] = contextvars.ContextVar("scan_backend", default="auto")


@contextlib.contextmanager
def scan_backend(name: str) -> Iterator[None]:
    """Inside, `backend="auto"` takes the backend `name`: for whole models, costs and exports.

    Raises:
        UsageError: unknown.
    """
    _check_name(name)
    token = _named.set(name)
    try:
        yield
    finally:
        _named.reset(token)


def with_this_backend(function: Callable[..., Result]) -> Callable[..., Result]:
    """`function` under the backend that `scan_backend` names here, on whatever thread it runs.

    Activations that are computed again on the way back are so on a thread of PyTorch's own.
    """
    name = _named.get()

    def run(*args: Any) -> Result:
        with scan_backend(name):
            return function(*args)

    return run


def _constant_in_graphs(function: Function) -> Function:
    """`torch.compiler.assume_constant_result`, which would import the compiler: half of the time
    that a command takes to start."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


# While torch.compile traces, this runs as it is, and what it returns is part of the program.
@_constant_in_graphs
def resolve(backend: str, device_type: str, dtype: torch.dtype) -> str:
    """`backend`, which must be able to run, or what `auto` takes.

    Raises:
        UsageError: unknown, or it can't run on these tensors here.
    """
    if backend == "auto":
        return choose_backend(device_type, dtype)[0]
    require_backend(backend, device_type, dtype)
    return backend


def choose_backend(device_type: str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[str, str]:
    """What `backend="auto"` takes for tensors on `device_type`, and why.

    May compile (build.py) or import triton, once a process.

    Raises:
        UsageError: `scan_backend` names one that can't run here.
    """
    named = _named.get()
    if named != "auto":
        require_backend(named, device_type, dtype)
        return named, "named by scan_backend"
    if _is_exporting():
        return "chunked", "plain PyTorch, which other runtimes understand"
    if device_type == "cpu":
        reason = native.missing(dtype)
        if reason is None:
            return "native", native.origin()
    elif device_type == "cuda":
        reason = triton_scan.missing(device_type, dtype) or triton_scan.failing(device_type)
        if reason is None:
            return "triton", "fused kernels, which agree with chunked on this GPU"
    else:
        reason = f"No kernel for {device_type!r}."
    return "chunked", f"plain PyTorch. {reason}"


def require_backend(name: str, device_type: str, dtype: torch.dtype) -> None:
    """Raises UsageError if the backend `name` is unknown or can't run."""
    _check_name(name)
    reason = None
    if name == "triton":
        reason = triton_scan.missing(device_type, dtype)
    elif name == "native" and device_type == "cpu":
        reason = native.missing(dtype)
    elif name == "native":
        reason = (
            f"The scan backend 'native' runs on a CPU; the tensors are on {device_type!r}. Choose "
            "backend='auto'."
        )
    if reason is not None:
        raise UsageError(reason)


def _check_name(name: str) -> None:
    if name not in BACKENDS:
        raise UsageError(f"Unknown scan backend {name!r}. {did_you_mean(name, BACKENDS)}")


def _is_exporting() -> bool:
    # torch 2.6 does not tell exporting from compiling.
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined]
