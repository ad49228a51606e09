"""Graded edges: the absolute Laplacian, without direction. H height, W width."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from videorwkv.preprocess.edge_options import EdgeOptions

# Fixed for the reason given in sobel.py. On real video 99.9 % of the values stay below 152.
SCALE = 1.5


def laplacian(grey_HW: NDArray[np.uint8], options: EdgeOptions) -> NDArray[np.uint8]:
    """Absolute 3x3 Laplacian times `SCALE`, cut off at 255, of one grey, already blurred frame.

    Args:
        grey_HW: uint8 [H, W].
        options: unused here; every extractor has the same signature.

    Returns:
        uint8 [H, W].
    """
    second_HW = cv2.Laplacian(grey_HW, cv2.CV_16S, ksize=3, borderType=cv2.BORDER_REPLICATE)
    return cv2.convertScaleAbs(second_HW, alpha=SCALE)
