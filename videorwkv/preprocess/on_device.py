"""Frames -> resized frames and edge maps where the frames are: `inputs.py` and `edges.py` in
PyTorch, to the pixel.

For frames that a GPU has decoded, or that lie on one already: they need not go to the CPU and back.
The steps are OpenCV's, in whole numbers where it takes whole numbers and in float32 where it takes
that, in its order, because a pixel's last bit hangs on it.

F frames, H height, W width, S side of the square.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from videorwkv.preprocess.edges import LAPLACIAN_SCALE, SOBEL_SCALE, EdgeOptions

# Shares of red, green and blue in grey, in 2 ** -15.
GREY = (9798, 19235, 3735)
# OpenCV's weights of a Gaussian whose width is not given, in 1/256, by the size of its kernel.
BINOMIAL = {
    1: (256,),
    3: (64, 128, 64),
    5: (16, 64, 96, 64, 16),
    7: (8, 28, 56, 72, 56, 28, 8),
    9: (4, 13, 30, 51, 60, 51, 30, 13, 4),
}
# The tangent of 22.5 degrees with 15 bits behind the point.
TAN_22 = 13573
BINS = 256
# Steps that edges are followed between two looks at whether any has grown: to look is to wait for
# the device.
FOLLOWED = 16


def edge_map_on_device(frames_FHWC: Tensor, method: str, options: EdgeOptions) -> Tensor:
    """As `videorwkv.preprocess.edges.edge_map`, to the pixel.

    Args:
        frames_FHWC: RGB, uint8, [F, H, W, 3].
        method: one of `ON_DEVICE`.
        options: blur, norm and thresholds.

    Returns:
        uint8 [F, H, W], on the device of the frames.
    """
    shares_C = torch.tensor(GREY, dtype=torch.int32, device=frames_FHWC.device)
    grey_FHW = ((frames_FHWC.int() * shares_C).sum(-1, dtype=torch.int32) + (1 << 14)) >> 15
    return ON_DEVICE[method](_blurred(grey_FHW, options), options)


def _blurred(grey_FHW: Tensor, options: EdgeOptions) -> Tensor:
    """Gaussian blur with weights of 8 bits; the frame is mirrored at its border."""
    weights = _gaussian(options.blur_size, options.blur_sigma)
    if len(weights) == 1:
        return grey_FHW
    across_FHW = _weighted(grey_FHW, weights, dim=2).clamp_max((1 << 16) - 1)
    both_FHW = _weighted(across_FHW, weights, dim=1)
    return ((both_FHW + (1 << 15)) >> 16).clamp_max(255)


def _weighted(x_FHW: Tensor, weights: tuple[int, ...], dim: int) -> Tensor:
    """Sums of neighbours along a dimension, mirrored at the border without repeating its pixel."""
    length, half = x_FHW.shape[dim], len(weights) // 2
    places = [_mirrored(i, length) for i in range(-half, length + half)]
    padded = x_FHW.index_select(dim, torch.tensor(places, device=x_FHW.device))
    parts = (padded.narrow(dim, k, length) * weight for k, weight in enumerate(weights))
    return functools.reduce(torch.add, parts)


def _mirrored(place: int, length: int) -> int:
    if length == 1:
        return 0
    while not 0 <= place < length:
        place = -place if place < 0 else 2 * length - 2 - place
    return place


@functools.cache
def _gaussian(size: int, sigma: float) -> tuple[int, ...]:
    """Weights in 1/256: what rounding takes from one goes to the next, the rest to the middle."""
    if sigma <= 0 and size in BINOMIAL:
        return BINOMIAL[size]
    width = sigma if sigma > 0 else 0.15 * size + 0.35
    middle = (size - 1) / 2
    exact = [math.exp(-((i - middle) ** 2) / (2 * width * width)) for i in range(size)]
    total, error, side = sum(exact), 0.0, list[int]()
    for weight in exact[: size // 2]:
        wanted = weight / total * 256 + error
        side.append(round(wanted))
        error = wanted - side[-1]
    return (*side, 256 - 2 * sum(side), *reversed(side))


def _around(x_FHW: Tensor, value: int | None = None) -> Callable[[int, int], Tensor]:
    """Gives x at an offset of (rows, columns) in {-1, 0, 1}; beyond the border what is nearest, or
    `value`."""
    padded_FHW = x_FHW
    for dim in (1, 2):
        length = padded_FHW.shape[dim]
        first, last = padded_FHW.narrow(dim, 0, 1), padded_FHW.narrow(dim, length - 1, 1)
        if value is not None:
            first = last = torch.full_like(first, value)
        padded_FHW = torch.cat([first, padded_FHW, last], dim)
    height, width = x_FHW.shape[1:]
    return lambda row, column: padded_FHW[:, row + 1 :][:, :height, column + 1 :][..., :width]


def _gradient(grey_FHW: Tensor) -> tuple[Tensor, Tensor]:
    """3 x 3 Sobel derivatives, int32; the border is repeated."""
    at = _around(grey_FHW)
    corner = at(1, 1) - at(-1, -1)
    other = at(-1, 1) - at(1, -1)
    return corner + other + 2 * (at(0, 1) - at(0, -1)), corner - other + 2 * (at(1, 0) - at(-1, 0))


def _magnitude(dx_FHW: Tensor, dy_FHW: Tensor, norm: str) -> Tensor:
    if norm == "l2":
        # A square root of float32 is not always the nearest number; that of float64 comes to it.
        return (dx_FHW * dx_FHW + dy_FHW * dy_FHW).double().sqrt().float()
    return (dx_FHW.abs() + dy_FHW.abs()).float()


def _bytes(x: Tensor, scale: Tensor | float) -> Tensor:
    """Scaled in float32, rounded, halves to the even number, and cut off at 255; int32."""
    return (x.abs() * scale).round().clamp_max(255).int()


def _sobel(grey_FHW: Tensor, options: EdgeOptions) -> Tensor:
    return _bytes(_magnitude(*_gradient(grey_FHW), options.norm), SOBEL_SCALE).byte()


def _laplacian(grey_FHW: Tensor, options: EdgeOptions) -> Tensor:
    at = _around(grey_FHW)
    corners_FHW = at(-1, -1) + at(-1, 1) + at(1, -1) + at(1, 1)
    return _bytes((2 * corners_FHW - 8 * grey_FHW).float(), LAPLACIAN_SCALE).byte()


def _otsu_high(magnitude_FHW: Tensor) -> Tensor:
    """Otsu's split of the gradient magnitudes of each frame, in their own unit, 0 for a flat one;
    float64 [F], on the CPU: the counts of a frame are few, and its sums go one after the other."""
    top_F = magnitude_FHW.amax((1, 2)).double()
    scale_F = torch.where(top_F > 0, 255 / top_F, 0.0).float()
    binned_FX = _bytes(magnitude_FHW, scale_F[:, None, None]).flatten(1).long()
    counts_FN = torch.zeros(len(binned_FX), BINS, dtype=torch.int64, device=binned_FX.device)
    counts_FN.scatter_add_(1, binned_FX, torch.ones_like(binned_FX))
    found_NF = torch.cat([counts_FN.double(), top_F[:, None]], 1).cpu().numpy().T
    split_F = _otsu_split(found_NF[:BINS], binned_FX.shape[1])
    return torch.from_numpy(split_F * found_NF[BINS] / 255)


def _otsu_split(counts_NF: NDArray[np.float64], pixels: int) -> NDArray[np.float64]:
    """The bin that Otsu's method splits each frame at, 0 where there is none: OpenCV's sums, in its
    order, of all frames at a time."""
    bins_N1 = np.arange(BINS)[:, None]
    shares_NF = counts_NF * (1 / pixels)
    mean_F = (counts_NF * bins_N1).sum(0) * (1 / pixels)
    below_NF = shares_NF.cumsum(0)
    above_NF = 1 - below_NF
    least = np.finfo(np.float32).eps
    both = np.minimum(below_NF, above_NF), np.maximum(below_NF, above_NF)
    # Where one side is empty nothing is divided.
    counts = (both[0] >= least) & (both[1] <= 1 - least)
    mean1_NF, mean1_F = np.empty_like(shares_NF), np.zeros_like(mean_F)
    before_NF = np.concatenate([np.zeros_like(mean_F)[None], below_NF[:-1]])
    weighted_NF, divisors_NF = bins_N1 * shares_NF, np.where(counts, below_NF, 1)
    for i in range(BINS):
        mean1_F = mean1_F * before_NF[i]
        mean1_F = np.where(counts[i], (mean1_F + weighted_NF[i]) / divisors_NF[i], mean1_F)
        mean1_NF[i] = mean1_F
    mean2_NF = (mean_F - below_NF * mean1_NF) / np.where(counts, above_NF, 1)
    apart_NF = mean1_NF - mean2_NF
    between_NF = np.where(counts, below_NF * above_NF * apart_NF * apart_NF, 0)
    return between_NF.argmax(0).astype(np.float64)


def _canny(grey_FHW: Tensor, options: EdgeOptions) -> Tensor:
    dx_FHW, dy_FHW = _gradient(grey_FHW)
    if options.high:
        high_F = torch.full((len(dx_FHW),), options.high, dtype=torch.float64)
    else:
        high_F = _otsu_high(_magnitude(dx_FHW, dy_FHW, options.norm)).clamp_min(options.min_high)
    limits_2F = torch.stack([high_F, options.low_high_ratio * high_F])
    if options.norm == "l2":
        # OpenCV compares squares of lengths, as whole numbers.
        limits_2F = limits_2F.clamp_max(32767).square()
        steep_FHW = dx_FHW * dx_FHW + dy_FHW * dy_FHW
    else:
        steep_FHW = dx_FHW.abs() + dy_FHW.abs()
    limits_2F = limits_2F.floor().clamp_max(torch.iinfo(torch.int32).max)
    high_F11, low_F11 = limits_2F.to(dx_FHW.device, torch.int32)[..., None, None]
    thin_FHW = (steep_FHW > low_F11) & _is_maximum(steep_FHW, dx_FHW, dy_FHW)
    return _followed(thin_FHW & (steep_FHW > high_F11), thin_FHW).byte() * 255


def _is_maximum(steep_FHW: Tensor, dx_FHW: Tensor, dy_FHW: Tensor) -> Tensor:
    """Whether no neighbour across the edge is steeper; of two equal ones the first counts."""
    at = _around(steep_FHW, 0)
    x_FHW, y_FHW = dx_FHW.abs(), dy_FHW.abs() << 15
    level_FHW = x_FHW * TAN_22
    across_FHW = (steep_FHW > at(0, -1)) & (steep_FHW >= at(0, 1))
    down_FHW = (steep_FHW > at(-1, 0)) & (steep_FHW >= at(1, 0))
    falling_FHW = (steep_FHW > at(-1, -1)) & (steep_FHW > at(1, 1))
    rising_FHW = (steep_FHW > at(-1, 1)) & (steep_FHW > at(1, -1))
    diagonal_FHW = torch.where((dx_FHW ^ dy_FHW) < 0, rising_FHW, falling_FHW)
    steeper_FHW = y_FHW > level_FHW + (x_FHW << 16)
    return torch.where(
        y_FHW < level_FHW, across_FHW, torch.where(steeper_FHW, down_FHW, diagonal_FHW)
    )


def _followed(found_FHW: Tensor, thin_FHW: Tensor) -> Tensor:
    """Those of `thin` that hang together with one of `found` (8 neighbours)."""
    thin_F1HW, now_F1HW = thin_FHW[:, None].float(), found_FHW[:, None].float()
    while True:
        before_F1HW = now_F1HW
        for _ in range(FOLLOWED):
            now_F1HW = F.max_pool2d(now_F1HW, 3, 1, 1) * thin_F1HW
        if torch.equal(now_F1HW, before_F1HW):
            return now_F1HW[:, 0].bool()


# Methods of `videorwkv.preprocess.edges.EDGE_METHODS` that there are here; `scattered` draws by a
# generator of NumPy.
ON_DEVICE: dict[str, Callable[[Tensor, EdgeOptions], Tensor]] = {
    "canny": _canny,
    "sobel": _sobel,
    "laplacian": _laplacian,
}


def resize_on_device(frames_FHWC: Tensor, size: int) -> Tensor:
    """As `videorwkv.preprocess.inputs.resize`, to the pixel: stretched where H and W differ.

    Args:
        frames_FHWC: RGB, uint8, [F, H, W, 3].
        size: S.

    Returns:
        uint8 [F, S, S, 3], on the device of the frames.
    """
    height, width = frames_FHWC.shape[1:3]
    if (height, width) == (size, size):
        return frames_FHWC
    if min(height, width) <= size:
        return _linear(frames_FHWC, size)
    if height % size == 0 and width % size == 0:
        return _blocks(frames_FHWC, size)
    return _area(frames_FHWC, size)


def _blocks(frames_FHWC: Tensor, size: int) -> Tensor:
    """INTER_AREA where a whole number of pixels becomes one: their mean."""
    rows, columns = frames_FHWC.shape[1] // size, frames_FHWC.shape[2] // size
    parts = frames_FHWC.unflatten(1, (size, rows)).unflatten(3, (size, columns))
    sums_FSSC = parts.sum((2, 4), dtype=torch.int32)
    if (rows, columns) == (2, 2):  # OpenCV rounds these up at one half
        return ((sums_FSSC + 2) >> 2).byte()
    return (sums_FSSC.float() * torch.tensor(1 / (rows * columns)).float()).round().byte()


class _Taps(NamedTuple):
    """Which pixels along a dimension make each new one: places and weights, [S, K]; K the most that
    make one, and those of weight 0 count nothing."""

    places_SK: Tensor
    weights_SK: Tensor


@functools.lru_cache(maxsize=64)
def _area_taps(length: int, size: int, device: torch.device) -> _Taps:
    """Every pixel counts by how much of it lies in the new one; float32."""
    scale = length / size
    taps = []
    for to in range(size):
        begin, cell = to * scale, min(scale, length - to * scale)
        end = begin + scale
        last = min(math.floor(end), length - 1)
        first = min(math.ceil(begin), last)
        own = []
        if first - begin > 1e-3:
            own.append((first - 1, (first - begin) / cell))
        own += [(place, 1 / cell) for place in range(first, last)]
        if end - last > 1e-3:
            own.append((last, min(end - last, 1.0, cell) / cell))
        taps.append(own)
    most = max(map(len, taps))
    filled = [own + [(own[-1][0], 0.0)] * (most - len(own)) for own in taps]
    table_SK2 = torch.tensor(filled, dtype=torch.float64)
    return _Taps(table_SK2[..., 0].long().to(device), table_SK2[..., 1].float().to(device))


def _area(frames_FHWC: Tensor, size: int) -> Tensor:
    """INTER_AREA, first along rows, then along columns."""
    (height, width), device = frames_FHWC.shape[1:3], frames_FHWC.device
    across_FHSC = _tapped(frames_FHWC.float(), _area_taps(width, size, device), dim=2)
    both_FSSC = _tapped(across_FHSC, _area_taps(height, size, device), dim=1)
    return both_FSSC.round().byte()


def _tapped(x_FHWC: Tensor, taps: _Taps, dim: int) -> Tensor:
    """The sums along a dimension, one tap after the other, each product rounded."""
    shape = [1, -1, 1, 1] if dim == 1 else [1, 1, -1, 1]
    total: Tensor | None = None
    for places_S, weights_S in zip(taps.places_SK.T, taps.weights_SK.T, strict=True):
        part = x_FHWC.index_select(dim, places_S) * weights_S.view(shape)
        total = part if total is None else total + part
    assert total is not None
    return total


@functools.lru_cache(maxsize=64)
def _linear_taps(length: int, size: int, is_across: bool, device: torch.device) -> _Taps:
    """Two neighbours, weights in 1/2048, int32. At the border OpenCV gives a column one weight of
    1, and a row two that make 1."""
    # In float32, as OpenCV.
    place_S = ((torch.arange(size, dtype=torch.float64) + 0.5) * (length / size) - 0.5).float()
    near_S = place_S.floor()
    rest_S = place_S - near_S
    if is_across:
        rest_S = torch.where((near_S < 0) | (near_S >= length - 1), 0.0, rest_S)
    weights_SK = (torch.stack([1 - rest_S, rest_S], 1) * 2048).round().int()
    places_SK = torch.stack([near_S, near_S + 1], 1).clamp(0, length - 1).long()
    return _Taps(places_SK.to(device), weights_SK.to(device))


def _linear(frames_FHWC: Tensor, size: int) -> Tensor:
    """INTER_LINEAR, in OpenCV's fixed point."""
    (height, width), device = frames_FHWC.shape[1:3], frames_FHWC.device
    across = _linear_taps(width, size, True, device)
    rows_FHSC = _tapped(frames_FHWC.int(), across, dim=2) >> 4
    down = _linear_taps(height, size, False, device)
    parts = [
        (rows_FHSC.index_select(1, places_S) * weights_S[:, None, None]) >> 16
        for places_S, weights_S in zip(down.places_SK.T, down.weights_SK.T, strict=True)
    ]
    return ((parts[0] + parts[1] + 2) >> 2).clamp(0, 255).byte()
