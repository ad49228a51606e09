"""`cell`: the memory of a layer over all frames of a clip as one operation, with its own backward.

    gated    c_t = c + w (n - c),  n = tanh A,  w = (1 - sigmoid(gate + rate)) (1 - exp(aside))
    paper    c_t = e (n + c) + c,               e = gate
    linear   c_t = aside + f c,                 f = gate
    h_t = tanh(c_t) sigmoid(A)

c is that of the frame before. `cell_reference` is the definition. On the way back the memories are
computed again from the gates: neither they nor any of the steps between are kept.

The fast ways, `native` (cell.c) and `triton` (triton_cell.py, one kernel each way), are taken where
the scan takes those of the same name; elsewhere the layer runs its loop over the frames.

T frames, B batch, L tokens of a frame, C channels.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any, Literal

import torch
from torch import Tensor

from videorwkv.errors import UsageError
from videorwkv.ops import build
from videorwkv.ops.cell_results import backward_results, gradients, results
from videorwkv.ops.native import TYPES
from videorwkv.ops.wkv import constant_in_graphs, resolve

Kind = Literal["gated", "paper", "linear"]
KINDS = ("gated", "paper", "linear")
# Elements of a block of rows over all frames, of which five numbers each should stay in a core's
# own cache; and of one frame of it.
BLOCK = 1 << 13
BLOCK_OF_FRAME = 1 << 11


def cell_backend(branch_TBLC: Tensor, num_frames: int) -> str | None:
    """The fast way over `num_frames` frames of such tensors: that of the scan, where it has one;
    None: the loop. A single frame without a way back is quicker without."""
    if num_frames == 1 and not torch.is_grad_enabled():
        return None
    return named_backend(branch_TBLC.device.type, branch_TBLC.dtype)


@constant_in_graphs
def named_backend(device_type: str, dtype: torch.dtype) -> str | None:
    """That way for tensors on `device_type`; None: the loop."""
    name = resolve("auto", device_type, dtype)
    if name == "triton":
        return None if device_type == "cuda" and failing(device_type) else name
    return name if name == "native" else None


@functools.cache
def failing(device_type: str) -> str | None:
    """What goes wrong with the GPU's kernels on this device; None if nothing."""
    from triton.errors import TritonError

    generator = torch.Generator().manual_seed(0)
    found = []
    inputs = [torch.randn(*size, 5, 70, generator=generator) for size in ((3, 2), (3, 2), (2,))]
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 2e-2)):
        for backend in ("reference", "triton"):
            try:
                with torch.inference_mode(False), torch.enable_grad():
                    leaves = [x.to(device_type, copy=True).requires_grad_() for x in inputs]
                    branch, gate, memory = leaves
                    out, _ = cell(
                        branch.to(dtype), gate.to(dtype), gate[0, 0, 0], None, memory,
                        kind="gated", backend=backend,
                    )  # fmt: skip
                    grads = torch.autograd.grad(out.square().sum(), leaves)
            except (RuntimeError, TritonError) as error:
                return f"The cell's kernel fails on this GPU: {' '.join(str(error).split())[:300]}"
            found.append([out, *grads])
        for wanted, got in zip(*found[-2:], strict=True):
            if not (wanted - got).norm() <= tolerance * wanted.norm():
                return f"The cell's kernel computes wrong numbers in {dtype} on this GPU."
    return None


