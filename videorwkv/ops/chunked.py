"""The scan in chunks: plain PyTorch, linear in tokens, exact to rounding (../README.md).

B batch, L tokens, H heads, D head width, P chunks, S tokens of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MAX_CHUNK = 64


class ChunkedPrepared(NamedTuple):
    """All of a scan that does not depend on the receptance; B may stand for frames times clips.

    Args:
        grow_HSD: w^(i-m), the factor of position i against the middle m of its chunk.
        shrink_HSD: w^(m-i).
        key_before_BHPSD: keys as a later token of the chunk sees them.
        key_after_BHPSD: keys as an earlier token of the chunk sees them; None in a forward scan.
        key_self_BHPSD: keys times the bonus.
        value_BHPSD: values.
        state_before_BHPDD: sum over the earlier chunks; None if there is only one.
        state_after_BHPDD: sum over the later chunks; None if there is none, or in a forward scan.
        length: L without padding.
    """

    grow_HSD: Tensor
    shrink_HSD: Tensor
    key_before_BHPSD: Tensor
    key_after_BHPSD: Tensor | None
    key_self_BHPSD: Tensor
    value_BHPSD: Tensor
    state_before_BHPDD: Tensor | None
    state_after_BHPDD: Tensor | None
    length: int

    def frames(self, num_frames: int) -> list[ChunkedPrepared]:
        """Split a batch of `num_frames` * B scans into one part a frame, frame-major."""
        if num_frames == 1:
            return [self]

        def split(x: Tensor) -> Sequence[Tensor]:
            return x.unflatten(0, (num_frames, -1)).unbind(0)

        def split_if_any(x: Tensor | None) -> Sequence[Tensor | None]:
            return [None] * num_frames if x is None else split(x)

        befores = split(self.key_before_BHPSD)
        afters = split_if_any(self.key_after_BHPSD)
        selves = split(self.key_self_BHPSD)
        values = split(self.value_BHPSD)
        states_before = split_if_any(self.state_before_BHPDD)
        states_after = split_if_any(self.state_after_BHPDD)
        return [
            self._replace(
                key_before_BHPSD=befores[t],
                key_after_BHPSD=afters[t],
                key_self_BHPSD=selves[t],
                value_BHPSD=values[t],
                state_before_BHPDD=states_before[t],
                state_after_BHPDD=states_after[t],
            )
            for t in range(num_frames)
        ]


def prepare_chunked(
    k_BLHD: Tensor,
    v_BLHD: Tensor,
    log_decay_HD: Tensor,
    bonus_HD: Tensor,
    *,
    scan: str = "bidirectional",
) -> ChunkedPrepared:
    """Scaled keys inside the chunks and states between them; arguments as in `wkv`."""
    dtype = torch.promote_types(k_BLHD.dtype, torch.float32)
    length = k_BLHD.shape[1]
    num_chunks = -(-length // MAX_CHUNK)
    size = -(-length // num_chunks)
    log_decay_HD = log_decay_HD.to(dtype)
    middle = (size - 1) / 2
    offset_S1 = torch.arange(size, device=k_BLHD.device, dtype=dtype)[:, None] - middle
    grow_HSD = (log_decay_HD[:, None] * offset_S1).exp()
    shrink_HSD = (log_decay_HD[:, None] * -offset_S1).exp()
    # The pair (i, j) decays over |i - j| - 1 steps: the one step too many is taken off the key.
    one_less_H1D = (-log_decay_HD[:, None]).exp()

    key_BHPSD = _chunks(k_BLHD.to(dtype), num_chunks, size)
    value_BHPSD = _chunks(v_BLHD.to(dtype), num_chunks, size)
    before_BHPSD = key_BHPSD * (shrink_HSD * one_less_H1D)[:, None]
    self_BHPSD = key_BHPSD * bonus_HD.to(dtype)[:, None, None]
    bidirectional = scan == "bidirectional"
    after_BHPSD = key_BHPSD * (grow_HSD * one_less_H1D)[:, None] if bidirectional else None

    state_before = state_after = None
    if num_chunks > 1:
        # A pair in neighbouring chunks decays w^S more than their offsets from the two middles say.
        # Half of it is taken before the sum and half after: w^S alone would underflow.
        half_HD1 = (log_decay_HD * (size / 2)).exp()[:, None, :, None]
        whole_HD1 = (log_decay_HD * size).exp()[..., None]
        kv = (before_BHPSD.transpose(-1, -2) @ value_BHPSD) * half_HD1
        state_before = _carry(kv, whole_HD1) * half_HD1
        if after_BHPSD is not None:
            kv = (after_BHPSD.transpose(-1, -2) @ value_BHPSD) * half_HD1
            state_after = _carry(kv.flip(2), whole_HD1).flip(2) * half_HD1
    return ChunkedPrepared(
        grow_HSD,
        shrink_HSD,
        before_BHPSD,
        after_BHPSD,
        self_BHPSD,
        value_BHPSD,
        state_before,
        state_after,
        length,
    )


def read_chunked(r_BLHD: Tensor, prepared: ChunkedPrepared) -> Tensor:
    """What each token's receptance reads from the prepared keys and values: [B, L, H, D]."""
    value = prepared.value_BHPSD
    num_chunks, size = value.shape[-3:-1]
    r_BHPSD = _chunks(r_BLHD.to(value.dtype), num_chunks, size)
    r_grow = r_BHPSD * prepared.grow_HSD[:, None]
    pairs = r_grow @ prepared.key_before_BHPSD.transpose(-1, -2)
    position = torch.arange(size, device=value.device)
    before_SS = position[:, None] > position
    if prepared.key_after_BHPSD is not None:
        r_shrink = r_BHPSD * prepared.shrink_HSD[:, None]
        after = r_shrink @ prepared.key_after_BHPSD.transpose(-1, -2)
        # `where`, not a product with the mask: the half that is not meant may be infinite.
        pairs = torch.where(before_SS, pairs, after)
        own_SS = position[:, None] == position
        pairs = pairs.masked_fill(own_SS, 0.0)
    else:
        pairs = pairs.masked_fill(~before_SS, 0.0)
    out = pairs @ value
    out = out + (r_BHPSD * prepared.key_self_BHPSD).sum(-1, keepdim=True) * value
    if prepared.state_before_BHPDD is not None:
        out = out + r_grow @ prepared.state_before_BHPDD
        if prepared.state_after_BHPDD is not None:
            out = out + r_shrink @ prepared.state_after_BHPDD
    out_BLHD = out.flatten(2, 3)[:, :, : prepared.length].transpose(1, 2)
    return out_BLHD.to(r_BLHD.dtype)


def _chunks(x_BLHD: Tensor, num_chunks: int, size: int) -> Tensor:
    """[B, L, H, D] -> [B, H, P, S, D], padded with zeros at the end."""
    missing = num_chunks * size - x_BLHD.shape[1]
    if missing:
        x_BLHD = torch.nn.functional.pad(x_BLHD, (0, 0, 0, 0, 0, missing))
    return x_BLHD.transpose(1, 2).unflatten(2, (num_chunks, size))


def _carry(kv_BHPDD: Tensor, decay_HD1: Tensor) -> Tensor:
    """State at the start of each chunk: the sum over the chunks before it, decayed."""
    state = torch.zeros_like(kv_BHPDD[:, :, 0])
    states = []
    for kv in kv_BHPDD.unbind(2):
        states.append(state)
        state = decay_HD1 * state + kv
    return torch.stack(states, dim=2)
