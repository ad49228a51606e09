"""`wkv`: one operation, several backends, one reference (equations: ../README.md).

B batch, L tokens, H heads, D head width.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from videorwkv.errors import UsageError, did_you_mean
from videorwkv.ops import native, triton_scan
from videorwkv.ops.chunked import ChunkedPrepared, prepare_chunked, read_chunked
from videorwkv.ops.native import gradients_native, wkv_native
from videorwkv.ops.reference import wkv_reference as wkv_reference
from videorwkv.ops.triton_scan import (
    TritonPrepared,
    fits_gated,
    gated_triton,
    gradients_triton,
    prepare_triton,
    read_triton,
)

Scan = Literal["bidirectional", "forward"]
BACKENDS = ("auto", "native", "triton", "chunked", "reference")
Function = TypeVar("Function", bound=Callable[..., object])
Result = TypeVar("Result")

_named: contextvars.ContextVar[str] = contextvars.ContextVar("scan_backend", default="auto")


class Tokens(NamedTuple):
    """Keys and values as they are, for the backends that prepare nothing (native, reference); B may
    stand for frames times clips.

    Args:
        key_BLHD: keys.
        value_BLHD: values.
        log_decay_HD: as in `wkv`.
        bonus_HD: as in `wkv`.
        scan: `bidirectional` or `forward`.
        backend: `native` or `reference`.
    """

    key_BLHD: Tensor
    value_BLHD: Tensor
    log_decay_HD: Tensor
    bonus_HD: Tensor
    scan: str
    backend: str

    def frames(self, num_frames: int) -> list[Tokens]:
        """Split a batch of `num_frames` * B scans into one part a frame, frame-major."""
        if num_frames == 1:
            return [self]
        keys = self.key_BLHD.unflatten(0, (num_frames, -1)).unbind(0)
        values = self.value_BLHD.unflatten(0, (num_frames, -1)).unbind(0)
        return [
            self._replace(key_BLHD=key, value_BLHD=value)
            for key, value in zip(keys, values, strict=True)
        ]


# All of a scan that does not depend on the receptance.
Prepared = ChunkedPrepared | Tokens | TritonPrepared

MIN_LOG_DECAY = -2.0
"""Strongest decay that the scan accepts: see ../README.md for why."""


def wkv(
    r_BLHD: Tensor,
    k_BLHD: Tensor,
    v_BLHD: Tensor,
    log_decay_HD: Tensor,
    bonus_HD: Tensor,
    *,
    scan: Scan = "bidirectional",
    backend: str = "auto",
) -> Tensor:
    """Scan the L tokens of each frame (paper, equation of BiWKV; RWKV-5's matrix state).

    Args:
        r_BLHD: receptance, [B, L, H, D].
        k_BLHD: key, [B, L, H, D].
        v_BLHD: value, [B, L, H, D].
        log_decay_HD: log of the decay per key channel, [H, D], in [MIN_LOG_DECAY, 0].
        bonus_HD: weight of a token's own key and value, [H, D].
        scan: `bidirectional`, or `forward` (a token sees itself and those before it).
        backend: `auto`, or a name of BACKENDS, which then runs or raises.

    Returns:
        [B, L, H, D] in the type of `r_BLHD`; accumulated in float32 (or float64, if given).

    Raises:
        UsageError: unknown scan or backend, a backend that can't run here, shapes that differ, a
            decay out of range.
    """
    check(r_BLHD, k_BLHD, v_BLHD, log_decay_HD, bonus_HD, scan)
    with no_autocast(r_BLHD.device.type):
        prepared = prepare(k_BLHD, v_BLHD, log_decay_HD, bonus_HD, scan=scan, backend=backend)
        return read(r_BLHD, prepared)


def prepare(
    k_BLHD: Tensor,
    v_BLHD: Tensor,
    log_decay_HD: Tensor,
    bonus_HD: Tensor,
    *,
    scan: str = "bidirectional",
    backend: str = "auto",
) -> Prepared:
    """What of a scan does not depend on the receptance; arguments as in `wkv`, not checked.

    To be called, as `read` is, under `no_autocast`, or sums are taken in half precision. Many
    frames may be prepared as one batch, and split by the result's `frames`.

    Raises:
        UsageError: an unknown backend, or one that can't run here.
    """
    backend = resolve(backend, k_BLHD.device.type, k_BLHD.dtype)
    if backend == "chunked":
        return prepare_chunked(k_BLHD, v_BLHD, log_decay_HD, bonus_HD, scan=scan)
    if backend == "triton":
        return prepare_triton(k_BLHD, v_BLHD, log_decay_HD, bonus_HD, scan=scan)
    return Tokens(k_BLHD, v_BLHD, log_decay_HD, bonus_HD, scan, backend)


def read(r_BLHD: Tensor, prepared: Prepared) -> Tensor:
    """What each token's receptance reads from the prepared keys and values: [B, L, H, D]."""
    if isinstance(prepared, ChunkedPrepared):
        return read_chunked(r_BLHD, prepared)
    if isinstance(prepared, TritonPrepared):
        return read_triton(r_BLHD, prepared)
    *tokens, scan, backend = prepared
    run = wkv_native if backend == "native" else wkv_reference
    return run(r_BLHD, *tokens, scan=scan)


def gradients(
    grad_BLHD: Tensor,
    r_BLHD: Tensor,
    k_BLHD: Tensor,
    v_BLHD: Tensor,
    log_decay_HD: Tensor,
    bonus_HD: Tensor,
    *,
    scan: str,
    backend: str,
) -> tuple[Tensor, ...]:
    """Those of r, k, v, log_decay and bonus from that of the result, for who kept none of what
    `prepare` makes. To be called under `no_autocast`; `backend` is no `auto`."""
    given = r_BLHD, k_BLHD, v_BLHD, log_decay_HD, bonus_HD
    if backend == "native":
        return gradients_native(grad_BLHD, *given, scan=scan)
    if backend == "triton":
        return gradients_triton(grad_BLHD, *given, scan=scan)
    leaves = [x.detach().requires_grad_() for x in given]
    with torch.enable_grad():
        out_BLHD = read(leaves[0], prepare(*leaves[1:], scan=scan, backend=backend))
    return torch.autograd.grad(out_BLHD, leaves, grad_BLHD)


def gated(
    rg_BLX: Tensor,
    kv_BLX: Tensor,
    log_decay_HD: Tensor,
    bonus_HD: Tensor,
    tables_LD: tuple[Tensor, Tensor] | None = None,
    *,
    scan: str,
) -> Tensor:
    """SiLU(g) * norm(r . BiWKV(k, v)) in one operation each way, where `is_gated_fused`.

    Args:
        rg_BLX: receptance and gate side by side, [B, L, 2 H D].
        kv_BLX: keys and values side by side, [B, L, 2 H D].
        log_decay_HD: as in `wkv`.
        bonus_HD: as in `wkv`.
        tables_LD: cosine and sine of the rotary embedding that r and k get here, the same for all
            frames, with the channels of a pair D / 2 apart (`RotaryEmbedding`); None: none.
        scan: `bidirectional` or `forward`.

    Returns:
        [B, L, H D] in the type of `rg_BLX`; the norm is that of a layer norm of each head, without
        weights.
    """
    return gated_triton(rg_BLX, kv_BLX, log_decay_HD, bonus_HD, tables_LD, scan=scan)


def is_gated_fused(device_type: str, dtype: torch.dtype, length: int, head_width: int) -> bool:
    """Whether what `auto` takes here has `gated` for frames of `length` tokens."""
    return fits_gated(length, head_width) and resolve("auto", device_type, dtype) == "triton"


def no_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Inside, products are taken in the type that their operands have."""
    # PyTorch has no autocast for "meta", and raises when it is asked about it.
    if device_type != "meta" and torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()


def check(r: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, bonus: Tensor, scan: str) -> None:
    """Shapes, names and the range of the decay; raises UsageError."""
    if scan not in ("bidirectional", "forward"):
        raise UsageError(
            f"Unknown scan {scan!r}. {did_you_mean(scan, ['bidirectional', 'forward'])}"
        )
    if r.ndim != 4 or r.shape != k.shape or r.shape != v.shape or r.shape[1] == 0:
        raise UsageError(
            "wkv: r, k and v must all be [B, L, H, D] with L >= 1; got "
            f"{list(r.shape)}, {list(k.shape)}, {list(v.shape)}."
        )
    if log_decay.shape != r.shape[2:] or bonus.shape != r.shape[2:]:
        raise UsageError(
            f"wkv: log_decay and bonus must be [H, D] = {list(r.shape[2:])}; got "
            f"{list(log_decay.shape)}, {list(bonus.shape)}."
        )
    # Reading values would stall a GPU's queue, and they can't be read while compiling.
    if log_decay.device.type == "cpu" and not torch.compiler.is_compiling():
        low, high = log_decay.detach().aminmax()
        if not MIN_LOG_DECAY <= float(low) <= float(high) <= 0:
            raise UsageError(
                f"wkv: log_decay must lie in [{MIN_LOG_DECAY}, 0]; got {float(low):.3g} to "
                f"{float(high):.3g}. A stronger decay would overflow a chunk's factors."
            )


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


def constant_in_graphs(function: Function) -> Function:
    """`torch.compiler.assume_constant_result`, which would import the compiler: half of the time
    that a command takes to start."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


# While torch.compile traces, this runs as it is, and what it returns is part of the program.
@constant_in_graphs
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
