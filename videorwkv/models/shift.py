"""Q-shift: a quarter of each head's channels comes from each of the four neighbouring patches.

F frames, B batch, T frames of a clip, L tokens of a frame, J those that are computed, C channels,
H heads, R rows and S columns of patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videorwkv.models.masking import put, take


def q_shift(x_FLC: Tensor, rows: int, columns: int, head_width: int) -> Tensor:
    """Tokens of whole frames, each from its neighbours (Vision-RWKV, arXiv 2403.02308, and its
    version for the heads of RWKV-6).

    The four quarters of each head's channels are those of the patch to the left, to the right,
    above and below; beyond the border they are zero.

    Args:
        x_FLC: all patches in raster order.
        rows: of patches.
        columns: of patches.
        head_width: channels of a head, a multiple of 4.
    """
    x_FRSHQD = x_FLC.unflatten(2, (-1, 4, head_width // 4)).unflatten(1, (rows, columns))
    left, right, above, below = x_FRSHQD.unbind(4)
    shifted = [
        F.pad(left[:, :, :-1], (0, 0, 0, 0, 1, 0)),
        F.pad(right[:, :, 1:], (0, 0, 0, 0, 0, 1)),
        F.pad(above[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0)),
        F.pad(below[:, 1:], (0, 0, 0, 0, 0, 0, 0, 1)),
    ]
    return torch.stack(shifted, 4).flatten(3).flatten(1, 2)


class SpatialShift(NamedTuple):
    """`q_shift` for the tokens that are computed; a patch that a mask leaves out counts as zero.

    Args:
        rows: of patches.
        columns: of patches.
        head_width: channels of a head.
        keep_TBJ: patches that are computed, T = 1 if the same in all frames; None: all.
        has_cls: `[CLS]` comes first; it has no neighbours and stays as it is.
    """

    rows: int
    columns: int
    head_width: int
    keep_TBJ: Tensor | None = None
    has_cls: bool = False

    def __call__(self, x_TBLC: Tensor) -> Tensor:
        """Tokens [T, B, L, C] or [B, L, C] -> those of their neighbours, of the same shape."""
        x_FLC = x_TBLC.flatten(0, -3)
        first_FLC = x_FLC[:, : int(self.has_cls)]
        x_FLC = x_FLC[:, int(self.has_cls) :]
        if self.keep_TBJ is not None:
            keep_FJ = self.keep_TBJ.expand(len(x_FLC) // self.keep_TBJ.shape[1], -1, -1)
            keep_FJ = keep_FJ.flatten(0, 1)
            nothing_FLC = x_FLC.new_zeros(len(x_FLC), self.rows * self.columns, x_FLC.shape[2])
            x_FLC = put(nothing_FLC, keep_FJ, x_FLC)
        x_FLC = q_shift(x_FLC, self.rows, self.columns, self.head_width)
        if self.keep_TBJ is not None:
            x_FLC = take(x_FLC, keep_FJ)
        if self.has_cls:
            x_FLC = torch.cat([first_FLC, x_FLC], 1)
        return x_FLC.view(x_TBLC.shape)

    def frames(self, num_frames: int) -> Sequence[SpatialShift]:
        """That of each frame's tokens."""
        if self.keep_TBJ is None or len(self.keep_TBJ) == 1:
            return [self] * num_frames
        return [self._replace(keep_TBJ=keep_BJ[None]) for keep_BJ in self.keep_TBJ]


class PartedLinear(nn.Linear):
    """A joint linear map whose parts have inputs of their own; its weights are those of one map.

    Args:
        width: channels of each input.
        sizes: outputs of each part.
        bias: whether there is one.
    """

    def __init__(self, width: int, sizes: Sequence[int], *, bias: bool) -> None:
        super().__init__(width, sum(sizes), bias=bias)
        self.sizes = list(sizes)

    def forward(self, *inputs: Tensor) -> Tensor:
        """One input for each part -> their outputs side by side."""
        biases = [None] * len(self.sizes) if self.bias is None else self.bias.split(self.sizes)
        parts = zip(inputs, self.weight.split(self.sizes), biases, strict=True)
        # A copy for inference may have its weights in half precision.
        return torch.cat([F.linear(x.to(w.dtype), w, b) for x, w, b in parts], -1)
