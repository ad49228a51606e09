"""Tokens to the features of a frame: their mean, `[CLS]` alone, or the mean of each cell of a grid.

T frames, B batch, L tokens of a frame, C channels, G cells, K tokens that a tube mask keeps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from videorwkv.models.config import LCRConfig
from videorwkv.models.layer import Frames
from videorwkv.models.stems import cell_weights


def token_weights(
    config: LCRConfig,
    pool_GL: Tensor,
    height: int,
    width: int,
    keep_BK: Tensor | None,
    weights_TBL: Tensor | None,
) -> Tensor:
    """How much each token counts in each cell, [T or 1, B or 1, G, L].

    Args:
        config: of the model, with `readout='cells'`.
        pool_GL: the same of all tokens of frames of the configuration's size.
        height: of the frames, in pixels.
        width: likewise.
        keep_BK: tokens that are computed; None: all.
        weights_TBL: how much each token counts anyhow; None: all the same.
    """
    if height != config.image_size or width != config.image_size:
        p = config.patch_size
        pool_GL = cell_weights(height // p, width // p, config.readout_cells).to(pool_GL)
    pool_TBGL = pool_GL[None, None]
    if keep_BK is None and weights_TBL is None:
        return pool_TBGL
    if keep_BK is not None:
        pool_TBGL = pool_GL.T[keep_BK].transpose(1, 2)[None]
    if weights_TBL is not None:
        pool_TBGL = pool_TBGL * weights_TBL[..., None, :]
    # A cell without a token that counts is zero.
    return pool_TBGL / pool_TBGL.sum(-1, keepdim=True).clamp_min(1e-12)


def pool(x_TBLC: Frames, readout: str, pooling: Tensor | None) -> Tensor:
    """A vector per frame and clip, [T, B, C], with `readout='cells'` one per cell too,
    [T, B, G, C]; by weights of the tokens where there are any, [T or 1, B or 1, G or 1, L]."""
    if pooling is None or readout == "cls":
        if isinstance(x_TBLC, Tensor):
            return x_TBLC[:, :, 0] if readout == "cls" else x_TBLC.mean(2)
        return torch.stack([x[:, 0] if readout == "cls" else x.mean(1) for x in x_TBLC])
    if isinstance(x_TBLC, Tensor):
        pooled_TBGC = pooling.to(x_TBLC.dtype) @ x_TBLC
    else:
        weights = pooling.expand(len(x_TBLC), *pooling.shape[1:])
        pairs = zip(weights, x_TBLC, strict=True)
        pooled_TBGC = torch.stack([w.to(x_BLC.dtype) @ x_BLC for w, x_BLC in pairs])
    return pooled_TBGC if readout == "cells" else pooled_TBGC[:, :, 0]
