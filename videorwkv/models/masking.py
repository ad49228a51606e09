"""Tube masking: the same patches are left out in every frame of a clip (VideoMAE's tube)."""

from __future__ import annotations

import torch
from torch import Tensor

from videorwkv.errors import UsageError


def tube_mask(
    num_patches: int,
    ratio: float,
    batch_size: int,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Which patches stay: sorted indices, int64 [batch_size, kept], one draw a clip.

    Args:
        num_patches: patches of a frame, without `[CLS]`.
        ratio: share of the patches to leave out, in [0, 1); at least one patch stays.
        batch_size: number of clips.
        generator: source of randomness; PyTorch's own if None.
    """
    if not 0 <= ratio < 1:
        raise UsageError(f"tube_mask: ratio ({ratio}) must lie in [0, 1).")
    kept = max(1, round(num_patches * (1 - ratio)))
    noise = torch.rand(batch_size, num_patches, generator=generator)
    # Sorted, because the scan's decay goes by distance in raster order.
    return noise.argsort(dim=1)[:, :kept].sort(dim=1).values.to(device)


def keep_tokens(x_TBLC: Tensor, keep_BK: Tensor) -> Tensor:
    """Gather the kept tokens of every frame: [T, B, L, C] -> [T, B, K, C]."""
    index = keep_BK[None, :, :, None].expand(x_TBLC.shape[0], -1, -1, x_TBLC.shape[-1])
    return x_TBLC.gather(2, index)
