"""The scan as C (scan.c), compiled on first use or brought by the wheel (build.py): the fast way
on a CPU.

B batch, L tokens, H heads, D head width.
"""

from __future__ import annotations

import ctypes
import functools

import torch
from torch import Tensor

from videorwkv.errors import UsageError
from videorwkv.ops import build

# What the kernel reads and writes; it computes in float32, float64 in float64.
TYPES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}
TENSORS = ("r", "k", "v", "grad", "log_decay", "bonus", "out", "dr", "dk", "dv")
SUMS = ("dlog_decay", "dbonus")
SIZES = ("batch", "length", "heads", "width", "bidirectional", "threads")


class _Problem(ctypes.Structure):
    """`problem` of scan.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in TENSORS + SUMS),
        *((name, ctypes.c_int64) for name in SIZES),
        ("strides", ctypes.c_int64 * 12),
    ]


def wkv_native(
    r_BLHD: Tensor,
    k_BLHD: Tensor,
    v_BLHD: Tensor,
    log_decay_HD: Tensor,
    bonus_HD: Tensor,
    *,
    scan: str,
) -> Tensor:
    """Arguments and result as in `videorwkv.ops.wkv.wkv`."""
    stored, real = _types(r_BLHD, k_BLHD, v_BLHD)
    out_BLHD = torch.ops.videorwkv.scan(
        r_BLHD.to(stored),
        k_BLHD.to(stored),
        v_BLHD.to(stored),
        log_decay_HD.to(real),
        bonus_HD.to(real),
        scan == "bidirectional",
    )
    return out_BLHD.to(r_BLHD.dtype)


def gradients_native(
    grad_BLHD: Tensor, r_BLHD: Tensor, k_BLHD: Tensor, v_BLHD: Tensor, log_decay_HD: Tensor,
    bonus_HD: Tensor, *, scan: str,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Of `wkv_native`, without its result: those of r, k, v, log_decay and bonus."""
    stored, real = _types(r_BLHD, k_BLHD, v_BLHD)
    given = r_BLHD, k_BLHD, v_BLHD, log_decay_HD, bonus_HD
    tokens = (x.to(stored) for x in (grad_BLHD, *given[:3]))
    found = torch.ops.videorwkv.scan_backward(
        *tokens, *(x.to(real) for x in given[3:]), scan == "bidirectional"
    )
    return tuple(grad.to(x.dtype) for grad, x in zip(found, given, strict=True))


def _types(r_BLHD: Tensor, k_BLHD: Tensor, v_BLHD: Tensor) -> tuple[torch.dtype, torch.dtype]:
    """Those in which the kernel takes tokens, and in which it takes weights and adds up."""
    common = torch.promote_types(torch.promote_types(r_BLHD.dtype, k_BLHD.dtype), v_BLHD.dtype)
    stored = _stored(common)
    return stored, torch.promote_types(stored, torch.float32)


def _stored(dtype: torch.dtype) -> torch.dtype:
    """The type in which the kernel takes tensors of `dtype`."""
    return dtype if dtype in TYPES else torch.float32


@functools.cache
def missing(dtype: torch.dtype = torch.float32) -> str | None:
    """Why this backend can't run here on `dtype`; None if it can. May compile on the first call."""
    try:
        build.load(TYPES[_stored(dtype)])
    except UsageError as error:
        return str(error)
    return None


@functools.cache
def origin() -> str:
    """Where the code came from; kept, since looking for a compiler costs as much as a scan."""
    return f"{build.load('float32').origin}; fastest at every length"


def _run(r: Tensor, k: Tensor, v: Tensor, grad: Tensor | None, **arguments: Tensor | bool) -> None:
    batch, length, heads, width = r.shape
    rows = [x if x is None or x.stride(3) == 1 else x.contiguous() for x in (r, k, v, grad)]
    bidirectional = arguments.pop("bidirectional")
    pointers = {name: x.data_ptr() for name, x in arguments.items() if isinstance(x, Tensor)}
    pointers |= {n: x.data_ptr() for n, x in zip("rkv", rows, strict=False) if x is not None}
    strides = [s for x in rows if x is not None for s in x.stride()[:3]]
    problem = _Problem(
        **pointers,
        grad=None if rows[3] is None else rows[3].data_ptr(),
        batch=batch,
        length=length,
        heads=heads,
        width=width,
        bidirectional=int(bidirectional),
        threads=torch.get_num_threads(),
        strides=(ctypes.c_int64 * 12)(*strides),
    )
    if not build.load(TYPES[r.dtype]).code.run_scan(ctypes.byref(problem)):
        raise MemoryError(f"No memory for a scan of {length} tokens.")


def _forward(
    r: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, bonus: Tensor, bidirectional: bool
) -> Tensor:
    out = torch.empty(r.shape, dtype=r.dtype)
    log_decay, bonus = log_decay.contiguous(), bonus.contiguous()
    _run(r, k, v, None, log_decay=log_decay, bonus=bonus, out=out, bidirectional=bidirectional)
    return out


def _backward(
    grad: Tensor,
    r: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    bonus: Tensor,
    bidirectional: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    dr, dk, dv = (torch.empty(r.shape, dtype=r.dtype) for _ in range(3))
    batch, _, heads, width = r.shape
    # A sum for each scan of the batch: threads add to none of another.
    dlog_decay, dbonus = torch.empty(2, batch, heads, width, dtype=log_decay.dtype).unbind(0)
    log_decay, bonus = log_decay.contiguous(), bonus.contiguous()
    _run(
        r,
        k,
        v,
        grad,
        log_decay=log_decay,
        bonus=bonus,
        dr=dr,
        dk=dk,
        dv=dv,
        dlog_decay=dlog_decay,
        dbonus=dbonus,
        bidirectional=bidirectional,
    )
    return dr, dk, dv, dlog_decay.sum(0), dbonus.sum(0)


def _forward_shape(r: Tensor, *rest: Tensor | bool) -> Tensor:
    return r.new_empty(r.shape)


def _backward_shape(
    grad: Tensor, r: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, bonus: Tensor, both: bool
) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in (r, k, v, log_decay, bonus))


# A registered operation, and not an autograd.Function: torch.compile takes it as one node.
_LIBRARY = torch.library.Library("videorwkv", "FRAGMENT")
_INPUTS = "Tensor r, Tensor k, Tensor v, Tensor log_decay, Tensor bonus, bool bidirectional"
_GRADS = "(Tensor, Tensor, Tensor, Tensor, Tensor)"
_TAGS = (torch.Tag.pt2_compliant_tag,)
_LIBRARY.define(f"scan({_INPUTS}) -> Tensor", tags=_TAGS)
_LIBRARY.define(f"scan_backward(Tensor grad, {_INPUTS}) -> {_GRADS}", tags=_TAGS)
_LIBRARY.impl("scan", _forward, "CPU")
_LIBRARY.impl("scan_backward", _backward, "CPU")
torch.library.register_fake("videorwkv::scan", _forward_shape, lib=_LIBRARY)
torch.library.register_fake("videorwkv::scan_backward", _backward_shape, lib=_LIBRARY)


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.bidirectional = inputs[5]  # type: ignore[attr-defined]


def _differentiate(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple:
    saved = ctx.saved_tensors  # type: ignore[attr-defined]
    bidirectional = ctx.bidirectional  # type: ignore[attr-defined]
    return (*torch.ops.videorwkv.scan_backward(grad, *saved, bidirectional), None)


torch.library.register_autograd(
    "videorwkv::scan", _differentiate, setup_context=_save, lib=_LIBRARY
)
