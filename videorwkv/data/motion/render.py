"""How the frames of the generated data set are painted. H height, W width, C = 3 (RGB)."""

from __future__ import annotations

from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

# Diameter of the subject as a fraction of the frame's side.
SIZE_LOW, SIZE_HIGH = 0.3, 0.8
# Standard deviation of the textures in grey levels; the ground is the softer one.
CONTRAST = (28.0, 55.0)
GROUND_CONTRAST = (10.0, 30.0)

_OUTLINES = ("disc", "square", "blob")
# Standard normal quantiles of the 256 byte values: random bytes become Gaussian noise by a look-up.
_QUANTILES = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)])
_INVERSE = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


class Scenery:
    """What a clip shows: a subject over a ground, both drawn from `rng`.

    Args:
        rng: draws the same number of values whatever comes out.
        size: height and width of the frames in pixels.
    """

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        light = rng.uniform(95, 160)
        ground_HWC = texture(rng, size, light=light, contrast=rng.uniform(*GROUND_CONTRAST))
        # Twice the period each way, so that every window of the torus lies in one piece.
        self._ground_HWC = np.tile(ground_HWC, (2, 2, 1))
        self._subject = subject(rng, size, light=light, contrast=rng.uniform(*CONTRAST))
        self._size = size

    def draw(
        self,
        place: NDArray[np.float64],
        angle: float,
        zoom: float,
        ground: NDArray[np.float64],
        out_HWC: NDArray[np.uint8],
    ) -> None:
        """One frame without its noise; arguments as of `Motion`, at one moment."""
        # The subject is drawn in the middle, over a ground shifted against its place; rolling the
        # finished frame then takes both where they belong, across the borders of the torus.
        size = self._size
        place = place * size
        whole = np.floor(place).astype(int)
        x, y = (whole - ground * size) % size + (size - 1) / 2
        image_HWC = cv2.getRectSubPix(self._ground_HWC, (size, size), (float(x), float(y)))
        diameter = SIZE_LOW * (SIZE_HIGH / SIZE_LOW) ** zoom * size
        draw_subject(image_HWC, *self._subject, place - whole, angle, diameter)
        roll(image_HWC, whole[0], whole[1], out_HWC)


def texture(
    rng: np.random.Generator, size: int, *, light: float, contrast: float
) -> NDArray[np.uint8]:
    """Soft noise of three octaves with a random tint, periodic in both directions: [H, W, 3]."""
    total_HWC = np.zeros((size, size, 3), np.float32)
    for cells, weight in ((3, 0.8), (6, 0.7), (12, 0.5)):
        # Mostly grey: one shared channel and a little of each colour's own.
        grey = rng.standard_normal((cells, cells, 1), dtype=np.float32)
        colour = rng.standard_normal((cells, cells, 3), dtype=np.float32)
        grid_HWC = weight * (0.85 * grey + 0.5 * colour)
        scale = cells / size
        total_HWC += cv2.warpAffine(
            grid_HWC,
            np.array([[scale, 0, 0], [0, scale, 0]]),
            (size, size),
            flags=_INVERSE,
            borderMode=cv2.BORDER_WRAP,
        )
    tint = rng.uniform(-35, 35, size=3).astype(np.float32)
    total_HWC *= contrast
    total_HWC += light + tint
    return np.clip(total_HWC, 16, 239).astype(np.uint8)


