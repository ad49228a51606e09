"""RandAugment (Cubuk et al., arXiv 1909.13719) on clips: operations at random, each the same for
all frames. T frames, H height, W width, C = 3 (RGB), all uint8.

The operations and their ranges are those of torchvision's `RandAugment`, with two differences: what
comes in at a border is a reflection of the frame, since an even border would be an edge that is
nothing in the video; and what depends on the picture (contrast, histograms) is taken from the whole
clip, since it would flicker otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# The largest magnitude, at which each operation reaches the end of its range.
MOST = 30.0
# Of the frame's side, at that magnitude.
_SHIFT = 150 / 331
_SHEAR, _DEGREES, _FACTOR, _BITS = 0.3, 30.0, 0.9, 4
_GREY = np.array([0.299, 0.587, 0.114])


class Operation(NamedTuple):
    """One of `OPERATIONS`, and how strong it is: in [-1, 1], or [0, 1] without a direction."""

    name: str
    strength: float


OPERATIONS = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness",
    "saturation", "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip
_UNSIGNED = ("posterize", "solarize")


def draw_operations(
    rng: np.random.Generator, count: int, magnitude: float
) -> tuple[Operation, ...]:
    """`count` operations, each any of `OPERATIONS`, of one magnitude in [0, `MOST`]."""
    drawn = []
    for number, sign in zip(
        rng.integers(len(OPERATIONS), size=count), rng.choice((-1, 1), size=count), strict=True
    ):
        name = OPERATIONS[number]
        strength = magnitude / MOST * (1 if name in _UNSIGNED else sign)
        drawn.append(Operation(name, float(strength)))
    return tuple(drawn)


def apply_operation(frames_THWC: NDArray[np.uint8], operation: Operation) -> NDArray[np.uint8]:
    """All frames after one operation; those given are not changed."""
    name, strength = operation
    if name == "identity":
        return frames_THWC
    if name in ("shear_x", "shear_y", "translate_x", "translate_y", "rotate"):
        return _move(frames_THWC, name, strength)
    if name == "sharpness":
        return _sharpen(frames_THWC, 1 + _FACTOR * strength)
    if name in ("brightness", "saturation", "contrast"):
        return _recolour(frames_THWC, name, 1 + _FACTOR * strength)
    return _look_up(frames_THWC, _table(frames_THWC, name, strength))


def _move(frames_THWC: NDArray[np.uint8], name: str, strength: float) -> NDArray[np.uint8]:
    height, width = frames_THWC.shape[1:3]
    # Pixel centres have whole coordinates.
    x, y = (width - 1) / 2, (height - 1) / 2
    matrix = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    if name == "rotate":
        matrix = cv2.getRotationMatrix2D((x, y), _DEGREES * strength, 1.0)
    elif name == "shear_x":
        matrix[0, 1:] = _SHEAR * strength, -_SHEAR * strength * y
    elif name == "shear_y":
        matrix[1, 0], matrix[1, 2] = _SHEAR * strength, -_SHEAR * strength * x
    elif name == "translate_x":
        matrix[0, 2] = round(_SHIFT * strength * width)
    else:
        matrix[1, 2] = round(_SHIFT * strength * height)
    moved = [
        cv2.warpAffine(
            frame_HWC,
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        for frame_HWC in frames_THWC
    ]
    return np.stack(moved).astype(np.uint8, copy=False)


def _recolour(frames_THWC: NDArray[np.uint8], name: str, factor: float) -> NDArray[np.uint8]:
    flat = frames_THWC.reshape(-1, frames_THWC.shape[2], 3)
    matrix = np.hstack([factor * np.eye(3), np.zeros((3, 1))])
    if name == "saturation":
        matrix[:, :3] += (1 - factor) * _GREY[None]
    elif name == "contrast":
        matrix[:, 3] = (1 - factor) * float(np.dot(cv2.mean(flat)[:3], _GREY))
    return cv2.transform(flat, matrix).reshape(frames_THWC.shape)


def _sharpen(frames_THWC: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """Away from a blurred copy; at the border, as it is."""
    kernel = np.ones((3, 3), np.float32)
    kernel[1, 1] = 5
    result = frames_THWC.copy()
    for frame_HWC, out_HWC in zip(frames_THWC, result, strict=True):
        blurred = cv2.filter2D(frame_HWC, -1, kernel / 13)
        mixed = cv2.addWeighted(frame_HWC, factor, blurred, 1 - factor, 0)
        out_HWC[1:-1, 1:-1] = mixed[1:-1, 1:-1]
    return result


def _table(frames_THWC: NDArray[np.uint8], name: str, strength: float) -> NDArray[np.uint8]:
    """New values of each colour, uint8 [256, 3]."""
    values = np.arange(256)
    if name == "posterize":
        kept = 8 - round(_BITS * strength)
        table = values & (256 - (1 << (8 - kept)))
        return np.repeat(table[:, None], 3, axis=1).astype(np.uint8)
    if name == "solarize":
        table = np.where(values >= 255 * (1 - strength), 255 - values, values)
        return np.repeat(table[:, None], 3, axis=1).astype(np.uint8)
    columns = []
    for channel in range(3):
        count_256 = np.bincount(frames_THWC[..., channel].ravel(), minlength=256)
        columns.append(_stretched(count_256) if name == "autocontrast" else _equalized(count_256))
    return np.stack(columns, axis=1).astype(np.uint8)


def _stretched(count_256: NDArray[np.int64]) -> NDArray[np.int64]:
    present = np.flatnonzero(count_256)
    low, high = int(present[0]), int(present[-1])
    if low == high:
        return np.arange(256)
    return np.clip((np.arange(256) - low) * 255 / (high - low), 0, 255).astype(np.int64)


def _equalized(count_256: NDArray[np.int64]) -> NDArray[np.int64]:
    """As in Pillow and torchvision: the brightest value does not count in the step."""
    present = np.flatnonzero(count_256)
    step = (count_256.sum() - count_256[present[-1]]) // 255
    if step == 0:
        return np.arange(256)
    below = np.concatenate([[0], np.cumsum(count_256)[:-1]])
    return np.clip((below + step // 2) // step, 0, 255)


def _look_up(frames_THWC: NDArray[np.uint8], table_256C: NDArray[np.uint8]) -> NDArray[np.uint8]:
    flat = frames_THWC.reshape(-1, frames_THWC.shape[2], 3)
    return cv2.LUT(flat, table_256C[None]).reshape(frames_THWC.shape)