def cell(
    branch_TBLC: Tensor,
    gate_TBLC: Tensor | None,
    rate_C: Tensor | None,
    aside_TBLC: Tensor | None,
    memory_BLC: Tensor,
    *,
    kind: Kind,
    every: bool = True,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """All frames of a clip through the cell.

    Args:
        branch_TBLC: A, what the channel mixing gives.
        gate_TBLC: see above; for `gated` the logits of f, None: `rate_C` alone.
        rate_C: added to the logits; for `gated` alone.
        aside_TBLC: see above; None: f is what is kept. For `gated` and `linear`.
        memory_BLC: c before the first frame, float32 (float64, if the model is).
        kind: which equations.
        every: whether the memory after each frame is asked for.
        backend: `native`, `triton` or `reference`, which must be able to run.

    Returns:
        h of all frames [T, B, L, C]; c after each [T, B, L, C], or after the last [1, B, L, C]:
        both in the type of `memory_BLC`, the kernels' in float64 where anything given is.

    Raises:
        UsageError: shapes that do not fit each other, or no frame.
    """
    shape = branch_TBLC.shape
    whole = [x.shape for x in (gate_TBLC, aside_TBLC) if x is not None]
    # The kernels go by the shape of A alone: they would read, and write, beyond what is smaller.
    if (
        len(shape) != 4
        or shape[0] == 0
        or any(x != shape for x in whole)
        or memory_BLC.shape != shape[1:]
        or (rate_C is not None and rate_C.shape != shape[3:])
    ):
        rate = "none" if rate_C is None else list(rate_C.shape)
        raise UsageError(
            "cell: A and what stands beside it must be [T, B, L, C] with T > 0, the memory "
            f"[B, L, C] and the rate [C]; got A {list(shape)}, beside it {[*map(list, whole)]}, "
            f"memory {list(memory_BLC.shape)}, rate {rate}."
        )
    if backend == "reference":
        return cell_reference(
            branch_TBLC, gate_TBLC, rate_C, aside_TBLC, memory_BLC, kind=kind, every=every
        )
    given = [x for x in (branch_TBLC, gate_TBLC, aside_TBLC) if x is not None]
    stored = given[0].dtype
    for x in given:
        stored = torch.promote_types(stored, x.dtype)
    if backend == "native" and stored not in TYPES:
        stored = torch.float32
    real = torch.promote_types(stored, memory_BLC.dtype)
    if real == torch.float64:
        stored = real
    run = torch.ops.videorwkv.cell_native if backend == "native" else torch.ops.videorwkv.cell
    out_TBLC, memories_TBLC = run(
        branch_TBLC.to(stored),
        None if gate_TBLC is None else gate_TBLC.to(stored),
        None if rate_C is None else rate_C.to(real),
        None if aside_TBLC is None else aside_TBLC.to(stored),
        memory_BLC.to(real),
        KINDS.index(kind),
        every,
    )
    return out_TBLC, memories_TBLC


def cell_reference(
    branch_TBLC: Tensor,
    gate_TBLC: Tensor | None,
    rate_C: Tensor | None,
    aside_TBLC: Tensor | None,
    memory_BLC: Tensor,
    *,
    kind: Kind,
    every: bool = True,
) -> tuple[Tensor, Tensor]:
    """The definition, frame by frame in the type of the memory; arguments as in `cell`."""
    real = memory_BLC.dtype
    memories = []
    for t, branch_BLC in enumerate(branch_TBLC.to(real)):
        new_BLC = torch.tanh(branch_BLC)
        logit_BLC = torch.zeros_like(branch_BLC) if gate_TBLC is None else gate_TBLC[t].to(real)
        aside_BLC = None if aside_TBLC is None else aside_TBLC[t].to(real)
        if kind == "gated":
            write_BLC = 1 - torch.sigmoid(logit_BLC if rate_C is None else logit_BLC + rate_C)
            if aside_BLC is not None:  # where all is held, the memory stays as it is to the bit
                write_BLC = write_BLC * (1 - torch.exp(aside_BLC))
            memory_BLC = memory_BLC + write_BLC * (new_BLC - memory_BLC)
        elif kind == "paper":
            memory_BLC = logit_BLC * (new_BLC + memory_BLC) + memory_BLC
        else:
            assert aside_BLC is not None
            memory_BLC = aside_BLC + logit_BLC * memory_BLC
        memories.append(memory_BLC)
    memories_TBLC = torch.stack(memories)
    out_TBLC = torch.tanh(memories_TBLC) * torch.sigmoid(branch_TBLC.to(real))
    return out_TBLC, memories_TBLC if every else memories_TBLC[-1:]


class _Problem(ctypes.Structure):
    """`problem` of cell.c."""

    _fields_ = [
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("branch", "gate", "aside", "rate", "memory", "dout", "dmemories", "out"),
                *("memories", "dmemory", "drate", "dbranch", "dgate", "daside"),
            )
        ),
        *(
            (name, ctypes.c_int64)
            for name in ("frames", "rows", "width", "kind", "every", "block", "threads")
        ),
    ]


