"""The scan as fused kernels for a GPU: torch's side of triton_kernels.py, which is imported late.
Frames of at most SHORT tokens go through those of triton_short.py, which need no states.

B batch, L tokens, H heads, D head width, R directions, P chunks of CHUNK tokens.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from videorwkv.ops.chunked import prepare_chunked, read_chunked
from videorwkv.ops.triton_short import SHORT, interpreted, last_dense

CHUNK = 32
# Tokens with which `failing` asks: three chunks, two blocks of triton_short.py's larger kind.
CHECKED = 69
TYPES = (torch.float32, torch.bfloat16, torch.float16)


class TritonPrepared(NamedTuple):
    """What a scan holds before the receptance is known; B may stand for frames times clips.

    Args:
        key_BLHD: keys.
        value_BLHD: values.
        log_decay_HD: as in `wkv`, float32.
        bonus_HD: as in `wkv`, float32.
        states_BHRPDD: sums of keys times values over the chunks before, and after; None where
            a frame is short.
        bidirectional: or forward.
    """

    key_BLHD: Tensor
    value_BLHD: Tensor
    log_decay_HD: Tensor
    bonus_HD: Tensor
    states_BHRPDD: Tensor | None
    bidirectional: bool

    def frames(self, num_frames: int) -> list[TritonPrepared]:
        """Split a batch of `num_frames` * B scans into one part a frame, frame-major."""
        if num_frames == 1:
            return [self]

        def split(x: Tensor) -> tuple[Tensor, ...]:
            return x.unflatten(0, (num_frames, -1)).unbind(0)

        states = self.states_BHRPDD
        parts = [None] * num_frames if states is None else split(states)
        return [
            self._replace(key_BLHD=key, value_BLHD=value, states_BHRPDD=part)
            for key, value, part in zip(
                split(self.key_BLHD), split(self.value_BLHD), parts, strict=True
            )
        ]


def prepare_triton(
    k_BLHD: Tensor, v_BLHD: Tensor, log_decay_HD: Tensor, bonus_HD: Tensor, *, scan: str
) -> TritonPrepared:
    """Arguments as in `wkv`; float32, bfloat16 or float16."""
    bidirectional = scan == "bidirectional"
    log_decay_HD, bonus_HD = log_decay_HD.float(), bonus_HD.float()
    states = None
    if k_BLHD.shape[1] > SHORT:
        states = torch.ops.videorwkv.scan_states(k_BLHD, v_BLHD, log_decay_HD, bidirectional)
    return TritonPrepared(k_BLHD, v_BLHD, log_decay_HD, bonus_HD, states, bidirectional)


def read_triton(r_BLHD: Tensor, prepared: TritonPrepared) -> Tensor:
    """What each token's receptance reads from the prepared keys and values: [B, L, H, D]."""
    *given, states, bidirectional = prepared
    if states is None:
        return torch.ops.videorwkv.scan_short(r_BLHD, *given, bidirectional)
    return torch.ops.videorwkv.scan_read(r_BLHD, *given, states, bidirectional)


