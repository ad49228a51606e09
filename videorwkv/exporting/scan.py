"""The scan as an exported graph runs it: all that hangs on the weights alone is a constant.

B batch, H heads, L tokens of a frame, D head width, P chunks, S tokens of a chunk.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# e^75 times a value of any sane size is finite in float32 and in bfloat16.
MAX_EXPONENT = 75.0


class FoldedScan(nn.Module):
    """`videorwkv.ops.wkv` in chunks, with the powers of the decay as constant tables.

    A model's decays are known when it is exported, so a chunk may be as long as they allow: 98
    tokens in place of 64 halve the number of chunks at 224 px, and two chunks need no recurrence
    between them.

    Args:
        log_decay_HD: log of the decay per key channel, in [-2, 0].
        bonus_HD: weight of a token's own key and value.
        length: L.
        scan: `bidirectional` or `forward`.
        max_chunk: longest chunk to make.
    """

    r_before: Tensor
    k_before: Tensor
    r_after: Tensor
    k_after: Tensor
    k_self: Tensor
    before_SS: Tensor
    before_weight_SS: Tensor
    after_weight_SS: Tensor
    r_across: Tensor
    k_across: Tensor
    half_HD1: Tensor
    whole_HD1: Tensor

    def __init__(
        self, log_decay_HD: Tensor, bonus_HD: Tensor, *, length: int, scan: str, max_chunk: int
    ) -> None:
        super().__init__()
        log_decay_H1D = log_decay_HD.double()[:, None]
        strongest = float(-log_decay_HD.min())
        chunks = -(-length // max_chunk)
        # A token is at most half a chunk from its middle, and a key takes one step off.
        while strongest * (_size(length, chunks) + 1) / 2 > MAX_EXPONENT:
            chunks += 1
        size = _size(length, chunks)
        self.length, self.num_chunks, self.size = length, chunks, size
        self.bidirectional = scan == "bidirectional"
        # Products of what a mask hides stay finite too: then a multiplication can hide it.
        self.bounded = strongest * size <= MAX_EXPONENT
        offset_S1 = torch.arange(size, dtype=torch.float64)[:, None] - (size - 1) / 2
        grow_HSD = (log_decay_H1D * offset_S1).exp()
        shrink_HSD = (log_decay_H1D * -offset_S1).exp()
        one_less_H1D = (-log_decay_H1D).exp()
        half_H1D = (log_decay_H1D * (size / 2)).exp()

        def keep(name: str, table: Tensor) -> None:
            self.register_buffer(name, table.float().contiguous(), persistent=False)

        # With an axis for the chunks: [H, 1, S, D].
        keep("r_before", grow_HSD[:, None])
        keep("k_before", (shrink_HSD * one_less_H1D)[:, None])
        keep("r_after", shrink_HSD[:, None])
        keep("k_after", (grow_HSD * one_less_H1D)[:, None])
        # A token reads itself as an earlier one reads it, and what is missing to the bonus: a
        # product for the diagonal alone would cost as much as one for all pairs.
        once_H1D = one_less_H1D if self.bidirectional else torch.zeros_like(one_less_H1D)
        keep("k_self", (bonus_HD.double()[:, None] - once_H1D)[:, None])
        before_SS = torch.arange(size)[:, None] > torch.arange(size)
        self.register_buffer("before_SS", before_SS, persistent=False)
        keep("before_weight_SS", before_SS.double())
        keep("after_weight_SS", (~before_SS).double())
        # Between two chunks: the first is asked by the second and, backwards, asks it.
        backwards_H1D = half_H1D if self.bidirectional else torch.zeros_like(half_H1D)
        keep("r_across", torch.stack([shrink_HSD * backwards_H1D, grow_HSD * half_H1D], 1))
        keep(
            "k_across",
            torch.stack([shrink_HSD, grow_HSD], 1) * (half_H1D * one_less_H1D)[:, None],
        )
        keep("half_HD1", (half_H1D.square()).transpose(-1, -2))
        keep("whole_HD1", (log_decay_H1D * size).exp().transpose(-1, -2))

    def forward(self, r_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor) -> Tensor:
        """[B, H, L, D] each -> what the receptance reads, [B, H, L, D]."""
        r, k, v = (self._chunks(x) for x in (r_BHLD, k_BHLD, v_BHLD))
        r_before, k_before = r * self.r_before, k * self.k_before
        before = r_before @ k_before.transpose(-1, -2)
        if self.bidirectional:
            r_after, k_after = r * self.r_after, k * self.k_after
            after = r_after @ k_after.transpose(-1, -2)
        if self.bounded:
            pairs = before * self.before_weight_SS
            if self.bidirectional:
                pairs = pairs + after * self.after_weight_SS
        elif self.bidirectional:
            pairs = torch.where(self.before_SS, before, after)
        else:
            pairs = torch.where(self.before_SS, before, 0.0)
        out = pairs @ v + (r * (k * self.k_self)).sum(-1, keepdim=True) * v
        if self.num_chunks == 2:
            state = (k * self.k_across).transpose(-1, -2) @ v
            first, second = state.split(1, dim=2)
            out = out + (r * self.r_across) @ torch.cat([second, first], dim=2)
        elif self.num_chunks > 2:
            states = self._carry((k_before.transpose(-1, -2) @ v).unbind(2))
            out = out + r_before @ torch.stack(states, dim=2)
            if self.bidirectional:
                states = self._carry((k_after.transpose(-1, -2) @ v).unbind(2)[::-1])
                out = out + r_after @ torch.stack(states[::-1], dim=2)
        out_BHLD = out.flatten(2, 3)
        return out_BHLD if out_BHLD.shape[2] == self.length else out_BHLD[:, :, : self.length]

    def _chunks(self, x_BHLD: Tensor) -> Tensor:
        missing = self.num_chunks * self.size - self.length
        if missing:
            x_BHLD = F.pad(x_BHLD, (0, 0, 0, missing))
        return x_BHLD.unflatten(2, (self.num_chunks, self.size))

    def _carry(self, kv: tuple[Tensor, ...]) -> list[Tensor]:
        """What each chunk reads of those before it in the order given."""
        states, total = [torch.zeros_like(kv[0]), kv[0] * self.half_HD1], kv[0]
        for one in kv[1:-1]:
            total = total * self.whole_HD1 + one
            states.append(total * self.half_HD1)
        return states


def _size(length: int, chunks: int) -> int:
    return -(-length // chunks)
