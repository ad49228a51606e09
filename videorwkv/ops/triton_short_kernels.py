"""Kernels of the scan over short frames for a GPU, without a state (equations: ../README.md).
Importing this needs triton.

Checked in triton's interpreter, and compiled for NVIDIA's sm_80, sm_89 and sm_90. No GPU has run
them yet: no constant here is tuned.

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

from videorwkv.ops.triton_kernels import rows

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
def _load(x, stride_b, stride_l, stride_h, batch, head, block, length, D, T: tl.constexpr,
          BLOCK: tl.constexpr):  # fmt: skip
    pointers, mask = rows(x, stride_b, stride_l, stride_h, batch, head, block, length, D, T, BLOCK)
    return tl.load(pointers, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _angles(cos, sin, block, length, D, T: tl.constexpr, BLOCK: tl.constexpr):
    """Cosine and sine of a block's tokens, [T, BLOCK], from what the second half of the channels
    has: that of the first is the same, and minus that."""
    token, channel = block * T + tl.arange(0, T), tl.arange(0, BLOCK)
    at = token[:, None] * D + BLOCK // 2 + (channel % (BLOCK // 2))[None, :]
    mask = (token < length)[:, None] & (channel >= 0)[None, :]
    c = tl.load(cos + at, mask=mask, other=0.0).to(tl.float32)
    s = tl.load(sin + at, mask=mask, other=0.0).to(tl.float32)
    return c, tl.where(channel[None, :] < BLOCK // 2, -s, s)


@triton.jit
def _turned(x, stride_b, stride_l, stride_h, batch, head, block, length, D, cos, sin,
            TURN: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """A block's rows under their rotary embedding; with it, D is BLOCK."""
    pointers, mask = rows(x, stride_b, stride_l, stride_h, batch, head, block, length, D, T, BLOCK)
    found = tl.load(pointers, mask=mask, other=0.0).to(tl.float32)
    if TURN:
        c, s = _angles(cos, sin, block, length, D, T, BLOCK)
        channel = tl.arange(0, BLOCK)[None, :]
        # The other channel of each pair.
        pointers += tl.where(channel < BLOCK // 2, BLOCK // 2, -(BLOCK // 2))
        found = found * c + tl.load(pointers, mask=mask, other=0.0).to(tl.float32) * s
    return found


@triton.jit
def _turned_back(grad, block, length, D, cos, sin, TURN: tl.constexpr, T: tl.constexpr,
                 BLOCK: tl.constexpr):  # fmt: skip
    """The gradient of rows from that of them turned."""
    if TURN:
        c, s = _angles(cos, sin, block, length, D, T, BLOCK)
        halves = tl.permute(tl.reshape(grad, (T, 2, BLOCK // 2)), (0, 2, 1))
        first, second = tl.split(halves)
        other = tl.reshape(tl.permute(tl.join(second, first), (0, 2, 1)), (T, BLOCK))
        grad = grad * c - other * s
    return grad


@triton.jit
def _store(x, batch, head, block, length, S, D, value, T: tl.constexpr, BLOCK: tl.constexpr):
    """Into dense tokens of S numbers."""
    pointers, mask = rows(x, length * S, S, D, batch, head, block, length, D, T, BLOCK)
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
def _scanned(receptance, key, value, k, k_b, k_l, k_h, v, v_b, v_l, v_h, cos, sin, decay, u, batch,
             head, block, length, blocks, D, BOTH: tl.constexpr, TURN: tl.constexpr,
             T: tl.constexpr, BLOCK: tl.constexpr, OPERANDS: tl.constexpr):  # fmt: skip
    """What a block of queries reads from all tokens; key and value are those of its own block."""
    token = tl.arange(0, T)
    between = tl.exp(decay * T)
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
        key = _turned(k, k_b, k_l, k_h, batch, head, other, length, D, cos, sin, TURN, T, BLOCK)
        value = _load(v, v_b, v_l, v_h, batch, head, other, length, D, T, BLOCK)
        result += _dot(_dot(scaled, tl.trans(key * far), OPERANDS), value, OPERANDS)
        scaled *= between
    if BOTH:
        scaled = receptance * far
        for n in range(blocks - 1 - block):
            other = block + 1 + n
            key = _turned(k, k_b, k_l, k_h, batch, head, other, length, D, cos, sin, TURN, T, BLOCK)
            value = _load(v, v_b, v_l, v_h, batch, head, other, length, D, T, BLOCK)
            result += _dot(_dot(scaled, tl.trans(key * near), OPERANDS), value, OPERANDS)
            scaled *= between
    return result


@triton.jit
def _normed(result, D, EPSILON: tl.constexpr):
    """Each row over its channels, and by what it was divided; D is BLOCK."""
    centred = result - (tl.sum(result, 1) / D)[:, None]
    scale = 1 / tl.sqrt(tl.sum(centred * centred, 1) / D + EPSILON)
    return centred * scale[:, None], scale[:, None]


@triton.jit
def _sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def short_forward(r, r_b, r_l, r_h, k, k_b, k_l, k_h, v, v_b, v_l, v_h, gate, gate_b, gate_l,
                  gate_h, cos, sin, log_decay, bonus, out, length, blocks, H, D,
                  BOTH: tl.constexpr, GATED: tl.constexpr, TURN: tl.constexpr, T: tl.constexpr,
                  BLOCK: tl.constexpr, OPERANDS: tl.constexpr, EPSILON: tl.constexpr):  # fmt: skip
    """One program a block of queries. `TURN`: r and k get their rotary embedding. `GATED`: the
    result is normed over each head and multiplied by SiLU(gate)."""
    block, scan = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    batch, head = scan // H, scan % H
    decay, u = _channels(log_decay, head, D, BLOCK), _channels(bonus, head, D, BLOCK)
    receptance = _turned(r, r_b, r_l, r_h, batch, head, block, length, D, cos, sin, TURN, T, BLOCK)
    key = _turned(k, k_b, k_l, k_h, batch, head, block, length, D, cos, sin, TURN, T, BLOCK)
    value = _load(v, v_b, v_l, v_h, batch, head, block, length, D, T, BLOCK)
    result = _scanned(
        receptance, key, value, k, k_b, k_l, k_h, v, v_b, v_l, v_h, cos, sin, decay, u, batch,
        head, block, length, blocks, D, BOTH, TURN, T, BLOCK, OPERANDS,
    )  # fmt: skip
    if GATED:
        g = _load(gate, gate_b, gate_l, gate_h, batch, head, block, length, D, T, BLOCK)
        normed, _scale = _normed(result, D, EPSILON)
        result = normed * g * _sigmoid(g)
    _store(out, batch, head, block, length, H * D, D, result, T, BLOCK)


@triton.jit
def short_backward_r(grad, g_b, g_l, g_h, r, r_b, r_l, r_h, k, k_b, k_l, k_h, v, v_b, v_l, v_h,
                     gate, gate_b, gate_l, gate_h, cos, sin, log_decay, bonus, dr, dgate, pull,
                     sums, length, blocks, H, D, S, BOTH: tl.constexpr, GATED: tl.constexpr,
                     TURN: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr,
                     OPERANDS: tl.constexpr, EPSILON: tl.constexpr):  # fmt: skip
    """One program a block of queries. `dr` and `dgate` have S numbers a token. `pull`: the gradient
    of what the scan alone reads, where it is `GATED`. `sums` [2, B, H, blocks, D]: what this
    block's queries add to the gradients of decay and bonus."""
    block, scan = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    batch, head = scan // H, scan % H
    channel, token = tl.arange(0, BLOCK), tl.arange(0, T)
    # Steps of decay between neighbours are none: i - 1 - j of a pair in one block.
    steps = (token[:, None] - token[None, :] - 1).to(tl.float32)
    decay, u = _channels(log_decay, head, D, BLOCK), _channels(bonus, head, D, BLOCK)
    dout = _load(grad, g_b, g_l, g_h, batch, head, block, length, D, T, BLOCK)
    if GATED:
        receptance = _turned(
            r, r_b, r_l, r_h, batch, head, block, length, D, cos, sin, TURN, T, BLOCK
        )
        key = _turned(k, k_b, k_l, k_h, batch, head, block, length, D, cos, sin, TURN, T, BLOCK)
        value = _load(v, v_b, v_l, v_h, batch, head, block, length, D, T, BLOCK)
        result = _scanned(
            receptance, key, value, k, k_b, k_l, k_h, v, v_b, v_l, v_h, cos, sin, decay, u, batch,
            head, block, length, blocks, D, BOTH, TURN, T, BLOCK, OPERANDS,
        )  # fmt: skip
        g = _load(gate, gate_b, gate_l, gate_h, batch, head, block, length, D, T, BLOCK)
        normed, scale = _normed(result, D, EPSILON)
        opened = _sigmoid(g)
        into = dout * normed * opened * (1 + g * (1 - opened))
        _store(dgate, batch, head, block, length, S, D, into, T, BLOCK)
        dout *= g * opened
        along = (tl.sum(dout * normed, 1) / D)[:, None]
        dout = scale * (dout - (tl.sum(dout, 1) / D)[:, None] - normed * along)
        _store(pull, batch, head, block, length, H * D, D, dout, T, BLOCK)
    # Loaded again: registers are short.
    receptance = _turned(r, r_b, r_l, r_h, batch, head, block, length, D, cos, sin, TURN, T, BLOCK)
    key = _turned(k, k_b, k_l, k_h, batch, head, block, length, D, cos, sin, TURN, T, BLOCK)
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
        key = _turned(k, k_b, k_l, k_h, batch, head, other, length, D, cos, sin, TURN, T, BLOCK)
        key *= far
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
            key = _turned(k, k_b, k_l, k_h, batch, head, other, length, D, cos, sin, TURN, T, BLOCK)
            key *= near
            value = _load(v, v_b, v_l, v_h, batch, head, other, length, D, T, BLOCK)
            dpairs = _dot(dout, tl.trans(value), OPERANDS)
            between = tl.exp(decay * (T * n))
            total += _dot(dpairs, key, OPERANDS) * between
            counted = dpairs * (T * (n + 1) - 2 - steps)
            counted_total += _dot(counted, key, OPERANDS) * between
        dreceptance += total * far
        ddecay += tl.sum(receptance * far * counted_total, 0)
    dreceptance = _turned_back(dreceptance, block, length, D, cos, sin, TURN, T, BLOCK)
    _store(dr, batch, head, block, length, S, D, dreceptance, T, BLOCK)
    to = sums + (scan.to(tl.int64) * blocks + block) * D + channel
    tl.store(to, ddecay, mask=channel < D)
    tl.store(to + tl.num_programs(0).to(tl.int64) * D, dbonus, mask=channel < D)


@triton.jit
def short_backward_kv(grad, g_b, g_l, g_h, r, r_b, r_l, r_h, k, k_b, k_l, k_h, v, v_b, v_l, v_h,
                      cos, sin, log_decay, bonus, dk, dv, length, blocks, H, D, S,
                      BOTH: tl.constexpr, TURN: tl.constexpr, T: tl.constexpr,
                      BLOCK: tl.constexpr, OPERANDS: tl.constexpr):  # fmt: skip
    """One program a block of keys. Pairs stand here as (key, query); `grad` is that of what the
    scan alone reads; `dk` and `dv` have S numbers a token."""
    block, scan = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    batch, head = scan // H, scan % H
    token = tl.arange(0, T)
    decay, u = _channels(log_decay, head, D, BLOCK), _channels(bonus, head, D, BLOCK)
    whole = tl.exp(decay * T)
    dout = _load(grad, g_b, g_l, g_h, batch, head, block, length, D, T, BLOCK)
    receptance = _turned(r, r_b, r_l, r_h, batch, head, block, length, D, cos, sin, TURN, T, BLOCK)
    key = _turned(k, k_b, k_l, k_h, batch, head, block, length, D, cos, sin, TURN, T, BLOCK)
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
        scaled = _turned(r, r_b, r_l, r_h, batch, head, other, length, D, cos, sin, TURN, T, BLOCK)
        scaled *= near
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
            scaled = _turned(
                r, r_b, r_l, r_h, batch, head, other, length, D, cos, sin, TURN, T, BLOCK
            )
            scaled *= far
            dout = _load(grad, g_b, g_l, g_h, batch, head, other, length, D, T, BLOCK)
            dvalue += _dot(_dot(scaled_key, tl.trans(scaled), OPERANDS), dout, OPERANDS)
            dpairs = _dot(value, tl.trans(dout), OPERANDS)
            total += _dot(dpairs, scaled, OPERANDS) * tl.exp(decay * (T * n))
            scaled_key *= whole
        dkey += total * near
    dkey = _turned_back(dkey, block, length, D, cos, sin, TURN, T, BLOCK)
    _store(dk, batch, head, block, length, S, D, dkey, T, BLOCK)
    _store(dv, batch, head, block, length, S, D, dvalue, T, BLOCK)