def gradients_triton(
    grad_BLHD: Tensor, r_BLHD: Tensor, k_BLHD: Tensor, v_BLHD: Tensor, log_decay_HD: Tensor,
    bonus_HD: Tensor, *, scan: str,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Of r, k, v, log_decay and bonus. States of longer frames are made again: as many as the
    tokens have numbers, and half a kernel of work."""
    operations, keys = torch.ops.videorwkv, (k_BLHD, v_BLHD)
    decay_HD, _, states, both = prepare_triton(*keys, log_decay_HD, bonus_HD, scan=scan)[2:]
    given = r_BLHD, *keys, decay_HD, bonus_HD.float()
    if states is None:
        dr, dk, dv, sums = operations.scan_short_backward(grad_BLHD, *given, both)
        ddecay, dbonus = sums.unbind(0)
    else:
        read_backward = operations.scan_read_backward
        dr, dk, dv, ddecay, dbonus, dstates = read_backward(grad_BLHD, *given, states, both)
        backward = operations.scan_states_backward
        more = backward(dstates, *keys, decay_HD, states, both)
        dk, dv, ddecay = dk + more[0], dv + more[1], ddecay + more[2]
    return dr, dk, dv, ddecay.to(log_decay_HD.dtype), dbonus.to(bonus_HD.dtype)


def fits_gated(length: int, head_width: int) -> bool:
    """Whether frames and heads of a size can go through `gated_triton`."""
    return length <= SHORT and head_width in (16, 32, 64, 128)


def gated_triton(
    rg_BLX: Tensor, kv_BLX: Tensor, log_decay_HD: Tensor, bonus_HD: Tensor,
    tables_LD: tuple[Tensor, Tensor] | None, *, scan: str,
) -> Tensor:  # fmt: skip
    """As `videorwkv.ops.wkv.gated`."""
    cos_LD, sin_LD = (None, None) if tables_LD is None else tables_LD
    decay_HD, bonus_HD = log_decay_HD.float(), bonus_HD.float()
    both = scan == "bidirectional"
    return torch.ops.videorwkv.scan_gated(rg_BLX, kv_BLX, decay_HD, bonus_HD, cos_LD, sin_LD, both)


def missing(device_type: str, dtype: torch.dtype = torch.float32) -> str | None:
    """Why this backend can't run on a device; None if it can."""
    if importlib.util.find_spec("triton") is None:
        return "The scan backend 'triton' needs triton: pip install triton (Linux)."
    if device_type != "cuda" and not interpreted():
        return (
            f"The scan backend 'triton' needs a GPU; the tensors are on {device_type!r}. Move them "
            "to 'cuda', or choose backend='auto'."
        )
    if dtype not in TYPES:
        return (
            f"The scan backend 'triton' takes float32, bfloat16 and float16; got {dtype}. Choose "
            "backend='chunked'."
        )
    return None


@functools.cache
def failing(device_type: str) -> str | None:
    """What goes wrong on this device, against `chunked`, forward and backward, in the types and
    with the widths of heads that models have, with states and without; None if nothing.

    A kernel meets GPUs, drivers and versions of triton that nobody has tried.
    """
    cases = (torch.float32, 64, 1e-3), (torch.bfloat16, 64, 2e-2), (torch.bfloat16, 32, 2e-2)
    return next((bad for case in cases if (bad := _failing(device_type, *case))), None)


def _failing(device_type: str, dtype: torch.dtype, width: int, tolerance: float) -> str | None:
    from triton.errors import TritonError

    generator = torch.Generator().manual_seed(0)
    shape = (1, CHECKED, 1, width)
    inputs = [torch.randn(shape, generator=generator).to(dtype) for _ in range(3)]
    inputs += [-torch.rand(shape[2:], generator=generator), torch.ones(shape[2:])]

    def results(run: Callable[..., Tensor]) -> list[Tensor]:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(device_type, enabled=False),
        ):
            leaves = [x.to(device_type, copy=True).requires_grad_() for x in inputs]
            out = run(*leaves)
            return [out, *torch.autograd.grad(out.float().square().sum(), leaves)]

    ways = (
        (_chunked, _without_states),
        (_chunked, _with_states),
        (_chunked_and_gated, _gated),
    )
    for plain, fused in ways:
        try:
            pairs = [*zip(results(plain), results(fused), strict=True)]
        except (RuntimeError, TritonError) as error:
            told = " ".join(str(error).split())[:300]
            return f"The scan backend 'triton' fails on this GPU: {told}"
        for wanted, got in pairs:
            if not (wanted.float() - got.float()).norm() <= tolerance * wanted.float().norm():
                return f"The scan backend 'triton' computes wrong numbers in {dtype} on this GPU."
    return None


def _chunked(r: Tensor, *rest: Tensor) -> Tensor:
    return read_chunked(r, prepare_chunked(*rest))


def _without_states(r: Tensor, *rest: Tensor) -> Tensor:
    return read_triton(r, prepare_triton(*rest, scan="bidirectional"))


def _with_states(r: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, bonus: Tensor) -> Tensor:
    """The way of longer frames."""
    states = torch.ops.videorwkv.scan_states(k, v, log_decay, True)
    return read_triton(r, TritonPrepared(k, v, log_decay, bonus, states, True))


