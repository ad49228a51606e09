"""The scan over short frames as fused kernels for a GPU that keep no state: torch's side of
triton_short_kernels.py, which is imported late.

B batch, L tokens, H heads, D head width.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

SHORT = 256
"""Most tokens of a frame of which all pairs are computed, and no states are kept. A block of 64
tokens takes two products of 64 x 64 x 64 for each other block of keys; with states, both directions
together, four for all of them. So four blocks have 1.5 times that arithmetic, and save writing and
reading states, which are four times keys and values in bfloat16. Beyond, the arithmetic grows, and
what is saved does not."""


def interpreted() -> bool:
    """Whether triton runs its kernels in Python, on CPU tensors (set before triton's import)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def last_dense(x: Tensor) -> Tensor:
    """The same with channels side by side, as kernels read them."""
    return x if x.stride(3) == 1 else x.contiguous()


def _problem(
    bidirectional: bool, *tensors: Tensor
) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """Programs, sizes, and the constants that a kernel is compiled for."""
    from videorwkv.ops import triton_short_kernels as kernels

    batch, length, heads, width = tensors[0].shape
    block = max(16, 1 << (width - 1).bit_length())
    types = {x.dtype for x in tensors}
    half = types == {torch.bfloat16}
    # Factors inside a block reach e^63: float16 has no room for them, and goes the way of tf32.
    operands = kernels.FULL if torch.float32 in types else kernels.TF32
    if half:
        operands = kernels.ROUNDED if interpreted() else kernels.HALF
    tokens = 64 if half and block <= 64 else 32
    blocks = -(-length // tokens)
    constants = {
        "BOTH": bidirectional,
        "T": tokens,
        "BLOCK": block,
        "OPERANDS": operands,
        "num_warps": 8 if block >= 64 else 4,
    }
    return (blocks * batch * heads,), (length, blocks, heads, width), constants


def _strided(*tensors: Tensor) -> list[Any]:
    return [x for tensor in tensors for x in (tensor, *tensor.stride()[:3])]


def _short(
    r: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, bonus: Tensor, bidirectional: bool
) -> Tensor:
    from videorwkv.ops import triton_short_kernels as kernels

    r, k, v = last_dense(r), last_dense(k), last_dense(v)
    programs, sizes, constants = _problem(bidirectional, r, k, v)
    out = torch.empty(r.shape, dtype=r.dtype, device=r.device)
    given = *_strided(r, k, v), log_decay.contiguous(), bonus.contiguous()
    kernels.short_forward[programs](*given, out, *sizes, **constants)
    return out


def _short_backward(
    grad: Tensor, r: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, bonus: Tensor,
    bidirectional: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    from videorwkv.ops import triton_short_kernels as kernels

    grad, r, k, v = last_dense(grad), last_dense(r), last_dense(k), last_dense(v)
    programs, sizes, constants = _problem(bidirectional, r, k, v)
    batch, (_, blocks, heads, width) = len(r), sizes
    given = *_strided(grad, r, k, v), log_decay.contiguous(), bonus.contiguous()
    dr, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (r, k, v))
    sums = log_decay.new_empty(2, batch, heads, blocks, width)
    kernels.short_backward_r[programs](*given, dr, sums, *sizes, batch, **constants)
    kernels.short_backward_kv[programs](*given, dk, dv, *sizes, **constants)
    return dr, dk, dv, sums.sum((1, 3))


def _short_shape(r: Tensor, *rest: Any) -> Tensor:
    return r.new_empty(r.shape)


def _short_backward_shape(
    grad: Tensor, r: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dr, dk, dv = (x.new_empty(x.shape) for x in (r, k, v))
    return dr, dk, dv, log_decay.new_empty(2, *log_decay.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.bidirectional = inputs[5]


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    backward = torch.ops.videorwkv.scan_short_backward
    *grads, sums = backward(grad, *ctx.saved_tensors, ctx.bidirectional)
    return *grads, *sums.unbind(0), None


_LIBRARY = torch.library.Library("videorwkv", "FRAGMENT")
_INPUTS = "Tensor r, Tensor k, Tensor v, Tensor log_decay, Tensor bonus, bool bidirectional"


def _register(name: str, schema: str, run: Any, shape: Any) -> None:
    _LIBRARY.define(f"{name}{schema}", tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"videorwkv::{name}", shape, lib=_LIBRARY)


_register("scan_short", f"({_INPUTS}) -> Tensor", _short, _short_shape)
_register(
    "scan_short_backward",
    f"(Tensor grad, {_INPUTS}) -> (Tensor, Tensor, Tensor, Tensor)",
    _short_backward,
    _short_backward_shape,
)
torch.library.register_autograd(
    "videorwkv::scan_short", _differentiate, setup_context=_save, lib=_LIBRARY
)
