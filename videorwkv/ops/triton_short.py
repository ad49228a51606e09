"""The scan over short frames as fused kernels for a GPU that keep no state: torch's side of
triton_short_kernels.py, which is imported late.

B batch, L tokens, H heads, D head width; X = 2 H D, two tensors side by side.
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

EPSILON = 1e-5
"""Of the norm over each head, as PyTorch's layer norm has it."""


def interpreted() -> bool:
    """Whether triton runs its kernels in Python, on CPU tensors (set before triton's import)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def last_dense(x: Tensor) -> Tensor:
    """The same with channels side by side, as kernels read them."""
    return x if x.stride(-1) == 1 else x.contiguous()


class _Problem:
    """What all kernels of one scan are given.

    Args:
        r, k, v: [B, L, H, D].
        log_decay, bonus: [H, D].
        bidirectional: or forward.
        gate: [B, L, H, D]; None: the result is neither normed nor multiplied.
        tables: cosine and sine of the rotary embedding of r and k, [L, D]; None: they have none.
    """

    def __init__(
        self, r: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, bonus: Tensor,
        bidirectional: bool, gate: Tensor | None = None,
        tables: tuple[Tensor, Tensor] | None = None,
    ) -> None:  # fmt: skip
        from videorwkv.ops import triton_short_kernels as kernels

        self.shape = batch, length, heads, width = r.shape
        block = max(16, 1 << (width - 1).bit_length())
        types = {x.dtype for x in (r, k, v)}
        self.half = types == {torch.bfloat16}
        # Factors inside a block reach e^63, more than float16 has room for: it goes by tf32.
        operands = kernels.FULL if torch.float32 in types else kernels.TF32
        if self.half:
            operands = kernels.ROUNDED if interpreted() else kernels.HALF
        tokens = 64 if self.half and block <= 64 and _has_large_products(r.device) else 32
        blocks = -(-length // tokens)
        self.programs = (blocks * batch * heads,)
        self.sizes = (length, blocks, heads, width)
        self.tokens = _strided(r, k, v)
        # A pointer that is not read stands for what is not there.
        self.gate = _strided(r if gate is None else gate)
        log_decay, bonus = log_decay.contiguous(), bonus.contiguous()
        cos, sin = (log_decay, bonus) if tables is None else (x.contiguous() for x in tables)
        self.rest = cos, sin, log_decay, bonus
        self.constants: dict[str, Any] = {
            "BOTH": bidirectional,
            "TURN": tables is not None,
            "T": tokens,
            "BLOCK": block,
            "OPERANDS": operands.value,
            "num_warps": 8 if block >= 64 else 4,
            # With 3, the tables take more shared memory than GPUs without large products have.
            "num_stages": 2,
        }
        self.norm = {"GATED": gate is not None, "EPSILON": EPSILON}

    def forward(self, out: Tensor) -> None:
        """Into `out`, dense."""
        from videorwkv.ops import triton_short_kernels as kernels

        given = *self.tokens, *self.gate, *self.rest, out, *self.sizes
        kernels.short_forward[self.programs](*given, **self.norm, **self.constants)

    def backward(
        self, grad: Tensor, dr: Tensor, dk: Tensor, dv: Tensor, dgate: Tensor | None = None
    ) -> Tensor:
        """Into `dr`, `dk`, `dv` and `dgate`, the heads of a token side by side; returns the
        gradients of decay and bonus, [2, H, D]."""
        from videorwkv.ops import triton_short_kernels as kernels

        pull, row = grad, dr.stride(1)
        if dgate is not None:
            pull = grad.new_empty(self.shape, dtype=torch.bfloat16 if self.half else torch.float32)
        tokens, gate, rest, sizes = self.tokens, self.gate, self.rest, (*self.sizes, row)
        batch, _, heads, width = self.shape
        sums = rest[-1].new_empty(2, batch, heads, self.sizes[1], width)
        kernels.short_backward_r[self.programs](
            *(*_strided(grad), *tokens, *gate, *rest, dr, dr if dgate is None else dgate, pull),
            *(sums, *sizes),
            **self.norm,
            **self.constants,
        )
        kernels.short_backward_kv[self.programs](
            *(*_strided(pull), *tokens, *rest, dk, dv, *sizes), **self.constants
        )
        return sums.sum((1, 3))


def _has_large_products(device: torch.device) -> bool:
    """Whether a product of 64 rows is one instruction (sm_90, sm_100); elsewhere the registers of
    blocks of 64 tokens spill."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device)[0] in (9, 10)


def _strided(*tensors: Tensor) -> list[Any]:
    """Each, and the strides of its batch, tokens and heads."""
    dense = map(last_dense, tensors)
    return [x for tensor in dense for x in (tensor, *tensor.stride()[:3])]


