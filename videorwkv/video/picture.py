"""A decoder's picture -> an upright RGB image. H height, W width, C = 3 (RGB)."""

from __future__ import annotations

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from videorwkv.video.base import resize_short_side


class ToImage:
    """Converts the pictures of one stream, in any order.

    One reformatter serves all of them: making one for each picture, as `to_ndarray(format="rgb24")`
    does in many versions of PyAV, halves the speed of reading a whole file.

    Args:
        short_side: resizes to this many pixels on the shorter side; None keeps the size.
    """

    def __init__(self, short_side: int | None = None) -> None:
        self._short_side = short_side
        self._reformatter = VideoReformatter()
        self._matrix: NDArray[np.int32] | None = None
        self._size: tuple[int, int] | None = None

    def __call__(self, picture: av.VideoFrame) -> NDArray[np.uint8]:
        """uint8 RGB [H, W, 3], contiguous, upright."""
        if self._matrix is None:
            self._matrix = display_matrix(picture)
            self._size = (picture.width, picture.height)
        image_HWC: NDArray[np.uint8] = np.asarray(
            self._reformatter.reformat(picture, format="rgb24").to_ndarray(), np.uint8
        )
        if (picture.width, picture.height) != self._size:
            # Some streams change their resolution on the way; a clip has one size, the first.
            image_HWC = cv2.resize(image_HWC, self._size, interpolation=cv2.INTER_AREA)
        return upright(resize_short_side(image_HWC, self._short_side), self._matrix)


def display_matrix(picture: av.VideoFrame) -> NDArray[np.int32]:
    """The container's display transform [[a, b], [c, d]]; the identity where there is none."""
    side_data = picture.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return np.array([[1, 0], [0, 1]], np.int32)
    return np.frombuffer(bytes(side_data), np.int32).reshape(3, 3)[:2, :2]


def upright(image_HWC: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The image as it is meant to be seen, quarter turns and mirrors only.

    A stored point (x, y) is shown at (a x + c y, b x + d y). `VideoFrame.rotation` gives the angle
    alone; a mirrored recording would keep its mirror, and with it the wrong hand.
    """
    (a, b), (c, d) = matrix.tolist()
    if abs(b) > abs(a):
        image_HWC = image_HWC.transpose(1, 0, 2)
        flip_x, flip_y = c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    if flip_y:
        image_HWC = image_HWC[::-1]
    if flip_x:
        image_HWC = image_HWC[:, ::-1]
    return np.ascontiguousarray(image_HWC)
