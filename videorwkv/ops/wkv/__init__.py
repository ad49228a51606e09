"""`wkv`: one operation, several ways to compute it, one reference (equations: ../README.md).

B batch, L tokens, H heads, D head width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from videorwkv.errors import UsageError, did_you_mean
from videorwkv.ops.wkv.chunked import Prepared as Prepared
from videorwkv.ops.wkv.chunked import prepare as prepare
from videorwkv.ops.wkv.chunked import read as read
from videorwkv.ops.wkv.reference import wkv_reference as wkv_reference

Scan = Literal["bidirectional", "forward"]

MIN_LOG_DECAY = -2.0
"""Strongest decay that the scan accepts: see ../README.md for why."""

BACKENDS = ("auto", "chunked", "reference")


def choose_backend(device: torch.device | str = "cpu") -> tuple[str, str]:
    """What `backend="auto"` takes on `device`, and why."""
    return "chunked", f"plain PyTorch, linear in tokens, exact to rounding on {device}"


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
        UsageError: unknown scan or backend, shapes that differ, a decay out of range.
    """
    check(r_BLHD, k_BLHD, v_BLHD, log_decay_HD, bonus_HD, scan)
    if backend not in BACKENDS:
        raise UsageError(f"Unknown scan backend {backend!r}. {did_you_mean(backend, BACKENDS)}")
    if backend == "auto":
        backend, _ = choose_backend(r_BLHD.device)
    if backend == "reference":
        return wkv_reference(r_BLHD, k_BLHD, v_BLHD, log_decay_HD, bonus_HD, scan=scan)
    return read(r_BLHD, prepare(k_BLHD, v_BLHD, log_decay_HD, bonus_HD, scan=scan))


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
