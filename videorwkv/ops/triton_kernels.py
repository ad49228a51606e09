"""Kernels of the scan for a GPU (equations: ../README.md). Importing this needs triton.

Checked in triton's interpreter, and compiled for NVIDIA's sm_80 and sm_90. No GPU has run them yet:
no constant here is tuned.

B batch, L tokens, H heads, D head width, P chunks of T tokens; m = (T - 1) / 2, a chunk's middle.
Upwards (a token sees those before it) r counts with w^(i-m) and k with w^(m-1-j), downwards with
w^(m-i) and w^(j-m-1); a state that comes from a neighbouring chunk with w^T. Dense buffers:
states [B, H, directions, P, D, D] (key, value), float32.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def rows(x, stride_b, stride_l, stride_h, batch, head, chunk, length, D, T: tl.constexpr,
          BLOCK: tl.constexpr):  # fmt: skip
    """Pointers and mask of one chunk's rows, [T, BLOCK]."""
    token = chunk * T + tl.arange(0, T)
    channel = tl.arange(0, BLOCK)
    base = x + batch.to(tl.int64) * stride_b + head * stride_h
    pointers = base + token[:, None].to(tl.int64) * stride_l + channel[None, :]
    return pointers, (token[:, None] < length) & (channel[None, :] < D)


@triton.jit
def _scales(log_decay, DOWN: tl.constexpr, T: tl.constexpr):
    """Factors of r and k, [T, BLOCK], and the steps of decay in them, [T, 1]."""
    offset = tl.arange(0, T)[:, None].to(tl.float32) - (T - 1) / 2
    if DOWN:
        offset = -offset
    steps_k = -1 - offset
    return tl.exp(offset * log_decay), tl.exp(steps_k * log_decay), offset, steps_k


@triton.jit
def _square(x, scan, direction, DIRECTIONS: tl.constexpr, chunk, chunks, D, BLOCK: tl.constexpr):
    """Pointers and mask of one state, [BLOCK, BLOCK]."""
    channel = tl.arange(0, BLOCK)
    index = (scan.to(tl.int64) * DIRECTIONS + direction) * chunks + chunk
    inside = (channel[:, None] < D) & (channel[None, :] < D)
    return x + index * D * D + channel[:, None] * D + channel[None, :], inside


