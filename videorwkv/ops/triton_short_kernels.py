"""Kernels of the scan over short frames for a GPU, without a state (equations: ../README.md).
Importing this needs triton.

Checked in triton's interpreter, and compiled for NVIDIA's sm_80 and sm_90. No GPU has run them yet:
no constant here is tuned.

L tokens, H heads, D head width, in blocks of T tokens. All pairs of tokens are computed, one block
of queries against one of keys at a time. Of a pair (i, j) with j before i in another block, r
counts with w^(i-a), a the first token of its block, and k with w^(b-j), b the last of its own; both
are at most one, as is the w^T for each block between them. Inside a block the middle stands for a
and b, and factors may be large. A token later than the query is the mirror image.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

# What a product's operands are: float32 in three parts or one of tf32, bfloat16, and bfloat16 in
# triton's interpreter, which multiplies the bits as integers otherwise.
FULL, TF32, HALF, ROUNDED = (tl.constexpr(i) for i in range(4))


@triton.jit
def _rounded(x):
    """To bfloat16 and back: the interpreter cuts off what it should round."""
    bits = x.to(tl.int32, bitcast=True)
    bits = (bits + 32767 + ((bits >> 16) & 1)) & -65536
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _dot(a, b, OPERANDS: tl.constexpr):
    """The product in float32 of operands as `OPERANDS` has them."""
    if OPERANDS == HALF:
        product = tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16))
    elif OPERANDS == ROUNDED:
        product = tl.dot(_rounded(a), _rounded(b))
    elif OPERANDS == TF32:
        product = tl.dot(a, b, input_precision="tf32")
    else:
        product = tl.dot(a, b, input_precision="tf32x3")
    return product


@triton.jit
def _rows(x, stride_b, stride_l, stride_h, batch, head, block, length, D, T: tl.constexpr,
          BLOCK: tl.constexpr):  # fmt: skip
    """Pointers and mask of one block's rows, [T, BLOCK]."""
    token = block * T + tl.arange(0, T)
    channel = tl.arange(0, BLOCK)
    base = x + batch.to(tl.int64) * stride_b + head * stride_h
    pointers = base + token[:, None].to(tl.int64) * stride_l + channel[None, :]
    return pointers, (token[:, None] < length) & (channel[None, :] < D)


