"""Edge maps with nothing in them: as many edge pixels as Canny finds, anywhere. H height, W width.

The control of an ablation: if a model does as well with these, it is not the edges that help.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from videorwkv.preprocess.canny import canny
from videorwkv.preprocess.edge_options import EdgeOptions


def scattered(grey_HW: NDArray[np.uint8], options: EdgeOptions) -> NDArray[np.uint8]:
    """Canny's edge pixels at random places, the same ones whenever the same frame comes.

    Args:
        grey_HW: uint8 [H, W].
        options: Canny's.

    Returns:
        uint8 [H, W], 255 or 0.
    """
    edges_HW = canny(grey_HW, options)
    generator = np.random.default_rng(zlib.crc32(grey_HW.tobytes()))
    generator.shuffle(edges_HW.reshape(-1))
    return edges_HW
