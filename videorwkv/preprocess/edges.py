"""Frames -> edge maps. T frames, H height, W width, C = 3 (RGB).

A frame becomes grey and is blurred; then one of `EDGE_METHODS` makes its edge map. To add one: a
function from a grey, blurred frame [H, W] and `EdgeOptions` to a uint8 map [H, W], and its line in
`EDGE_METHODS`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import ConfigError, UsageError, did_you_mean

Extractor = Callable[[NDArray[np.uint8], "EdgeOptions"], NDArray[np.uint8]]

# A fixed factor, so that a map says the same in every frame. On real video 99.9 % of the gradients
# stay below 450, and 510 becomes 255; what lies above saturates.
SOBEL_SCALE = 0.5
# Fixed for the same reason. On real video 99.9 % of the values stay below 152.
LAPLACIAN_SCALE = 1.5


@dataclass(frozen=True, kw_only=True)
class EdgeOptions:
    """How edge maps are made; stored in a model's configuration and checkpoint, because another
    choice gives another map: OpenCV's L1 and L2 gradient norms agree on 3 of 4 edge pixels only.

    Args:
        high: Canny's high threshold, in the unit of `min_high`, the same for all frames; 0 takes
            Otsu's for each frame.
        blur_size: side of the Gaussian kernel in pixels, odd; 1 is no blur.
        blur_sigma: its standard deviation in pixels; 0 derives it from `blur_size` as OpenCV does.
        norm: norm of the gradient, `l1` (|dx| + |dy|) or `l2`.
        low_high_ratio: Canny's low threshold as a fraction of its high one, in (0, 1].
        min_high: floor of Canny's high threshold, in the gradient's unit: 3x3 Sobel in `norm`, so a
            sharp step of one grey level counts 4. Otsu always splits, even pure sensor noise; below
            this floor a gradient is noise, so near-black and flat frames give an empty map.
    """

    high: float = 0.0
    blur_size: int = 5
    blur_sigma: float = 0.0
    norm: Literal["l1", "l2"] = "l2"
    low_high_ratio: float = 0.5
    min_high: float = 12.0

    def __post_init__(self) -> None:
        if self.blur_size < 1 or self.blur_size % 2 == 0:
            raise ConfigError(
                f"EdgeOptions: blur_size ({self.blur_size}) must be odd and at least 1; 5 is usual."
            )
        if self.blur_sigma < 0:
            raise ConfigError(f"EdgeOptions: blur_sigma ({self.blur_sigma}) must be 0 or more.")
        if self.norm not in ("l1", "l2"):
            raise ConfigError(f"EdgeOptions: norm ({self.norm!r}) must be 'l1' or 'l2'.")
        if not 0 < self.low_high_ratio <= 1:
            raise ConfigError(
                f"EdgeOptions: low_high_ratio ({self.low_high_ratio}) must lie in (0, 1]."
            )
        if self.high < 0:
            raise ConfigError(f"EdgeOptions: high ({self.high}) must be 0 or more.")
        if self.min_high < 0:
            raise ConfigError(f"EdgeOptions: min_high ({self.min_high}) must be 0 or more.")


DEFAULT_OPTIONS = EdgeOptions()


def edge_map(
    frames_THWC: NDArray[np.uint8], method: str = "canny", options: EdgeOptions = DEFAULT_OPTIONS
) -> NDArray[np.uint8]:
    """The edges of each frame: grey, Gaussian blur, extractor.

    Args:
        frames_THWC: RGB, uint8, [T, H, W, 3], or one frame [H, W, 3].
        method: a name in `EDGE_METHODS`. `canny` is 0 or 255, `sobel` and `laplacian` are graded,
            `scattered` has as many edge pixels as `canny` at random places, `none` is zero.
        options: blur, norm and thresholds.

    Returns:
        uint8 [T, H, W], or [H, W] for one frame.

    Raises:
        UsageError: unknown method, or not uint8 RGB frames.
    """
    if method not in EDGE_METHODS:
        raise UsageError(f"Unknown edge method {method!r}. {did_you_mean(method, EDGE_METHODS)}")
    check_frames(frames_THWC, "edge_map")
    if frames_THWC.ndim == 3:
        return edge_map(frames_THWC[None], method, options)[0]
    extract = EDGE_METHODS[method]
    edges_THW = np.zeros(frames_THWC.shape[:3], np.uint8)
    if extract is None:
        return edges_THW
    for frame_HWC, edges_HW in zip(frames_THWC, edges_THW, strict=True):
        grey_HW = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY)
        if options.blur_size > 1:
            side = options.blur_size
            grey_HW = cv2.GaussianBlur(grey_HW, (side, side), options.blur_sigma)
        edges_HW[:] = extract(grey_HW, options)
    return edges_THW


def check_frames(frames: Any, who: str) -> None:
    """`UsageError` that begins with `who` unless they are RGB, uint8, [T, H, W, 3] or [H, W, 3]."""
    got = type(frames).__name__
    if isinstance(frames, np.ndarray):
        shape = frames.shape
        is_rgb = len(shape) in (3, 4) and shape[-1] == 3 and 0 not in shape[-3:]
        if is_rgb and frames.dtype == np.uint8:
            return
        got = f"{frames.dtype} {list(shape)}"
    raise UsageError(
        f"{who}: got {got}; wanted: RGB frames, a NumPy array of uint8 [T, H, W, 3] or [H, W, 3]. "
        "Open a file with videorwkv.open_video; convert a tensor with .cpu().numpy()."
    )


def canny(grey_HW: NDArray[np.uint8], options: EdgeOptions) -> NDArray[np.uint8]:
    """Canny edges of one grey, already blurred frame: 255 on an edge, 0 elsewhere.

    The high threshold is `options.high`, or Otsu's split of the frame's gradient magnitudes, but at
    least `options.min_high`; the low one is `options.low_high_ratio` of it (J. Canny, 1986; N.
    Otsu, 1979).

    Args:
        grey_HW: uint8 [H, W].
        options: norm, ratio and floor.

    Returns:
        uint8 [H, W].
    """
    dx_HW, dy_HW = gradient(grey_HW)
    high = options.high
    if not high:
        high = max(otsu_high(magnitude(dx_HW, dy_HW, options.norm)), options.min_high)
    return cv2.Canny(
        dx_HW, dy_HW, options.low_high_ratio * high, high, L2gradient=options.norm == "l2"
    )


# Otsu's method is usually run on grey levels and its split taken as a gradient threshold, though
# the two have different units. Compared on 28 real videos (hand washing, fights, Kinetics, SSv2)
# at 224x224 and ratio 0.5, edge density is 6 % in the median for all three variants, but:
# - grey levels: contrast compressed to 100..130 leaves no edge at all, because Otsu returns the
#   *position* of the split; densities of ordinary frames reach from 1 to 12 %;
# - grey levels stretched to the frame's 1st-99th percentile: mends that; 2 to 15 %;
# - gradient magnitudes (this one): washed-out frames have 97 % as many edge pixels in the median
#   (the places shift a little, as 30 grey levels are left), and the density is the evenest, 3 to
#   13.5 %. One unit throughout, no percentiles.
# None of the three survives pure noise, which Otsu splits like anything else (20-30 % edges);
# that takes the floor. Sensor noise of 0..6 grey levels stays below 12, while at a floor of 20
# washed-out frames lose a third of their edges.
def otsu_high(magnitude_HW: NDArray[np.float32]) -> float:
    """Otsu's split of gradient magnitudes, in their own unit; 0 for a flat frame."""
    top = float(magnitude_HW.max())
    if top == 0:
        return 0.0
    # Bins reach to the frame's own maximum: of fixed ones a washed-out frame would fill only few.
    binned_HW = cv2.convertScaleAbs(magnitude_HW, alpha=255 / top)
    split, _ = cv2.threshold(binned_HW, 0, 255, cv2.THRESH_OTSU)
    return split * top / 255


