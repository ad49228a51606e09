"""The cell over all frames as a kernel for a GPU each way. Importing this needs triton.

Checked in triton's interpreter. No GPU has run it yet: no constant here is tuned.

A program has ROWS tokens and BLOCK channels, and goes through all frames of them with the memory in
registers. Dense tensors: [T, rows, C]; memory [rows, C]; rate [C].
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from videorwkv.ops.cell_results import gradients, results

GATED, PAPER = tl.constexpr(0), tl.constexpr(1)
ROWS, BLOCK = 8, 64


@triton.jit
def _tanh(x):
    y = tl.exp(-2 * tl.abs(x))
    large = (1 - y) / (1 + y)
    square = x * x
    small = x * (1 - square * (1 / 3 - square * (2 / 15)))
    return tl.where(tl.abs(x) < 0.1, small, tl.where(x < 0, -large, large))


@triton.jit
def _sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def _gates(branch, gate, aside, rate, at, mask, KIND: tl.constexpr, GATE: tl.constexpr,
           ASIDE: tl.constexpr):  # fmt: skip
    """A; what the memory takes in; how much of it stays before it is held, how far it is held, and
    how much stays then."""
    x = tl.load(branch + at, mask=mask, other=0.0).to(tl.float32)
    new, own, held = x, x, x
    kept = x
    if GATE:
        kept = tl.load(gate + at, mask=mask, other=0.0).to(tl.float32)
    if ASIDE:
        held = tl.load(aside + at, mask=mask, other=0.0).to(tl.float32)
    if KIND == GATED:
        if GATE:
            own = _sigmoid(kept + rate)
        else:
            own = _sigmoid(x * 0 + rate)
        write = 1 - own
        if ASIDE:
            held = tl.exp(held)
            write *= 1 - held
        kept = 1 - write
        new = _tanh(x)
    elif KIND == PAPER:
        new = _tanh(x)
    else:
        new = held
    return x, new, own, held, kept


@triton.jit
def _updated(memory, new, kept, KIND: tl.constexpr):
    if KIND == GATED:
        return memory + (1 - kept) * (new - memory)
    elif KIND == PAPER:
        return kept * (new + memory) + memory
    else:
        return new + kept * memory


# A single row would be a constant, which has no `.to`.
@triton.jit(do_not_specialize=["rows"])
def cell_forward(branch, gate, rate, aside, memory, out, memories, frames, rows, C,
                 KIND: tl.constexpr, GATE: tl.constexpr, RATE: tl.constexpr, ASIDE: tl.constexpr,
                 EVERY: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (row < rows) & (channel < C)
    at = row.to(tl.int64) * C + channel
    size = rows.to(tl.int64) * C
    c = tl.load(memory + at, mask=mask, other=0.0)
    own_rate = tl.zeros((1, BLOCK), tl.float32)
    if RATE:
        own_rate = tl.load(rate + channel, mask=channel < C, other=0.0)
    first = at
    for _ in range(frames):
        x, new, _own, _held, kept = _gates(
            branch, gate, aside, own_rate, at, mask, KIND, GATE, ASIDE
        )
        c = _updated(c, new, kept, KIND)
        tl.store(out + at, _tanh(c) * _sigmoid(x), mask=mask)
        if EVERY:
            tl.store(memories + at, c, mask=mask)
        at += size
    if not EVERY:
        tl.store(memories + first, c, mask=mask)


# A single row would be a constant, which has no `.to`.
@triton.jit(do_not_specialize=["rows"])
def cell_backward(dout, dmemories, branch, gate, rate, aside, memory, scratch, dbranch, dgate,
                  drate, daside, dmemory, frames, rows, C, OUT: tl.constexpr, LAST: tl.constexpr,
                  KIND: tl.constexpr, GATE: tl.constexpr, RATE: tl.constexpr, ASIDE: tl.constexpr,
                  EVERY: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """`scratch` [T, rows, C]: the memory before each frame, which every element writes and reads
    by itself. `drate` [programs along the rows, C]."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (row < rows) & (channel < C)
    first = row.to(tl.int64) * C + channel
    size = rows.to(tl.int64) * C
    c = tl.load(memory + first, mask=mask, other=0.0)
    own_rate = tl.zeros((1, BLOCK), tl.float32)
    if RATE:
        own_rate = tl.load(rate + channel, mask=channel < C, other=0.0)
    at = first
    for _ in range(frames):
        tl.store(scratch + at, c, mask=mask)
        _x, new, _own, _held, kept = _gates(
            branch, gate, aside, own_rate, at, mask, KIND, GATE, ASIDE
        )
        c = _updated(c, new, kept, KIND)
        at += size
    carried = tl.zeros((ROWS, BLOCK), tl.float32)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    if LAST and not EVERY:
        carried = tl.load(dmemories + first, mask=mask, other=0.0)
    for _ in range(frames):
        at -= size
        x, new, own, held, kept = _gates(branch, gate, aside, own_rate, at, mask, KIND, GATE, ASIDE)
        before = tl.load(scratch + at, mask=mask, other=0.0)
        grad = carried
        if LAST and EVERY:
            grad += tl.load(dmemories + at, mask=mask, other=0.0)
        dx = tl.zeros((ROWS, BLOCK), tl.float32)
        if OUT:
            shown, opened = _tanh(_updated(before, new, kept, KIND)), _sigmoid(x)
            given = tl.load(dout + at, mask=mask, other=0.0)
            grad += given * opened * (1 - shown * shown)
            dx = given * shown * opened * (1 - opened)
        if KIND == GATED:
            dkept = grad * (before - new)
            dx += grad * (1 - kept) * (1 - new * new)
            if ASIDE:
                into = (dkept * (1 - own) * held).to(daside.dtype.element_ty)
                tl.store(daside + at, into, mask=mask)
                dkept *= 1 - held
            dkept *= own * (1 - own)
            if RATE:
                total += tl.where(mask, dkept, 0.0)
            carried = grad * kept
        elif KIND == PAPER:
            dkept = grad * (new + before)
            dx += grad * kept * (1 - new * new)
            carried = grad * kept + grad
        else:
            dkept = grad * before
            tl.store(daside + at, grad.to(daside.dtype.element_ty), mask=mask)
            carried = grad * kept
        if GATE:
            tl.store(dgate + at, dkept.to(dgate.dtype.element_ty), mask=mask)
        tl.store(dbranch + at, dx.to(dbranch.dtype.element_ty), mask=mask)
    tl.store(dmemory + first, carried, mask=mask)
    if RATE:
        column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        tl.store(drate + tl.program_id(0) * C + column, tl.sum(total, 0), mask=column < C)


