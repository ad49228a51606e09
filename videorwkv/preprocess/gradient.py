"""The image gradient that Canny and Sobel share. H height, W width."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def gradient(grey_HW: NDArray[np.uint8]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Horizontal and vertical 3x3 Sobel derivative of a grey frame, int16 [H, W] each.

    A sharp step of one grey level gives 4. The border is repeated, as `cv2.Canny` does by itself.
    """
    dx_HW, dy_HW = cv2.spatialGradient(grey_HW, ksize=3, borderType=cv2.BORDER_REPLICATE)
    return dx_HW, dy_HW


def magnitude(dx_HW: NDArray[np.int16], dy_HW: NDArray[np.int16], norm: str) -> NDArray[np.float32]:
    """|dx| + |dy| for `l1`, the Euclidean length for `l2`; float32 [H, W]."""
    dx_HW, dy_HW = dx_HW.astype(np.float32), dy_HW.astype(np.float32)
    if norm == "l2":
        return cv2.magnitude(dx_HW, dy_HW)
    return np.abs(dx_HW) + np.abs(dy_HW)