@triton.jit
def _load(x, stride_b, stride_l, stride_h, batch, head, block, length, D, T: tl.constexpr,
          BLOCK: tl.constexpr):  # fmt: skip
    pointers, mask = _rows(x, stride_b, stride_l, stride_h, batch, head, block, length, D, T, BLOCK)
    return tl.load(pointers, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _store(x, batch, head, block, length, H, D, value, T: tl.constexpr, BLOCK: tl.constexpr):
    pointers, mask = _rows(x, length * H * D, H * D, D, batch, head, block, length, D, T, BLOCK)
    tl.store(pointers, value.to(x.dtype.element_ty), mask=mask)


@triton.jit
def _channels(x, head, D, BLOCK: tl.constexpr):
    """A head's row of decays or bonuses, [1, BLOCK]."""
    channel = tl.arange(0, BLOCK)
    row = tl.load(x + head * D + channel, mask=channel < D, other=0.0)
    return row.to(tl.float32)[None, :]


@triton.jit
def _edges(decay, T: tl.constexpr):
    """w^t and w^(T-1-t) of a block's tokens t, [T, BLOCK]: steps from its first, to its last."""
    step = tl.arange(0, T)[:, None].to(tl.float32)
    return tl.exp(step * decay), tl.exp((T - 1 - step) * decay)


@triton.jit
def _inside(decay, DOWN: tl.constexpr, T: tl.constexpr):
    """Factors of r and k for the pairs of one block, [T, BLOCK]."""
    offset = tl.arange(0, T)[:, None].to(tl.float32) - (T - 1) / 2
    if DOWN:
        offset = -offset
    return tl.exp(offset * decay), tl.exp((-1 - offset) * decay)


@triton.jit
def short_forward(r, r_b, r_l, r_h, k, k_b, k_l, k_h, v, v_b, v_l, v_h, log_decay, bonus, out,
                  length, blocks, H, D, BOTH: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr,
                  OPERANDS: tl.constexpr):  # fmt: skip
    """One program a block of queries."""
    block, scan = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    batch, head = scan // H, scan % H
    token = tl.arange(0, T)
    decay, u = _channels(log_decay, head, D, BLOCK), _channels(bonus, head, D, BLOCK)
    between = tl.exp(decay * T)
    receptance = _load(r, r_b, r_l, r_h, batch, head, block, length, D, T, BLOCK)
    key = _load(k, k_b, k_l, k_h, batch, head, block, length, D, T, BLOCK)
    value = _load(v, v_b, v_l, v_h, batch, head, block, length, D, T, BLOCK)
    own = tl.sum(receptance * u * key, 1)
    pairs = tl.where(token[:, None] == token[None, :], own[:, None], 0.0)
    r_scale, k_scale = _inside(decay, False, T)
    product = _dot(receptance * r_scale, tl.trans(key * k_scale), OPERANDS)
    # `where`: the half that is not meant may be infinite.
    pairs = tl.where(token[:, None] > token[None, :], product, pairs)
    if BOTH:
        r_scale, k_scale = _inside(decay, True, T)
        product = _dot(receptance * r_scale, tl.trans(key * k_scale), OPERANDS)
        pairs = tl.where(token[:, None] < token[None, :], product, pairs)
    result = _dot(pairs, value, OPERANDS)
    near, far = _edges(decay, T)
    scaled = receptance * near
    for n in range(block):
        other = block - 1 - n
        key = _load(k, k_b, k_l, k_h, batch, head, other, length, D, T, BLOCK) * far
        value = _load(v, v_b, v_l, v_h, batch, head, other, length, D, T, BLOCK)
        result += _dot(_dot(scaled, tl.trans(key), OPERANDS), value, OPERANDS)
        scaled *= between
    if BOTH:
        scaled = receptance * far
        for n in range(blocks - 1 - block):
            other = block + 1 + n
            key = _load(k, k_b, k_l, k_h, batch, head, other, length, D, T, BLOCK) * near
            value = _load(v, v_b, v_l, v_h, batch, head, other, length, D, T, BLOCK)
            result += _dot(_dot(scaled, tl.trans(key), OPERANDS), value, OPERANDS)
            scaled *= between
    _store(out, batch, head, block, length, H, D, result, T, BLOCK)


@triton.jit
def short_backward_r(grad, g_b, g_l, g_h, r, r_b, r_l, r_h, k, k_b, k_l, k_h, v, v_b, v_l, v_h,
                     log_decay, bonus, dr, sums, length, blocks, H, D, B, BOTH: tl.constexpr,
                     T: tl.constexpr, BLOCK: tl.constexpr, OPERANDS: tl.constexpr):  # fmt: skip
    """One program a block of queries. `sums` [2, B, H, blocks, D]: what this block's queries add to
    the gradients of decay and bonus."""
    block, scan = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    batch, head = scan // H, scan % H
    channel, token = tl.arange(0, BLOCK), tl.arange(0, T)
    # Steps of decay between neighbours are none: i - 1 - j of a pair in one block.
    steps = (token[:, None] - token[None, :] - 1).to(tl.float32)
    decay, u = _channels(log_decay, head, D, BLOCK), _channels(bonus, head, D, BLOCK)
    dout = _load(grad, g_b, g_l, g_h, batch, head, block, length, D, T, BLOCK)
    receptance = _load(r, r_b, r_l, r_h, batch, head, block, length, D, T, BLOCK)
    key = _load(k, k_b, k_l, k_h, batch, head, block, length, D, T, BLOCK)
    value = _load(v, v_b, v_l, v_h, batch, head, block, length, D, T, BLOCK)
    same = tl.sum(dout * value, 1)[:, None]
    dreceptance = same * u * key
    dbonus = tl.sum(same * receptance * key, 0)
    # The decay's gradient is a sum of terms that count their steps: no difference of large sums.
    ddecay = tl.zeros((BLOCK,), tl.float32)
    dpairs = _dot(dout, tl.trans(value), OPERANDS)
    r_scale, k_scale = _inside(decay, False, T)
    half = tl.where(token[:, None] > token[None, :], dpairs, 0.0)
    scaled_key = key * k_scale
    dreceptance += _dot(half, scaled_key, OPERANDS) * r_scale
    ddecay += tl.sum(receptance * r_scale * _dot(half * steps, scaled_key, OPERANDS), 0)
    if BOTH:
        r_scale, k_scale = _inside(decay, True, T)
        half = tl.where(token[:, None] < token[None, :], dpairs, 0.0)
        scaled_key = key * k_scale
        dreceptance += _dot(half, scaled_key, OPERANDS) * r_scale
        counted = half * (-2 - steps)
        ddecay += tl.sum(receptance * r_scale * _dot(counted, scaled_key, OPERANDS), 0)
    near, far = _edges(decay, T)
    total = tl.zeros((T, BLOCK), tl.float32)
    counted_total = tl.zeros((T, BLOCK), tl.float32)
    for n in range(block):
        other = block - 1 - n
        key = _load(k, k_b, k_l, k_h, batch, head, other, length, D, T, BLOCK) * far
        value = _load(v, v_b, v_l, v_h, batch, head, other, length, D, T, BLOCK)
        dpairs = _dot(dout, tl.trans(value), OPERANDS)
        between = tl.exp(decay * (T * n))
        total += _dot(dpairs, key, OPERANDS) * between
        counted_total += _dot(dpairs * (steps + T * (n + 1)), key, OPERANDS) * between
    dreceptance += total * near
    ddecay += tl.sum(receptance * near * counted_total, 0)
    if BOTH:
        total = tl.zeros((T, BLOCK), tl.float32)
        counted_total = tl.zeros((T, BLOCK), tl.float32)
        for n in range(blocks - 1 - block):
            other = block + 1 + n
            key = _load(k, k_b, k_l, k_h, batch, head, other, length, D, T, BLOCK) * near
            value = _load(v, v_b, v_l, v_h, batch, head, other, length, D, T, BLOCK)
            dpairs = _dot(dout, tl.trans(value), OPERANDS)
            between = tl.exp(decay * (T * n))
            total += _dot(dpairs, key, OPERANDS) * between
            counted = dpairs * (T * (n + 1) - 2 - steps)
            counted_total += _dot(counted, key, OPERANDS) * between
        dreceptance += total * far
        ddecay += tl.sum(receptance * far * counted_total, 0)
    _store(dr, batch, head, block, length, H, D, dreceptance, T, BLOCK)
    to = sums + (scan.to(tl.int64) * blocks + block) * D + channel
    tl.store(to, ddecay, mask=channel < D)
    tl.store(to + B.to(tl.int64) * H * blocks * D, dbonus, mask=channel < D)


@triton.jit
def short_backward_kv(grad, g_b, g_l, g_h, r, r_b, r_l, r_h, k, k_b, k_l, k_h, v, v_b, v_l, v_h,
                      log_decay, bonus, dk, dv, length, blocks, H, D, BOTH: tl.constexpr,
                      T: tl.constexpr, BLOCK: tl.constexpr, OPERANDS: tl.constexpr):  # fmt: skip
    """One program a block of keys. Pairs stand here as (key, query)."""
    block, scan = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    batch, head = scan // H, scan % H
    token = tl.arange(0, T)
    decay, u = _channels(log_decay, head, D, BLOCK), _channels(bonus, head, D, BLOCK)
    whole = tl.exp(decay * T)
    dout = _load(grad, g_b, g_l, g_h, batch, head, block, length, D, T, BLOCK)
    receptance = _load(r, r_b, r_l, r_h, batch, head, block, length, D, T, BLOCK)
    key = _load(k, k_b, k_l, k_h, batch, head, block, length, D, T, BLOCK)
    value = _load(v, v_b, v_l, v_h, batch, head, block, length, D, T, BLOCK)
    own = tl.sum(receptance * u * key, 1)
    pairs = tl.where(token[:, None] == token[None, :], own[:, None], 0.0)
    dkey = tl.sum(dout * value, 1)[:, None] * u * receptance
    dpairs = _dot(value, tl.trans(dout), OPERANDS)
    r_scale, k_scale = _inside(decay, False, T)
    scaled = receptance * r_scale
    product = _dot(key * k_scale, tl.trans(scaled), OPERANDS)
    # `where`: the half that is not meant may be infinite.
    pairs = tl.where(token[:, None] < token[None, :], product, pairs)
    half = tl.where(token[:, None] < token[None, :], dpairs, 0.0)
    dkey += _dot(half, scaled, OPERANDS) * k_scale
    if BOTH:
        r_scale, k_scale = _inside(decay, True, T)
        scaled = receptance * r_scale
        product = _dot(key * k_scale, tl.trans(scaled), OPERANDS)
        pairs = tl.where(token[:, None] > token[None, :], product, pairs)
        half = tl.where(token[:, None] > token[None, :], dpairs, 0.0)
        dkey += _dot(half, scaled, OPERANDS) * k_scale
    dvalue = _dot(pairs, dout, OPERANDS)
    near, far = _edges(decay, T)
    total = tl.zeros((T, BLOCK), tl.float32)
    scaled_key = key * far
    for n in range(blocks - 1 - block):
        other = block + 1 + n
        scaled = _load(r, r_b, r_l, r_h, batch, head, other, length, D, T, BLOCK) * near
        dout = _load(grad, g_b, g_l, g_h, batch, head, other, length, D, T, BLOCK)
        dvalue += _dot(_dot(scaled_key, tl.trans(scaled), OPERANDS), dout, OPERANDS)
        dpairs = _dot(value, tl.trans(dout), OPERANDS)
        total += _dot(dpairs, scaled, OPERANDS) * tl.exp(decay * (T * n))
        scaled_key *= whole
    dkey += total * far
    if BOTH:
        total = tl.zeros((T, BLOCK), tl.float32)
        scaled_key = key * near
        for n in range(block):
            other = block - 1 - n
            scaled = _load(r, r_b, r_l, r_h, batch, head, other, length, D, T, BLOCK) * far
            dout = _load(grad, g_b, g_l, g_h, batch, head, other, length, D, T, BLOCK)
            dvalue += _dot(_dot(scaled_key, tl.trans(scaled), OPERANDS), dout, OPERANDS)
            dpairs = _dot(value, tl.trans(dout), OPERANDS)
            total += _dot(dpairs, scaled, OPERANDS) * tl.exp(decay * (T * n))
            scaled_key *= whole
        dkey += total * near
    _store(dk, batch, head, block, length, H, D, dkey, T, BLOCK)
    _store(dv, batch, head, block, length, H, D, dvalue, T, BLOCK)