def subject(
    rng: np.random.Generator, size: int, *, light: float, contrast: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Colour times cover, and cover (0 to 255), both [S, S, 3]; nothing touches the border."""
    side = max(16, round(size * SIZE_HIGH))
    level = light + rng.choice((-1, 1)) * rng.uniform(15, 45)
    texture_HWC = texture(rng, side, light=level, contrast=contrast)
    outline = _OUTLINES[rng.integers(len(_OUTLINES))]
    # Drawn for every outline, so that what follows does not depend on which one it was.
    bumps = rng.uniform(0, 1, size=(2, 4))

    axis = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    radius_HW = np.hypot(axis[:, None], axis[None])
    if outline == "disc":
        inside_HW = 0.9 - radius_HW
    elif outline == "square":
        inside_HW = 0.68 - np.maximum(abs(axis[:, None]), abs(axis[None]))
    else:
        angle_HW = np.arctan2(axis[:, None], axis[None])
        rim_HW = np.full_like(angle_HW, 0.7)
        for lobes, (height, phase) in enumerate(bumps.T, start=2):
            rim_HW += 0.05 * height * np.cos(lobes * angle_HW + 2 * np.pi * phase)
        inside_HW = rim_HW - radius_HW
    # One pixel of soft edge, against stairs.
    alpha_HW = np.clip(inside_HW * side / 2 + 0.5, 0, 1) * 255
    alpha_HWC = np.repeat(alpha_HW.astype(np.uint8)[..., None], 3, axis=2)
    return cv2.multiply(texture_HWC, alpha_HWC, scale=1 / 255), alpha_HWC


def draw_subject(
    image_HWC: NDArray[np.uint8],
    colour_HWC: NDArray[np.uint8],
    alpha_HWC: NDArray[np.uint8],
    offset: NDArray[np.float64],
    turns: float,
    diameter: float,
) -> None:
    """Lays the subject over the middle of the image, in place.

    `offset` is in pixels from the middle (x, y), `turns` is clockwise, `diameter` is in pixels.
    """
    size = len(image_HWC)
    side = min(size, int(diameter) + 4)
    corner = (size - side) // 2
    # From a pixel of the window to one of the subject.
    x, y = offset + (size - 1) / 2 - corner
    scale = len(colour_HWC) / diameter
    cos, sin = np.cos(2 * np.pi * turns) * scale, np.sin(2 * np.pi * turns) * scale
    middle = (len(colour_HWC) - 1) / 2
    matrix = np.array(
        [[cos, sin, middle - cos * x - sin * y], [-sin, cos, middle + sin * x - cos * y]]
    )
    colour_HWC = cv2.warpAffine(colour_HWC, matrix, (side, side), flags=_INVERSE)
    alpha_HWC = cv2.warpAffine(alpha_HWC, matrix, (side, side), flags=_INVERSE)
    window_HWC = image_HWC[corner : corner + side, corner : corner + side]
    hidden_HWC = cv2.multiply(window_HWC, alpha_HWC, scale=1 / 255)
    window_HWC[:] = cv2.add(cv2.subtract(window_HWC, hidden_HWC), colour_HWC)


def roll(image_HWC: NDArray[np.uint8], x: int, y: int, out_HWC: NDArray[np.uint8]) -> None:
    """`np.roll` along both axes at once; 0 <= x, y < size."""
    height, width = image_HWC.shape[:2]
    out_HWC[y:, x:] = image_HWC[: height - y, : width - x]
    out_HWC[y:, :x] = image_HWC[: height - y, width - x :]
    out_HWC[:y, x:] = image_HWC[height - y :, : width - x]
    out_HWC[:y, :x] = image_HWC[height - y :, width - x :]


def add_noise(
    frames_THWC: NDArray[np.uint8], deviation: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Gaussian noise of its own in every pixel of every frame."""
    offset = int(np.ceil(3 * deviation))
    table = np.clip(np.rint(offset + deviation * _QUANTILES), 0, 255).astype(np.uint8)
    flat = frames_THWC.reshape(len(frames_THWC), -1)
    words = rng.integers(0, 2**64 - 1, -(-flat.size // 8), dtype=np.uint64, endpoint=True)
    # '<u8': the same bytes on every machine.
    dice = words.astype("<u8", copy=False).view(np.uint8)[: flat.size].reshape(flat.shape)
    noisy = cv2.subtract(cv2.add(flat, cv2.LUT(dice, table)), (offset, 0, 0, 0))
    return noisy.reshape(frames_THWC.shape)