def gradient(grey_HW: NDArray[np.uint8]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Horizontal and vertical 3x3 Sobel derivative of a grey frame, int16 [H, W] each: what Canny
    and Sobel share.

    A sharp step of one grey level gives 4. The border is repeated, as `cv2.Canny` does by itself.
    """
    dx_HW, dy_HW = cv2.spatialGradient(grey_HW, ksize=3, borderType=cv2.BORDER_REPLICATE)
    return dx_HW, dy_HW


def magnitude(dx_HW: NDArray[np.int16], dy_HW: NDArray[np.int16], norm: str) -> NDArray[np.float32]:
    """|dx| + |dy| for `l1`, the Euclidean length for `l2`; float32 [H, W]."""
    dx_HW, dy_HW = dx_HW.astype(np.float32), dy_HW.astype(np.float32)
    if norm == "l2":
        # Not cv2.magnitude, whose square root is rounded by one processor so, by another so.
        return np.sqrt(dx_HW * dx_HW + dy_HW * dy_HW)
    return np.abs(dx_HW) + np.abs(dy_HW)


def sobel(grey_HW: NDArray[np.uint8], options: EdgeOptions) -> NDArray[np.uint8]:
    """Graded edges: the gradient magnitude times `SOBEL_SCALE`, cut off at 255.

    Args:
        grey_HW: uint8 [H, W].
        options: the norm.

    Returns:
        uint8 [H, W].
    """
    dx_HW, dy_HW = gradient(grey_HW)
    return cv2.convertScaleAbs(magnitude(dx_HW, dy_HW, options.norm), alpha=SOBEL_SCALE)


def laplacian(grey_HW: NDArray[np.uint8], options: EdgeOptions) -> NDArray[np.uint8]:
    """Graded edges without direction: the absolute 3x3 Laplacian times `LAPLACIAN_SCALE`, cut off
    at 255.

    Args:
        grey_HW: uint8 [H, W].
        options: unused here; every extractor has the same signature.

    Returns:
        uint8 [H, W].
    """
    second_HW = cv2.Laplacian(grey_HW, cv2.CV_16S, ksize=3, borderType=cv2.BORDER_REPLICATE)
    return cv2.convertScaleAbs(second_HW, alpha=LAPLACIAN_SCALE)


def scattered(grey_HW: NDArray[np.uint8], options: EdgeOptions) -> NDArray[np.uint8]:
    """Canny's edge pixels at random places, the same ones whenever the same frame comes.

    The control of an ablation: as many edge pixels as Canny finds, without their meaning. If a
    model does as well with these, it is not the edges that help.

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


# Each takes one grey, already blurred frame [H, W]; None: no edges at all, the ablation.
EDGE_METHODS: dict[str, Extractor | None] = {
    "canny": canny,
    "sobel": sobel,
    "laplacian": laplacian,
    "scattered": scattered,
    "none": None,
}


def register_edges(extract: Extractor) -> Extractor:
    """Add an edge method of one's own under the function's name; a decorator.

    Every process that builds or reads a model with this method has to run it first: in a file that
    `videorwkv --import FILE` names, or in a module that the program imports.

    Args:
        extract: from one grey, already blurred frame, uint8 [H, W], and `EdgeOptions` to a map of
            uint8 [H, W], 0 (no edge) to 255. A pure function: the same frame gives the same map.

    Raises:
        UsageError: there is another method of this name.
    """
    name = extract.__name__
    if name in EDGE_METHODS:
        raise UsageError(
            f"register_edges: there is an edge method {name!r} already; give the function another "
            "name."
        )
    EDGE_METHODS[name] = extract
    return extract
