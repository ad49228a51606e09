"""Rotary position encoding (arXiv 2104.09864) along the two axes of a frame.

B batch, T frames, L tokens of a frame, H heads, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Turn(NamedTuple):
    """Rotary position encoding of tokens.

    Args:
        cos: cosine of each pair's angle, [1 or B, L, 1, D / 2]; in front T where frames differ.
        sin: its sine.
        both: cos + i sin, where the channels of a pair lie side by side; else None.
    """

    cos: Tensor
    sin: Tensor
    both: Tensor | None

    @classmethod
    def of(
        cls,
        cos_LQ: Tensor,
        sin_LQ: Tensor,
        keep_TBJ: Tensor | None,
        *,
        has_cls: bool,
        pairs: bool,
    ) -> Turn:
        """The turn of a clip's tokens.

        Args:
            cos_LQ: of all patches, as `angles` gives it.
            sin_LQ: likewise.
            keep_TBJ: patches that are computed, T = 1 if the same in all frames; None: all.
            has_cls: `[CLS]` comes first; it stands at no place and does not turn.
            pairs: the channels of a pair lie side by side.
        """
        if keep_TBJ is None:
            cos, sin = cos_LQ[None, :, None], sin_LQ[None, :, None]
        else:
            keep = keep_TBJ[0] if len(keep_TBJ) == 1 else keep_TBJ
            cos, sin = cos_LQ[keep][..., None, :], sin_LQ[keep][..., None, :]
        if has_cls:
            cos, sin = F.pad(cos, (0, 0, 0, 0, 1, 0), value=1.0), F.pad(sin, (0, 0, 0, 0, 1, 0))
        return cls(cos, sin, torch.complex(cos, sin) if pairs else None)

    def __call__(self, x_BLHD: Tensor) -> Tensor:
        """Turn the channels (d, d + D/2) of each head by their token's angle: [..., L, H, D]."""
        if self.both is not None:
            pairs = torch.view_as_complex(x_BLHD.to(self.cos.dtype).view(*x_BLHD.shape[:-1], -1, 2))
            return torch.view_as_real(pairs * self.both).view(x_BLHD.shape)
        first, second = x_BLHD.chunk(2, dim=-1)
        return torch.cat(
            [first * self.cos - second * self.sin, second * self.cos + first * self.sin], dim=-1
        )

    def frames(self, num_frames: int) -> Sequence[Turn]:
        """That of each frame's tokens."""
        if self.cos.ndim == 4:
            return [self] * num_frames
        return [
            Turn(self.cos[t], self.sin[t], None if self.both is None else self.both[t])
            for t in range(num_frames)
        ]


def angles(
    head_width: int, rows: int, columns: int, like: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary encoding, [L, D / 2]: along two axes, half of the pairs turn
    with the row, half with the column. In device and type of `like`, else on the CPU in float32."""
    device = None if like is None else like.device
    quarter = head_width // 4
    # Slowest pair: about a radian across 100 patches; a frame's grid is far smaller than text.
    rate = 100.0 ** (-torch.arange(quarter, device=device) / quarter)
    row = torch.arange(rows, device=device)[:, None, None] * rate
    column = torch.arange(columns, device=device)[None, :, None] * rate
    shape = (rows, columns, quarter)
    angle_LQ = torch.cat([row.expand(shape), column.expand(shape)], -1).flatten(0, 1)
    cos_LQ, sin_LQ = angle_LQ.cos(), angle_LQ.sin()
    return (cos_LQ, sin_LQ) if like is None else (cos_LQ.to(like.dtype), sin_LQ.to(like.dtype))
