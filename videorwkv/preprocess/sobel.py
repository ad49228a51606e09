"""Graded edges: the length of the Sobel gradient. H height, W width."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from videorwkv.preprocess.edge_options import EdgeOptions
from videorwkv.preprocess.gradient import gradient, magnitude

# A fixed factor, so that a map says the same in every frame. On real video 99.9 % of the gradients
# stay below 450, and 510 becomes 255; what lies above saturates.
SCALE = 0.5


def sobel(grey_HW: NDArray[np.uint8], options: EdgeOptions) -> NDArray[np.uint8]:
    """Gradient magnitude times `SCALE`, cut off at 255, of one grey, already blurred frame.

    Args:
        grey_HW: uint8 [H, W].
        options: the norm.

    Returns:
        uint8 [H, W].
    """
    dx_HW, dy_HW = gradient(grey_HW)
    return cv2.convertScaleAbs(magnitude(dx_HW, dy_HW, options.norm), alpha=SCALE)