def _short(*given: Any) -> Tensor:
    r = given[0]
    out = torch.empty(r.shape, dtype=r.dtype, device=r.device)
    _Problem(*given).forward(out)
    return out


def _short_backward(grad: Tensor, *given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dr, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in given[:3])
    return dr, dk, dv, _Problem(*given).backward(grad, dr, dk, dv)


def _halves(x_BLX: Tensor, heads: int) -> tuple[Tensor, ...]:
    """Two tensors that lie side by side, each by heads."""
    return last_dense(x_BLX).unflatten(-1, (2, heads, -1)).unbind(2)


def _gated_problem(
    rg: Tensor, kv: Tensor, log_decay: Tensor, bonus: Tensor, cos: Tensor | None,
    sin: Tensor | None, bidirectional: bool,
) -> _Problem:  # fmt: skip
    (r, gate), (k, v) = _halves(rg, len(log_decay)), _halves(kv, len(log_decay))
    tables = None if cos is None or sin is None else (cos, sin)
    return _Problem(r, k, v, log_decay, bonus, bidirectional, gate, tables)


def _gated(rg: Tensor, *rest: Any) -> Tensor:
    out = _gated_shape(rg)
    problem = _gated_problem(rg, *rest)
    problem.forward(out)
    return out


def _gated_backward(
    grad: Tensor, rg: Tensor, kv: Tensor, log_decay: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    heads = len(log_decay)
    drg, dkv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (rg, kv))
    (dr, dgate), (dk, dv) = _halves(drg, heads), _halves(dkv, heads)
    problem = _gated_problem(rg, kv, log_decay, *rest)
    return drg, dkv, problem.backward(grad.unflatten(-1, (heads, -1)), dr, dk, dv, dgate)


def _short_shape(r: Tensor, *rest: Any) -> Tensor:
    return r.new_empty(r.shape)


def _short_backward_shape(
    grad: Tensor, r: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dr, dk, dv = (x.new_empty(x.shape) for x in (r, k, v))
    return dr, dk, dv, log_decay.new_empty(2, *log_decay.shape)


def _gated_shape(rg: Tensor, *rest: Any) -> Tensor:
    return rg.new_empty(*rg.shape[:-1], rg.shape[-1] // 2)


def _gated_backward_shape(
    grad: Tensor, rg: Tensor, kv: Tensor, log_decay: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    drg, dkv = rg.new_empty(rg.shape), kv.new_empty(kv.shape)
    return drg, dkv, log_decay.new_empty(2, *log_decay.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:-1])
    ctx.bidirectional = inputs[-1]


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    backward = torch.ops.videorwkv.scan_short_backward
    *grads, sums = backward(grad, *ctx.saved_tensors, ctx.bidirectional)
    return *grads, *sums.unbind(0), None


def _differentiate_gated(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    backward = torch.ops.videorwkv.scan_gated_backward
    *grads, sums = backward(grad, *ctx.saved_tensors, ctx.bidirectional)
    return *grads, *sums.unbind(0), None, None, None


_LIBRARY = torch.library.Library("videorwkv", "FRAGMENT")


def _register(name: str, given: str, results: str, *ways: Any) -> None:
    """An operation of `given` with one result, and `name`_backward with `results`.

    Args:
        ways: what runs and what tells the shapes, of each; and autograd's way back.
    """
    schemas = f"{name}({given}) -> Tensor", f"{name}_backward(Tensor grad, {given}) -> {results}"
    *pairs, differentiate = ways
    for schema, (run, shape) in zip(schemas, pairs, strict=True):
        _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
        operation = schema.partition("(")[0]
        _LIBRARY.impl(operation, run, "CompositeExplicitAutograd")
        torch.library.register_fake(f"videorwkv::{operation}", shape, lib=_LIBRARY)
    torch.library.register_autograd(
        f"videorwkv::{name}", differentiate, setup_context=_save, lib=_LIBRARY
    )


_register(
    "scan_short",
    "Tensor r, Tensor k, Tensor v, Tensor log_decay, Tensor bonus, bool bidirectional",
    "(Tensor, Tensor, Tensor, Tensor)",
    (_short, _short_shape),
    (_short_backward, _short_backward_shape),
    _differentiate,
)
_register(
    "scan_gated",
    "Tensor rg, Tensor kv, Tensor log_decay, Tensor bonus, Tensor? cos, Tensor? sin, "
    "bool bidirectional",
    "(Tensor, Tensor, Tensor)",
    (_gated, _gated_shape),
    (_gated_backward, _gated_backward_shape),
    _differentiate_gated,
)