def _gated(r: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, bonus: Tensor) -> Tensor:
    """With the values for a gate, too."""
    rg, kv = (torch.stack([x, v], 2).flatten(2) for x in (r, k))
    return gated_triton(rg, kv, log_decay, bonus, _tables(r), scan="bidirectional")


def _chunked_and_gated(r: Tensor, k: Tensor, v: Tensor, *rest: Tensor) -> Tensor:
    """The same in float32, by operations of PyTorch."""
    (cos, sin), half, width = _tables(r), r.shape[3] // 2, r.shape[3:]
    turned = (x * cos[:, None] + x.roll(half, 3) * sin[:, None] for x in (r.float(), k.float()))
    found = _chunked(next(turned), next(turned), v.float(), *rest)
    normed = torch.nn.functional.layer_norm(found, width)
    return (torch.nn.functional.silu(v.float()) * normed).flatten(2).to(r.dtype)


def _tables(r: Tensor) -> tuple[Tensor, Tensor]:
    """Some angles of each token and pair of channels, as cosine and sine, [L, D]."""
    length, _, width = r.shape[1:]
    angles = torch.arange(length * width // 2, device=r.device).view(length, -1) * 0.1
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)


def _sizes(k: Tensor, bidirectional: bool) -> tuple[int, int, dict[str, Any]]:
    """Chunks, directions, and the constants that a kernel is compiled for."""
    width, directions = k.shape[3], 2 if bidirectional else 1
    block = max(16, 1 << (width - 1).bit_length())
    constants = {
        "DIRECTIONS": directions,
        "T": CHUNK,
        "BLOCK": block,
        # tf32 keeps 10 bits where bfloat16 inputs have 7; three of them nearly make a float32, on
        # tensor cores. Plain float32 products would spill kilobytes a thread.
        "PRECISION": "tf32x3" if k.dtype == torch.float32 else "tf32",
        # With 4 the states of a head of 64 do not fit into the registers.
        "num_warps": 8 if block >= 64 else 4,
    }
    return -(-k.shape[1] // CHUNK), directions, constants


def _states(k: Tensor, v: Tensor, log_decay: Tensor, bidirectional: bool) -> Tensor:
    from videorwkv.ops import triton_kernels

    k, v, log_decay = last_dense(k), last_dense(v), log_decay.contiguous()
    batch, length, heads, width = k.shape
    chunks, directions, constants = _sizes(k, bidirectional)
    states = log_decay.new_empty(batch, heads, directions, chunks, width, width)
    triton_kernels.states_forward[(batch * heads, directions)](
        *(k, *k.stride()[:3], v, *v.stride()[:3], log_decay, states),
        *(length, chunks, heads, width),
        **constants,
    )
    return states


def _states_backward(
    dstates: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, states: Tensor, bidirectional: bool
) -> tuple[Tensor, Tensor, Tensor]:
    from videorwkv.ops import triton_kernels

    k, v, log_decay = last_dense(k), last_dense(v), log_decay.contiguous()
    batch, length, heads, width = k.shape
    chunks, directions, constants = _sizes(k, bidirectional)
    dk, dv = (log_decay.new_empty(directions, *k.shape) for _ in range(2))
    ddecay = log_decay.new_empty(directions, batch, heads, width)
    triton_kernels.states_backward[(batch * heads, directions)](
        *(k, *k.stride()[:3], v, *v.stride()[:3], log_decay, states, dstates.contiguous()),
        *(dk, dv, ddecay, length, chunks, heads, width, batch),
        **constants,
    )
    return dk.sum(0).to(k.dtype), dv.sum(0).to(v.dtype), ddecay.sum((0, 1))


def _read(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    bonus: Tensor,
    states: Tensor,
    bidirectional: bool,
) -> Tensor:
    from videorwkv.ops import triton_kernels

    r, k, v = last_dense(r), last_dense(k), last_dense(v)
    log_decay, bonus = log_decay.contiguous(), bonus.contiguous()
    batch, length, heads, width = k.shape
    chunks, _, constants = _sizes(k, bidirectional)
    out = torch.empty(r.shape, dtype=r.dtype, device=r.device)
    triton_kernels.read_forward[(chunks, batch * heads)](
        *(r, *r.stride()[:3], k, *k.stride()[:3], v, *v.stride()[:3], log_decay, bonus),
        *(states.contiguous(), out, length, chunks, heads, width),
        **constants,
    )
    return out


def _read_backward(
    grad: Tensor,
    r: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    bonus: Tensor,
    states: Tensor,
    bidirectional: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    from videorwkv.ops import triton_kernels

    grad, r, k, v = last_dense(grad), last_dense(r), last_dense(k), last_dense(v)
    log_decay, bonus = log_decay.contiguous(), bonus.contiguous()
    batch, length, heads, width = k.shape
    chunks, directions, constants = _sizes(k, bidirectional)
    dr, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (r, k, v))
    ddecay, dbonus = log_decay.new_empty(2, batch, heads, chunks, width).unbind(0)
    dstates = log_decay.new_empty(batch, heads, directions, chunks, width, width)
    triton_kernels.read_backward[(chunks, batch * heads)](
        *(grad, *grad.stride()[:3], r, *r.stride()[:3], k, *k.stride()[:3], v, *v.stride()[:3]),
        *(log_decay, bonus, states.contiguous(), dr, dk, dv),
        *(dstates, ddecay, dbonus, length, chunks, heads, width),
        **constants,
    )
    return dr, dk, dv, ddecay.sum((0, 2)), dbonus.sum((0, 2)), dstates


def _states_shape(k: Tensor, v: Tensor, log_decay: Tensor, bidirectional: bool) -> Tensor:
    batch, length, heads, width = k.shape
    directions = 2 if bidirectional else 1
    return log_decay.new_empty(batch, heads, directions, -(-length // CHUNK), width, width)


def _states_backward_shape(
    dstates: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, states: Tensor, bidirectional: bool
) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in (k, v, log_decay))


def _read_shape(r: Tensor, *rest: Any) -> Tensor:
    return r.new_empty(r.shape)


def _read_backward_shape(
    grad: Tensor,
    r: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    bonus: Tensor,
    states: Tensor,
    bidirectional: bool,
) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in (r, k, v, log_decay, bonus, states))


def _save_states(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3], output)
    ctx.bidirectional = inputs[3]


