"""Pictures of a decoder -> upright RGB images. H height, W width, C = 3 (RGB)."""

from __future__ import annotations

from typing import Any

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from videorwkv.errors import DecodeError

# PyAV would otherwise start as many threads as there are cores, anew for every reformatter.
ONE_THREAD: dict[str, Any] = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}


class ToImage:
    """Converts the pictures of one stream, in any order.

    One reformatter serves all of them: making one for each picture, as `to_ndarray(format="rgb24")`
    does in many versions of PyAV, halves the speed of reading a whole file.

    Args:
        name: what messages call the video.
        one_size: give all pictures the size of the first, as those of a clip.
    """

    def __init__(self, name: str, *, one_size: bool = True) -> None:
        self._name = name
        self._one_size = one_size
        self._reformatter = VideoReformatter()
        self._matrix: NDArray[np.int32] | None = None
        self._size: tuple[int, int] | None = None

    def __call__(self, picture: av.VideoFrame) -> NDArray[np.uint8]:
        """uint8 RGB [H, W, 3], upright; its rows may lie apart in memory.

        Raises:
            DecodeError: FFmpeg can't convert such colours to RGB.
        """
        if self._matrix is None:
            self._matrix = display_matrix(picture)
            self._size = (picture.width, picture.height)
        try:
            rgb = self._reformatter.reformat(picture, format="rgb24", **ONE_THREAD)
        except av.FFmpegError as error:
            # Some colour matrices, `ICtCp` and `YCgCo-R` among them, are beyond it.
            raise DecodeError(
                f"{self._name}: its colours ({picture.format.name}, matrix "
                f"{int(picture.colorspace)}) can't be converted to RGB: {error.strerror}."
            ) from error
        plane = rgb.planes[0]
        # A view, not a copy: whoever takes the image makes it smaller or stacks it anyway.
        image_HWC: NDArray[np.uint8] = np.ndarray(
            (rgb.height, rgb.width, 3), np.uint8, memoryview(plane), strides=(plane.line_size, 3, 1)
        )
        if self._one_size and (picture.width, picture.height) != self._size:
            # Some streams change their resolution on the way; a clip has one size, the first.
            image_HWC = cv2.resize(image_HWC, self._size, interpolation=cv2.INTER_AREA)
        return upright(image_HWC, self._matrix)


def display_matrix(picture: av.VideoFrame) -> NDArray[np.int32]:
    """The container's display transform [[a, b], [c, d]]; the identity where there is none."""
    # `picture.side_data` would make the two refer to each other, and the picture's memory stay
    # until Python looks for such circles.
    side_data = SideDataContainer(picture).get("DISPLAYMATRIX")  # type: ignore[call-arg]
    if side_data is None:
        return np.array([[1, 0], [0, 1]], np.int32)
    return np.frombuffer(bytes(side_data), np.int32).reshape(3, 3)[:2, :2]


def upright(image_HWC: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The image as it is meant to be seen, quarter turns and mirrors only.

    A stored point (x, y) is shown at (a x + c y, b x + d y). `VideoFrame.rotation` gives the angle
    alone; a mirrored recording would keep its mirror, and with it the wrong hand.
    """
    (a, b), (c, d) = matrix.tolist()
    if a > 0 and d > 0 and b == c == 0:
        return image_HWC
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
