"""`wkv`: one operation, several ways to compute it, one reference (equations: ../README.md).

B batch, L tokens, H heads, D head width.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor

from videorwkv.errors import UsageError, did_you_mean
from videorwkv.ops.backends import BACKENDS as BACKENDS
from videorwkv.ops.backends import choose_backend as choose_backend
from videorwkv.ops.backends import resolve
from videorwkv.ops.backends import scan_backend as scan_backend
from videorwkv.ops.chunked import ChunkedPrepared, prepare_chunked, read_chunked
from videorwkv.ops.native import wkv_native
from videorwkv.ops.reference import wkv_reference as wkv_reference
from videorwkv.ops.tokens import Tokens
from videorwkv.ops.triton_scan import TritonPrepared, prepare_triton, read_triton

Scan = Literal["bidirectional", "forward"]
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
