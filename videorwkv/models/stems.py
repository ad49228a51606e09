"""Pixels -> tokens: what a stem sees, the two stems that an LCR may have, and rotary positions.

T frames of a clip, B batch, F = T * B, I image channels, P patch size, L patches, J those that are
computed, C channels of a token, H heads, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videorwkv.errors import ConfigError
from videorwkv.models.masking import patches, take

# ImageNet's statistics, as Vision-RWKV's weights expect them.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)
# Change of the pixels by which a patch counts as moved for one half: 8 of 255 grey levels, well
# above the noise of sensors and codecs and well below a moving outline. In units of the pixels'
# standard deviation.
HALF_MOVED = 8 / 255 / 0.226


def pixels_and_change(
    frames_TBHWC: Tensor, before: tuple[Tensor, Tensor] | None, scale_C: Tensor, shift_C: Tensor
) -> list[Tensor]:
    """The images that a stem sees, [T * B, H, W, 3] each: normalised pixels, and their change
    since the frame before.

    Args:
        frames_TBHWC: uint8, C = 3 colours.
        before: frame before the first, uint8 [B, H, W, 3], and whether a frame is not its stream's
            first, [T, B]; None for a stem of one frame.
        scale_C: factor of each colour, in the type to compute in.
        shift_C: what is added then.
    """
    width = frames_TBHWC.shape[3]
    # Rows of W * 3 numbers with tables as long: three at a time would be slow.
    scale_X, shift_X = (x_C.expand(width, 3).flatten() for x_C in (scale_C, shift_C))
    raw_TBHX = frames_TBHWC.flatten(3).to(scale_C.dtype)
    parts = [torch.addcmul(shift_X, raw_TBHX, scale_X)]
    if before is not None:
        pixels_BHWC, started_TB = before
        before_TBHWC = pixels_BHWC[None]
        if len(frames_TBHWC) > 1:
            before_TBHWC = torch.cat([before_TBHWC, frames_TBHWC[:-1]])
        change_TBHX = raw_TBHX.sub_(before_TBHWC.flatten(3).to(scale_C.dtype))
        # Nothing has changed yet at a stream's first frame.
        parts.append(change_TBHX.mul_(scale_X * started_TB[..., None, None]))
    return [x.flatten(0, 1).unflatten(2, (width, 3)) for x in parts]


def moved(change_FHWI: Tensor, patch_size: int, started_F: Tensor) -> Tensor:
    """How far each patch has moved on since the frame before, and the mean over its frame: numbers
    in [0, 1], float32 [F, L, 2].

    A patch whose change has a root mean square of `HALF_MOVED` counts half, noise of a sensor or of
    a codec next to nothing; in a stream's first frame everything is new.

    Args:
        change_FHWI: as from `pixels_and_change`.
        patch_size: P.
        started_F: whether a frame is not its stream's first.
    """
    p = patch_size
    num, height, width, _ = change_FHWI.shape
    # Sums of whole rows of patches first: a mean over three channels would be slow.
    rows_FRX = change_FHWI.float().square().flatten(2).view(num, height // p, p, width * 3).sum(2)
    power_FL = rows_FRX.view(num, height // p, width // p, 3 * p).sum(-1).flatten(1)
    strength_FL = power_FL.square()
    moved_FL = strength_FL / (strength_FL + (HALF_MOVED**2 * 3 * p * p) ** 2)
    moved_FL = torch.where(started_F[:, None], moved_FL, 1.0)
    return torch.stack([moved_FL, moved_FL.mean(1, keepdim=True).expand_as(moved_FL)], -1)


def cell_weights(rows: int, columns: int, cells: int) -> Tensor:
    """Mean over each cell of a grid of `cells` x `cells` as weights of the patches, [G, L]; cells
    overlap where they do not divide the patches evenly."""
    every_L1RC = torch.eye(rows * columns).unflatten(1, (1, rows, columns))
    return F.adaptive_avg_pool2d(every_L1RC, cells).flatten(1).T.contiguous()


class PatchStem(nn.Module):
    """One cut: a 1 x P x P convolution of stride P, written as a linear map of each patch."""

    def __init__(self, channels: int, patch_size: int, width: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.embed = nn.Linear(channels * patch_size**2, width)

    def forward(self, parts_FHWI: Sequence[Tensor], keep_FJ: Tensor | None) -> Tensor:
        """Images [F, H, W, I] -> tokens of all patches, or of the kept ones, [F, J, C]."""
        patches_FLX = patches(torch.cat(list(parts_FHWI), dim=-1), self.patch_size)
        return self.embed(patches_FLX if keep_FJ is None else take(patches_FLX, keep_FJ))


class ConvStem(nn.Module):
    """Strided 3 x 3 convolutions down to the same grid; the channels double on the way to C.

    Batch norm, and not a norm over the frame: without it small data does not get learnt (LOG.md).
    In evaluation it is a constant, so the clip and the stream see the same.
    """

    def __init__(self, channels: int, patch_size: int, width: int) -> None:
        super().__init__()
        strides = stem_strides(patch_size)
        layers: list[nn.Module] = []
        source = channels
        for i, stride in enumerate(strides):
            last = i == len(strides) - 1
            target = width if last else max(8, width >> (len(strides) - 1 - i))
            layers += [
                nn.Conv2d(source, target, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(target),
                nn.ReLU(inplace=True),
            ]
            source = target
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, parts_FHWI: Sequence[Tensor], keep_FJ: Tensor | None) -> Tensor:
        """Images [F, H, W, I] -> tokens of all patches, or of the kept ones, [F, J, C]."""
        first, *body = self.layers
        assert isinstance(first, nn.Conv2d)
        # Part by part, for side by side they would be a slow copy of three channels at a time.
        parts_FHWI = [part.to(first.weight.dtype) for part in parts_FHWI]
        weights = first.weight.split(parts_FHWI[0].shape[-1], dim=1)
        # Frames lie channels-last, so this permutation is a channels-last image without a copy.
        x_FIHW = F.conv2d(
            parts_FHWI[0].permute(0, 3, 1, 2), weights[0], first.bias, first.stride, 1
        )
        for part_FHWI, weight in zip(parts_FHWI[1:], weights[1:], strict=True):
            x_FIHW += F.conv2d(part_FHWI.permute(0, 3, 1, 2), weight, None, first.stride, 1)
        # None where the first convolution is the only one.
        last = max((i for i, layer in enumerate(body) if isinstance(layer, nn.Conv2d)), default=-1)
        for i, layer in enumerate(body):
            if i == last and keep_FJ is not None and not self.training:
                assert isinstance(layer, nn.Conv2d)
                x_FIHW = _convolve_at(x_FIHW, layer, keep_FJ)
            else:
                x_FIHW = layer(x_FIHW)
        x_FLC = x_FIHW.flatten(2).transpose(1, 2)
        # In training the last norm counts all tokens.
        whole = self.training or last < 0
        return take(x_FLC, keep_FJ) if keep_FJ is not None and whole else x_FLC


def _convolve_at(x_FIHW: Tensor, conv: nn.Conv2d, keep_FJ: Tensor) -> Tensor:
    """A 3 x 3 convolution at some places of its output grid alone, [F, C, J, 1]."""
    stride, columns = conv.stride[0], x_FIHW.shape[3]
    grid_columns = (columns - 1) // stride + 1
    row_FJ, column_FJ = keep_FJ // grid_columns, keep_FJ % grid_columns
    columns += 2
    first_FJ1 = (row_FJ * (stride * columns) + column_FJ * stride)[..., None]
    offset_3 = torch.arange(3, device=keep_FJ.device)
    window_FS = (first_FJ1 + (offset_3[:, None] * columns + offset_3).flatten()).flatten(1)
    padded_FLI = F.pad(x_FIHW, (1, 1, 1, 1)).permute(0, 2, 3, 1).flatten(1, 2)
    seen_FJX = take(padded_FLI, window_FS).unflatten(1, (-1, 9)).flatten(2)
    kept_FJC = F.linear(seen_FJX, conv.weight.permute(0, 2, 3, 1).flatten(1), conv.bias)
    return kept_FJC.transpose(1, 2)[..., None]


def stem_strides(patch_size: int) -> list[int]:
    """Strides of 2 and 3 whose product is the patch size, the large ones first."""
    strides = []
    for stride in (3, 2):
        while patch_size % stride == 0:
            strides.append(stride)
            patch_size //= stride
    if patch_size != 1 or not strides:
        raise ConfigError(
            "LCRConfig: stem='conv' needs a patch_size made of factors 2 and 3, such as 8, 12 or "
            "16; choose one, or stem='patch'."
        )
    return strides


class RotaryEmbedding(NamedTuple):
    """Rotary position embedding (arXiv 2104.09864) of tokens, along the two axes of a frame.

    Args:
        cos: cosine of each channel's angle, [1 or B, L, 1, D]; in front T where frames differ.
        sin: its sine, negative for the first channel of each pair.
        rotation: cos + i sin of each pair, [..., D / 2], where its channels lie side by side (cos
            and sin are then those of the pairs, too); else None.
    """

    cos: Tensor
    sin: Tensor
    rotation: Tensor | None = None

    @classmethod
    def of(
        cls,
        cos_LQ: Tensor,
        sin_LQ: Tensor,
        keep_TBJ: Tensor | None = None,
        *,
        has_cls: bool,
        adjacent_pairs: bool = False,
    ) -> RotaryEmbedding:
        """The embedding of a clip's tokens.

        Args:
            cos_LQ: of all patches and pairs, as `rotary_angles` gives it.
            sin_LQ: likewise.
            keep_TBJ: patches that are computed, T = 1 if the same in all frames; None: all.
            has_cls: `[CLS]` comes first; it has no position and is not rotated.
            adjacent_pairs: the channels of a pair lie side by side.
        """
        if keep_TBJ is None:
            cos, sin = cos_LQ[None, :, None], sin_LQ[None, :, None]
        else:
            keep = keep_TBJ[0] if len(keep_TBJ) == 1 else keep_TBJ
            cos, sin = cos_LQ[keep][..., None, :], sin_LQ[keep][..., None, :]
        if has_cls:
            cos, sin = F.pad(cos, (0, 0, 0, 0, 1, 0), value=1.0), F.pad(sin, (0, 0, 0, 0, 1, 0))
        if adjacent_pairs:
            return cls(cos, sin, torch.complex(cos, sin))
        return cls(torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1))

    def __call__(self, x_BLHD: Tensor) -> Tensor:
        """Rotate the channels (d, d + D/2) of each head by their token's angle: [..., L, H, D].

        In the type of `x_BLHD`, rounded once: the products are in that of the tables.
        """
        if self.rotation is not None:
            pairs = torch.view_as_complex(x_BLHD.to(self.cos.dtype).view(*x_BLHD.shape[:-1], -1, 2))
            turned = torch.view_as_real(pairs * self.rotation).view(x_BLHD.shape)
        else:
            partner_BLHD = x_BLHD.roll(x_BLHD.shape[-1] // 2, -1)
            turned = torch.addcmul(x_BLHD * self.cos, partner_BLHD, self.sin)
        return turned.to(x_BLHD.dtype)

    def frames(self, num_frames: int) -> Sequence[RotaryEmbedding]:
        """That of each frame's tokens."""
        if self.cos.ndim == 4:
            return [self] * num_frames
        rotations = [None] * num_frames if self.rotation is None else self.rotation
        parts = zip(self.cos, self.sin, rotations, strict=True)
        return [RotaryEmbedding(*part) for part in parts]


def rotary_angles(
    head_width: int, rows: int, columns: int, like: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary embedding, [L, D / 2]: half of the pairs rotate with the row,
    half with the column. In device and type of `like`, else on the CPU in float32."""
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