def _differentiate_states(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    backward = torch.ops.videorwkv.scan_states_backward
    return (*backward(grad, *ctx.saved_tensors, ctx.bidirectional), None)


def _save_read(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.bidirectional = inputs[6]


def _differentiate_read(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    backward = torch.ops.videorwkv.scan_read_backward
    return (*backward(grad, *ctx.saved_tensors, ctx.bidirectional), None)


_LIBRARY = torch.library.Library("videorwkv", "FRAGMENT")
_STATES = "Tensor k, Tensor v, Tensor log_decay"
_READ = "Tensor r, Tensor k, Tensor v, Tensor log_decay, Tensor bonus, Tensor states"


def _register(name: str, schema: str, run: Any, shape: Any) -> None:
    _LIBRARY.define(f"{name}{schema}", tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"videorwkv::{name}", shape, lib=_LIBRARY)


_register("scan_states", f"({_STATES}, bool bidirectional) -> Tensor", _states, _states_shape)
_register(
    "scan_states_backward",
    f"(Tensor dstates, {_STATES}, Tensor states, bool bidirectional) -> (Tensor, Tensor, Tensor)",
    _states_backward,
    _states_backward_shape,
)
_register("scan_read", f"({_READ}, bool bidirectional) -> Tensor", _read, _read_shape)
_register(
    "scan_read_backward",
    f"(Tensor grad, {_READ}, bool bidirectional) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _read_backward,
    _read_backward_shape,
)
for _name, _differentiate, _save in (
    ("scan_states", _differentiate_states, _save_states),
    ("scan_read", _differentiate_read, _save_read),
):
    torch.library.register_autograd(
        f"videorwkv::{_name}", _differentiate, setup_context=_save, lib=_LIBRARY
    )