@triton.jit
def _load(pointers, mask):
    return tl.load(pointers, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def states_forward(k, k_b, k_l, k_h, v, v_b, v_l, v_h, log_decay, states, length, chunks, H, D,
                   DIRECTIONS: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr,
                   PRECISION: tl.constexpr):  # fmt: skip
    """One program a scan and direction: the state before each chunk, in scan order."""
    scan, direction = tl.program_id(0), tl.program_id(1)
    batch, head = scan // H, scan % H
    channel = tl.arange(0, BLOCK)
    decay = tl.load(log_decay + head * D + channel, mask=channel < D, other=0.0).to(tl.float32)
    _, up, _, _ = _scales(decay[None, :], False, T)
    _, down, _, _ = _scales(decay[None, :], True, T)
    scale = tl.where(direction == 0, up, down)
    between = tl.exp(decay * T)[:, None]
    state = tl.zeros((BLOCK, BLOCK), tl.float32)
    for q in range(chunks):
        chunk = tl.where(direction == 0, q, chunks - 1 - q)
        to, inside = _square(states, scan, direction, DIRECTIONS, chunk, chunks, D, BLOCK)
        tl.store(to, state, mask=inside)
        at, mask = rows(k, k_b, k_l, k_h, batch, head, chunk, length, D, T, BLOCK)
        key = _load(at, mask) * scale
        at, mask = rows(v, v_b, v_l, v_h, batch, head, chunk, length, D, T, BLOCK)
        value = _load(at, mask)
        state += tl.dot(tl.trans(key), value, input_precision=PRECISION)
        state *= between


@triton.jit
def states_backward(k, k_b, k_l, k_h, v, v_b, v_l, v_h, log_decay, states, dstates, dk, dv, ddecay,
                    length, chunks, H, D, B, DIRECTIONS: tl.constexpr, T: tl.constexpr,
                    BLOCK: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Against scan order. dk, dv [directions, B, L, H, D] and ddecay [directions, B, H, D]."""
    scan, direction = tl.program_id(0), tl.program_id(1)
    batch, head = scan // H, scan % H
    channel = tl.arange(0, BLOCK)
    decay = tl.load(log_decay + head * D + channel, mask=channel < D, other=0.0).to(tl.float32)
    _, up, _, up_steps = _scales(decay[None, :], False, T)
    _, down, _, down_steps = _scales(decay[None, :], True, T)
    scale = tl.where(direction == 0, up, down)
    steps = tl.where(direction == 0, up_steps, down_steps)
    between = tl.exp(decay * T)[:, None]
    # Of a chunk's own sum of keys times values, from all chunks that come later in the scan.
    grad = tl.zeros((BLOCK, BLOCK), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    row = direction * B + batch
    for q in range(chunks):
        chunk = tl.where(direction == 0, chunks - 1 - q, q)
        at, mask = rows(k, k_b, k_l, k_h, batch, head, chunk, length, D, T, BLOCK)
        key = _load(at, mask) * scale
        at, mask = rows(v, v_b, v_l, v_h, batch, head, chunk, length, D, T, BLOCK)
        value = _load(at, mask)
        dkey = tl.dot(value, tl.trans(grad), input_precision=PRECISION)
        at, mask = rows(dk, length * H * D, H * D, D, row, head, chunk, length, D, T, BLOCK)
        tl.store(at, dkey * scale, mask=mask)
        at, mask = rows(dv, length * H * D, H * D, D, row, head, chunk, length, D, T, BLOCK)
        tl.store(at, tl.dot(key, grad, input_precision=PRECISION), mask=mask)
        total += tl.sum(steps * key * dkey, 0)
        at, inside = _square(states, scan, direction, DIRECTIONS, chunk, chunks, D, BLOCK)
        state = _load(at, inside)
        at, inside = _square(dstates, scan, direction, DIRECTIONS, chunk, chunks, D, BLOCK)
        grad += _load(at, inside)
        total += T * tl.sum(state * grad, 1)
        grad *= between
    tl.store(ddecay + (row * H + head) * D + channel, total, mask=channel < D)


@triton.jit
def read_forward(r, r_b, r_l, r_h, k, k_b, k_l, k_h, v, v_b, v_l, v_h, log_decay, bonus, states,
                 out, length, chunks, H, D, DIRECTIONS: tl.constexpr, T: tl.constexpr,
                 BLOCK: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """One program a chunk: pairs inside it, and what the states bring from outside."""
    chunk, scan = tl.program_id(0), tl.program_id(1)
    batch, head = scan // H, scan % H
    channel, token = tl.arange(0, BLOCK), tl.arange(0, T)
    decay = tl.load(log_decay + head * D + channel, mask=channel < D, other=0.0).to(tl.float32)
    u = tl.load(bonus + head * D + channel, mask=channel < D, other=0.0).to(tl.float32)
    at, mask = rows(r, r_b, r_l, r_h, batch, head, chunk, length, D, T, BLOCK)
    receptance = _load(at, mask)
    at, mask = rows(k, k_b, k_l, k_h, batch, head, chunk, length, D, T, BLOCK)
    key = _load(at, mask)
    at, mask = rows(v, v_b, v_l, v_h, batch, head, chunk, length, D, T, BLOCK)
    value = _load(at, mask)
    own = tl.sum(receptance * u[None, :] * key, 1)
    pairs = tl.where(token[:, None] == token[None, :], own[:, None], 0.0)
    result = tl.zeros((T, BLOCK), tl.float32)
    for direction in tl.static_range(DIRECTIONS):
        scale, key_scale, _, _ = _scales(decay[None, :], direction == 1, T)
        scaled = receptance * scale
        product = tl.dot(scaled, tl.trans(key * key_scale), input_precision=PRECISION)
        if direction == 0:
            meant = token[:, None] > token[None, :]
        else:
            meant = token[:, None] < token[None, :]
        # `where`: the half that is not meant may be infinite.
        pairs = tl.where(meant, product, pairs)
        at, inside = _square(states, scan, direction, DIRECTIONS, chunk, chunks, D, BLOCK)
        result += tl.dot(scaled, _load(at, inside), input_precision=PRECISION)
    result += tl.dot(pairs, value, input_precision=PRECISION)
    at, mask = rows(out, length * H * D, H * D, D, batch, head, chunk, length, D, T, BLOCK)
    tl.store(at, result.to(out.dtype.element_ty), mask=mask)


@triton.jit
def read_backward(grad, g_b, g_l, g_h, r, r_b, r_l, r_h, k, k_b, k_l, k_h, v, v_b, v_l, v_h,
                  log_decay, bonus, states, dr, dk, dv, dstates, ddecay, dbonus, length, chunks, H,
                  D, DIRECTIONS: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr,
                  PRECISION: tl.constexpr):  # fmt: skip
    """One program a chunk; ddecay and dbonus [B, H, P, D] are to be added up over the chunks."""
    chunk, scan = tl.program_id(0), tl.program_id(1)
    batch, head = scan // H, scan % H
    channel, token = tl.arange(0, BLOCK), tl.arange(0, T)
    decay = tl.load(log_decay + head * D + channel, mask=channel < D, other=0.0).to(tl.float32)
    u = tl.load(bonus + head * D + channel, mask=channel < D, other=0.0).to(tl.float32)
    at, mask = rows(grad, g_b, g_l, g_h, batch, head, chunk, length, D, T, BLOCK)
    dout = _load(at, mask)
    at, mask = rows(r, r_b, r_l, r_h, batch, head, chunk, length, D, T, BLOCK)
    receptance = _load(at, mask)
    at, mask = rows(k, k_b, k_l, k_h, batch, head, chunk, length, D, T, BLOCK)
    key = _load(at, mask)
    at, mask = rows(v, v_b, v_l, v_h, batch, head, chunk, length, D, T, BLOCK)
    value = _load(at, mask)
    same = tl.sum(dout * value, 1)[:, None]
    own = tl.sum(receptance * u[None, :] * key, 1)
    pairs = tl.where(token[:, None] == token[None, :], own[:, None], 0.0)
    dpairs = tl.dot(dout, tl.trans(value), input_precision=PRECISION)
    dreceptance = same * u[None, :] * key
    dkey = same * u[None, :] * receptance
    decay_sum = tl.zeros((BLOCK,), tl.float32)
    for direction in tl.static_range(DIRECTIONS):
        scale, key_scale, steps, key_steps = _scales(decay[None, :], direction == 1, T)
        scaled, scaled_key = receptance * scale, key * key_scale
        product = tl.dot(scaled, tl.trans(scaled_key), input_precision=PRECISION)
        if direction == 0:
            meant = token[:, None] > token[None, :]
        else:
            meant = token[:, None] < token[None, :]
        pairs = tl.where(meant, product, pairs)
        dproduct = tl.where(meant, dpairs, 0.0)
        dscaled = tl.dot(dproduct, scaled_key, input_precision=PRECISION)
        dscaled_key = tl.dot(tl.trans(dproduct), scaled, input_precision=PRECISION)
        at, inside = _square(states, scan, direction, DIRECTIONS, chunk, chunks, D, BLOCK)
        dscaled += tl.dot(dout, tl.trans(_load(at, inside)), input_precision=PRECISION)
        at, inside = _square(dstates, scan, direction, DIRECTIONS, chunk, chunks, D, BLOCK)
        tl.store(at, tl.dot(tl.trans(scaled), dout, input_precision=PRECISION), mask=inside)
        dreceptance += dscaled * scale
        dkey += dscaled_key * key_scale
        decay_sum += tl.sum(steps * scaled * dscaled + key_steps * scaled_key * dscaled_key, 0)
    at, mask = rows(dr, length * H * D, H * D, D, batch, head, chunk, length, D, T, BLOCK)
    tl.store(at, dreceptance.to(dr.dtype.element_ty), mask=mask)
    at, mask = rows(dk, length * H * D, H * D, D, batch, head, chunk, length, D, T, BLOCK)
    tl.store(at, dkey.to(dk.dtype.element_ty), mask=mask)
    at, mask = rows(dv, length * H * D, H * D, D, batch, head, chunk, length, D, T, BLOCK)
    dvalue = tl.dot(tl.trans(pairs), dout, input_precision=PRECISION)
    tl.store(at, dvalue.to(dv.dtype.element_ty), mask=mask)
    to = (scan.to(tl.int64) * chunks + chunk) * D + channel
    tl.store(ddecay + to, decay_sum, mask=channel < D)
    tl.store(dbonus + to, tl.sum(same * receptance * key, 0), mask=channel < D)
