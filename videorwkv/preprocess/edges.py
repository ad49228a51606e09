"""Frames -> edge maps. T frames, H height, W width, C = 3 (RGB)."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import UsageError, did_you_mean
from videorwkv.preprocess.canny import canny
from videorwkv.preprocess.edge_options import EdgeOptions as EdgeOptions
from videorwkv.preprocess.laplacian import laplacian
from videorwkv.preprocess.scattered import scattered
from videorwkv.preprocess.sobel import sobel


def _none(grey_HW: NDArray[np.uint8], options: EdgeOptions) -> NDArray[np.uint8]:
    """No edges at all: the ablation."""
    return np.zeros_like(grey_HW)


Extractor = Callable[[NDArray[np.uint8], EdgeOptions], NDArray[np.uint8]]

# Each takes one grey, already blurred frame [H, W].
EDGE_METHODS: dict[str, Extractor] = {
    "canny": canny,
    "sobel": sobel,
    "laplacian": laplacian,
    "scattered": scattered,
    "none": _none,
}

_DEFAULTS = EdgeOptions()


def edge_map(
    frames_THWC: NDArray[np.uint8], method: str = "canny", options: EdgeOptions = _DEFAULTS
) -> NDArray[np.uint8]:
    """The edges of each frame: grey, Gaussian blur, extractor.

    Args:
        frames_THWC: RGB, uint8, [T, H, W, 3], or one frame [H, W, 3].
        method: a name in `EDGE_METHODS`. `canny` is 0 or 255, `sobel` and `laplacian` are graded,
            `scattered` is as dense as `canny` and means nothing, `none` is zero everywhere.
        options: blur, norm and thresholds.

    Returns:
        uint8 [T, H, W], or [H, W] for one frame.

    Raises:
        UsageError: unknown method, or not uint8 RGB frames.
    """
    if method not in EDGE_METHODS:
        raise UsageError(f"Unknown edge method {method!r}. {did_you_mean(method, EDGE_METHODS)}")
    if not isinstance(frames_THWC, np.ndarray):
        raise UsageError(
            f"edge_map: frames must be a NumPy array; got {type(frames_THWC).__name__}. "
            "Move a tensor with .cpu().numpy() first."
        )
    if (
        frames_THWC.dtype != np.uint8
        or frames_THWC.ndim not in (3, 4)
        or frames_THWC.shape[-1] != 3
        or 0 in frames_THWC.shape[-3:]
    ):
        raise UsageError(
            "edge_map: frames must be RGB uint8, [T, H, W, 3] or [H, W, 3]; got "
            f"{list(frames_THWC.shape)} {frames_THWC.dtype}."
        )
    if frames_THWC.ndim == 3:
        return edge_map(frames_THWC[None], method, options)[0]
    extract = EDGE_METHODS[method]
    edges_THW = np.zeros(frames_THWC.shape[:3], np.uint8)
    if method == "none":
        return edges_THW
    for frame_HWC, edges_HW in zip(frames_THWC, edges_THW, strict=True):
        grey_HW = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY)
        if options.blur_size > 1:
            side = options.blur_size
            grey_HW = cv2.GaussianBlur(grey_HW, (side, side), options.blur_sigma)
        edges_HW[:] = extract(grey_HW, options)
    return edges_THW
