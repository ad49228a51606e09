"""Where each neighbourhood moves, as a stem may see it: an optical flow that is not normalised.

The right-hand side of the equations of Lucas & Kanade (1981): the products of a picture's gradient
and of its change since the frame before, averaged over a window. Its sign tells the direction,
whatever moves, and it is zero where nothing changes. Solving for the displacement would make a
faint ground that drifts as strong as a hand before it, which costs accuracy (LOG.md).

T frames of a clip, B batch, F = T * B, H height, W width, C = 3 colours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Grey levels of 255 that count as one: as much change as in `stems.HALF_MOVED`.
UNIT = 8.0


def flow_window(patch_size: int) -> int:
    """Side of the window in pixels: an odd number, as wide as a patch or one less."""
    return patch_size - 1 + patch_size % 2


def grey(frames_XHWC: Tensor, dtype: torch.dtype) -> Tensor:
    """The mean of the three colours, 0 to 255, [..., H, W]."""
    # Sums of slices: a mean over three neighbours in memory would be slow.
    red, green, blue = frames_XHWC.to(dtype).unbind(-1)
    return (red + green + blue) / 3


def flow_of_clip(
    frames_TBHWC: Tensor,
    pixels_BHWC: Tensor,
    started_TB: Tensor,
    *,
    window: int,
    dtype: torch.dtype,
) -> Tensor:
    """The flow of all frames of a clip, [T * B, H, W, 2]; zero in a stream's first frame.

    Args:
        frames_TBHWC: uint8, C = 3 colours.
        pixels_BHWC: the frame before the first, uint8.
        started_TB: whether a frame is not its stream's first.
        window: as for `optical_flow`.
        dtype: to compute in.
    """
    now_TBHW = grey(frames_TBHWC, dtype)
    before_TBHW = torch.cat([grey(pixels_BHWC, dtype)[None], now_TBHW[:-1]])
    before_TBHW = torch.where(started_TB[..., None, None], before_TBHW, now_TBHW)
    now_F1HW, before_F1HW = (x.flatten(0, 1)[:, None] for x in (now_TBHW, before_TBHW))
    return optical_flow(now_F1HW, before_F1HW, window).permute(0, 2, 3, 1)


def optical_flow(now_F1HW: Tensor, before_F1HW: Tensor, window: int) -> Tensor:
    """How each pixel's neighbourhood moves to the right and down, [F, 2, H, W].

    The signed square root of the mean product of gradient and change, in units of `UNIT` grey
    levels: it grows with speed and contrast, as the change itself does.

    Args:
        now_F1HW: grey frames, 0 to 255, of a float type of at least 32 bits.
        before_F1HW: the frame before each; the frame itself for no flow at all.
        window: side of the neighbourhood, odd.
    """
    change_F1HW = before_F1HW - now_F1HW
    padded_F1HW = F.pad((now_F1HW + before_F1HW) / 2, (1, 1, 1, 1), mode="replicate")
    x_F1HW = (padded_F1HW[:, :, 1:-1, 2:] - padded_F1HW[:, :, 1:-1, :-2]) / 2
    y_F1HW = (padded_F1HW[:, :, 2:, 1:-1] - padded_F1HW[:, :, :-2, 1:-1]) / 2
    products_F2HW = torch.cat([x_F1HW, y_F1HW], 1) * change_F1HW
    mean_F2HW = F.avg_pool2d(products_F2HW, window, 1, window // 2)
    return mean_F2HW.sign() * mean_F2HW.abs().sqrt() / UNIT