def _run_native(kind: int, every: bool, block: int, **tensors: Tensor | None) -> None:
    branch = tensors["branch"]
    assert branch is not None
    frames, *_, width = branch.shape
    problem = _Problem(
        **{name: x.data_ptr() for name, x in tensors.items() if x is not None},
        frames=frames,
        rows=branch[0].numel() // width,
        width=width,
        kind=kind,
        every=int(every),
        block=block,
        threads=torch.get_num_threads(),
    )
    if not build.load(TYPES[branch.dtype]).code.run_cell(ctypes.byref(problem)):
        raise MemoryError(f"No memory for a cell over {frames} frames.")


def _dense(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if x is None else x.contiguous() for x in tensors]


def _block(branch: Tensor) -> int:
    """Rows of a block."""
    frames, width = len(branch), branch.shape[-1]
    return max(1, min(BLOCK // (frames * width), BLOCK_OF_FRAME // width))


def _native(
    branch: Tensor, gate: Tensor | None, rate: Tensor | None, aside: Tensor | None,
    memory: Tensor, kind: int, every: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    out, memories = results(branch, gate, rate, aside, memory, kind, every)
    names = ("branch", "gate", "rate", "aside", "memory")
    given = dict(zip(names, _dense(branch, gate, rate, aside, memory), strict=True))
    _run_native(kind, every, _block(branch), **given, out=out, memories=memories)
    return out, memories


def _native_backward(
    dout: Tensor | None, dmemories: Tensor | None, branch: Tensor, gate: Tensor | None,
    rate: Tensor | None, aside: Tensor | None, memory: Tensor, kind: int, every: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    dbranch, dgate, daside, dmemory = gradients(branch, gate, aside, memory)
    rows, width = memory.numel() // memory.shape[-1], memory.shape[-1]
    block = _block(branch)
    # A sum for each block: threads add to none of another.
    drate = memory.new_empty(-(-rows // block), width) if rate is not None else memory.new_empty(0)
    names = ("branch", "gate", "rate", "aside", "memory", "dout", "dmemories")
    dense = _dense(branch, gate, rate, aside, memory, dout, dmemories)
    _run_native(
        kind, every, block, **dict(zip(names, dense, strict=True)), dmemory=dmemory,
        dbranch=dbranch, dgate=None if gate is None else dgate,
        daside=None if aside is None else daside, drate=None if rate is None else drate,
    )  # fmt: skip
    return dbranch, dgate, drate.sum(0) if rate is not None else drate, daside, dmemory


def _triton(*given: Any) -> tuple[Tensor, Tensor]:
    from videorwkv.ops import triton_cell

    return triton_cell.forward(*given)


def _triton_backward(*given: Any) -> tuple[Tensor, ...]:
    from videorwkv.ops import triton_cell

    return triton_cell.backward(*given)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:5])
    ctx.how = inputs[5:]


_LIBRARY = torch.library.Library("videorwkv", "FRAGMENT")
_INPUTS = (
    "Tensor branch, Tensor? gate, Tensor? rate, Tensor? aside, Tensor memory, int kind, bool every"
)


def _register(name: str, forward: Any, backward: Any, key: str) -> None:
    tags = (torch.Tag.pt2_compliant_tag,)
    grads = "(Tensor, Tensor, Tensor, Tensor, Tensor)"
    schema = f"{name}_backward(Tensor? dout, Tensor? dmemories, {_INPUTS}) -> {grads}"
    _LIBRARY.define(f"{name}({_INPUTS}) -> (Tensor, Tensor)", tags=tags)
    _LIBRARY.define(schema, tags=tags)
    _LIBRARY.impl(name, forward, key)
    _LIBRARY.impl(f"{name}_backward", backward, key)
    torch.library.register_fake(f"videorwkv::{name}", results, lib=_LIBRARY)
    torch.library.register_fake(f"videorwkv::{name}_backward", backward_results, lib=_LIBRARY)
    operation = getattr(torch.ops.videorwkv, f"{name}_backward")

    def differentiate(ctx: Any, dout: Tensor | None, dmemories: Tensor | None) -> tuple[Any, ...]:
        if dout is None and dmemories is None:
            return (None,) * 7
        saved = ctx.saved_tensors
        found = operation(dout, dmemories, *saved, *ctx.how)
        grads = (None if x is None else grad for x, grad in zip(saved, found, strict=True))
        return *grads, None, None

    torch.library.register_autograd(
        f"videorwkv::{name}", differentiate, setup_context=_save, lib=_LIBRARY
    )


_register("cell_native", _native, _native_backward, "CPU")
_register("cell", _triton, _triton_backward, "CompositeExplicitAutograd")