def _problem(
    branch: Tensor, gate: Any, rate: Any, aside: Any, memory: Tensor, kind: int, every: bool
) -> tuple[list[Tensor], tuple[int, int, int], tuple[int, int], dict[str, Any]]:
    """Inputs as a kernel takes them, sizes, programs, and what it is compiled for."""
    width = branch.shape[-1]
    rows = memory.numel() // width
    flags = {
        "KIND": kind,
        "GATE": gate is not None,
        "RATE": rate is not None,
        "ASIDE": aside is not None,
        "EVERY": every,
        "ROWS": ROWS,
        "BLOCK": BLOCK,
    }
    # A pointer that is not read stands for what is not there.
    given = [(branch if x is None else x).contiguous() for x in (branch, gate, rate, aside, memory)]
    grid = (-(-rows // ROWS), -(-width // BLOCK))
    return given, (len(branch), rows, width), grid, flags


def forward(*inputs: Any) -> tuple[Tensor, Tensor]:
    """The operation `cell`: see cell.py."""
    given, sizes, grid, flags = _problem(*inputs)
    out, memories = results(*inputs)
    cell_forward[grid](*given, out, memories, *sizes, **flags)
    return out, memories


def backward(
    dout: Tensor | None, dmemories: Tensor | None, *inputs: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Its gradients, one kernel, and one more that adds up those of the rate."""
    given, sizes, grid, flags = _problem(*inputs)
    branch, gate, rate, aside, memory = inputs[:5]
    dbranch, dgate, daside, dmemory = gradients(branch, gate, aside, memory)
    scratch = torch.empty(branch.shape, dtype=memory.dtype, device=memory.device)
    drate = memory.new_empty(0 if rate is None else (grid[0], sizes[2]))
    cell_backward[grid](
        *(memory if x is None else x.contiguous() for x in (dout, dmemories)),
        *(*given, scratch, dbranch, dgate, drate, daside, dmemory, *sizes),
        OUT=dout is not None,
        LAST=dmemories is not None,
        **flags,
    )
    return dbranch, dgate, drate if rate is None else drate.sum(0), daside, dmemory
