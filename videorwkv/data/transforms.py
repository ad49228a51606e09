"""Augmentation and views of decoded frames. T frames, H height, W width, C = 3 (RGB), all uint8.

One draw serves all frames of a clip: what differs between frames must be motion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from videorwkv.data.rand_augment import MOST, Operation, apply_operation, draw_operations
from videorwkv.data.torchvision_transforms import apply_transforms, parse_calls
from videorwkv.errors import ConfigError
from videorwkv.preprocess.inputs import Box, FrameFit, fit_box, fit_image, resize

# Rec. 601 luma, as OpenCV's grey.
_LUMA = np.array([0.299, 0.587, 0.114])


class Draw(NamedTuple):
    """What `Augmentation.draw` has drawn for one clip, whatever the size of its frames.

    Args:
        size: side of the result in pixels.
        areas, ratios: ten crops to try: fraction of the frame's area, and width / height, with
            `frame_fit='stretch'` as a multiple of the frame's own.
        places: of the crop, from top to bottom and from left to right, in [0, 1).
        colours: factors on brightness, contrast and saturation.
        tint: factor on each colour, [3], after those.
        flipped: whether the frames are flipped horizontally; the label has to follow.
        erased: the box to erase once the edges are made (see `erase`), or None.
        angle: by which all frames are turned, anticlockwise, in degrees.
        frame_fit: the model's, see `fit_box`.
        operations: of RandAugment, in order.
        torchvision: transforms by name, see `parse_calls`.
        torchvision_seed: of what they draw.
        negative: seed of the clip of nothing that takes this one's place (`negatives.py`); None:
            none does.
    """

    size: int
    areas: NDArray[np.float64]
    ratios: NDArray[np.float64]
    places: NDArray[np.float64]
    colours: tuple[float, float, float]
    tint: NDArray[np.float64]
    flipped: bool
    erased: Box | None
    angle: float
    frame_fit: FrameFit
    operations: tuple[Operation, ...] = ()
    torchvision: str = ""
    torchvision_seed: int = 0
    negative: int | None = None

    def crop(self, image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One decoded frame, cropped and resized: [H, W, 3] -> [size, size, 3]."""
        box = self.crop_box(*image_HWC.shape[:2])
        return resize(image_HWC[box.top : box.bottom, box.left : box.right], self.size)

    def crop_box(self, height: int, width: int) -> Box:
        """The first of the crops that fits; if none does, what evaluation takes (`fit_box`)."""
        own_ratio = width / height if self.frame_fit == "stretch" else 1.0
        for area, factor in zip(self.areas, self.ratios, strict=True):
            ratio = factor * own_ratio
            wide = round(float(np.sqrt(area * height * width * ratio)))
            high = round(float(np.sqrt(area * height * width / ratio)))
            if 0 < wide <= width and 0 < high <= height:
                top = int(self.places[0] * (height - high + 1))
                left = int(self.places[1] * (width - wide + 1))
                return Box(top, left, top + high, left + wide)
        return fit_box(height, width, self.frame_fit)

    def finish(self, frames_THWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """All cropped frames, flipped, turned, coloured and what else was drawn:
        [T, size, size, 3], erased box still there."""
        if self.flipped:
            frames_THWC = np.ascontiguousarray(frames_THWC[:, :, ::-1])
        if self.angle:
            frames_THWC = _turn(frames_THWC, self.angle)
        frames_THWC = _colour(frames_THWC, *self.colours, self.tint)
        for operation in self.operations:
            frames_THWC = apply_operation(frames_THWC, operation)
        if self.torchvision:
            frames_THWC = apply_transforms(frames_THWC, self.torchvision, self.torchvision_seed)
        return frames_THWC


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to the frames of a training clip, the same to all of them.

    Args:
        scale: fraction of the frame's area that is cropped, lowest and highest, in (0, 1].
        ratio: width / height of that crop before it becomes a square, lowest and highest; for a
            model with `frame_fit='stretch'` as a multiple of the frame's own width / height.
        brightness: factor on the brightness, from 1 - b to 1 + b; 0 is off. So for the next two.
        contrast: factor on the distance from the clip's mean grey.
        saturation: factor on the distance of a colour from its grey.
        grey_probability: how often that factor is 0, so that only grey is left, before the tint.
        tint: factor on each of the three colours, from 1 - t to 1 + t, as under another light; 0
            is off.
        erase_probability: how often a box is erased.
        erase_area: fraction of the frame's area that the box takes, lowest and highest.
        flip_probability: how often a clip is flipped horizontally; never where the data set does
            not say what its labels become.
        speed: factor on the frame rate of dense sampling (`Sampling.fps`), lowest and highest;
            uniform sampling has no rate to change.
        negatives: how often a clip of nothing (black, still, noisy, flickering) takes the place of
            a training clip, with the label `background`.
        rotate: degrees; a clip is turned by an angle between -rotate and rotate at the model's
            size, and its corners are filled with a reflection of the frame.
        rand_augment: operations of RandAugment on a clip, each at random: moved, sheared, turned,
            other colours, contrast, sharpness or histogram; 0 is off, 2 is usual.
        rand_magnitude: how strong they are, in [0, 30]; 9 is usual.
        torchvision: transforms of torchvision's v2 by name, after all others:
            `GaussianBlur(kernel_size=5); JPEG(quality=(50, 90))`. Needs torchvision.
    """

    # Options are drawn in the order in which they came to be: with 0, runs stay as they were.

    scale: tuple[float, float] = (0.4, 1.0)
    ratio: tuple[float, float] = (0.75, 1.33)
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    erase_probability: float = 0.25
    erase_area: tuple[float, float] = (0.02, 0.2)
    flip_probability: float = 0.5
    speed: tuple[float, float] = (1.0, 1.0)
    rotate: float = 0.0
    grey_probability: float = 0.0
    tint: float = 0.0
    rand_augment: int = 0
    rand_magnitude: float = 9.0
    torchvision: str = ""
    negatives: float = 0.0

    def __post_init__(self) -> None:
        for name in ("scale", "ratio", "erase_area", "speed"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ConfigError(
                    f"Augmentation: {name} ({low}, {high}) must be above 0, the lower value first."
                )
        for name in ("scale", "erase_area"):
            if getattr(self, name)[1] > 1:
                raise ConfigError(
                    f"Augmentation: {name} {getattr(self, name)} is a fraction of the area."
                )
        for name in ("brightness", "contrast", "saturation", "tint"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"Augmentation: {name} ({getattr(self, name)}) is in [0, 1).")
        for name in ("erase_probability", "flip_probability", "grey_probability", "negatives"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"Augmentation: {name} ({getattr(self, name)}) is in [0, 1].")
        if not 0 <= self.rotate <= 180:
            raise ConfigError(
                f"Augmentation: rotate ({self.rotate}) must lie in [0, 180] degrees; 0 is off."
            )
        if not (0 <= self.rand_augment <= 14 and 0 <= self.rand_magnitude <= MOST):
            raise ConfigError(
                f"Augmentation: rand_augment ({self.rand_augment}) must lie in [0, 14] operations "
                f"and rand_magnitude ({self.rand_magnitude}) in [0, {MOST:g}]; 2 and 9 are usual."
            )
        parse_calls(self.torchvision)

    @classmethod
    def off(cls) -> Augmentation:
        """The frames as in evaluation; the sampling is still random."""
        return cls(
            scale=(1.0, 1.0),
            ratio=(1.0, 1.0),
            brightness=0.0,
            contrast=0.0,
            saturation=0.0,
            erase_probability=0.0,
            flip_probability=0.0,
        )

    def draw_speed(self, rng: np.random.Generator) -> float:
        """Factor on the frame rate of this clip."""
        low, high = np.log(self.speed)
        return float(np.exp(rng.uniform(low, high)))

    def draw(
        self,
        rng: np.random.Generator,
        size: int,
        *,
        may_flip: bool = False,
        frame_fit: FrameFit = "crop",
    ) -> Draw:
        """Everything random of one clip but its speed.

        Args:
            rng: draws the same number of values whatever comes out.
            size: side of the result in pixels.
            may_flip: whether the data set says what a flipped clip's label becomes.
            frame_fit: the model's, see `fit_box`.
        """
        areas = rng.uniform(*self.scale, size=10)
        low, high = np.log(self.ratio)
        ratios = np.exp(rng.uniform(low, high, size=10))
        places = rng.uniform(size=2)
        brightness, contrast, saturation = (
            1 + amount * rng.uniform(-1, 1)
            for amount in (self.brightness, self.contrast, self.saturation)
        )
        flipped = bool(rng.uniform() < self.flip_probability) and may_flip
        erased = self._draw_erased(rng, size)
        angle = self.rotate * rng.uniform(-1, 1)
        if rng.uniform() < self.grey_probability:
            saturation = 0.0
        tint = 1 + self.tint * rng.uniform(-1, 1, size=3)
        colours = (brightness, contrast, saturation)
        operations = draw_operations(rng, self.rand_augment, self.rand_magnitude)
        seed = int(rng.integers(2**31))
        hit, own_seed = rng.uniform(), int(rng.integers(2**31))
        negative = own_seed if hit < self.negatives else None
        return Draw(
            size, areas, ratios, places, colours, tint, flipped, erased, angle, frame_fit,
            operations, self.torchvision, seed, negative,
        )  # fmt: skip

    def _draw_erased(self, rng: np.random.Generator, size: int) -> Box | None:
        hit, place_y, place_x, amount = rng.uniform(size=4)
        low, high = self.erase_area
        area = (low + amount * (high - low)) * size * size
        ratio = np.exp(rng.uniform(-0.7, 0.7))
        tall = int(np.clip(round(np.sqrt(area * ratio)), 1, size))
        wide = int(np.clip(round(np.sqrt(area / ratio)), 1, size))
        top, left = int(place_y * (size - tall + 1)), int(place_x * (size - wide + 1))
        return Box(top, left, top + tall, left + wide) if hit < self.erase_probability else None


def erase(frames_THWC: NDArray[np.uint8], edges_THW: NDArray[np.uint8], box: Box) -> None:
    """Fills the box with each frame's mean colour and empties its edges, in place.

    The edges are made before: made after, they would draw the outline of the box, which is nothing
    in the video.
    """
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    pixels = frames_THWC.shape[1] * frames_THWC.shape[2]
    for frame_HWC in frames_THWC:
        mean_C = np.array(cv2.sumElems(frame_HWC)[:3]) / pixels
        frame_HWC[rows, columns] = np.rint(mean_C).astype(np.uint8)
    edges_THW[:, rows, columns] = 0


def check_views(views: tuple[int, int], frame_fit: FrameFit, what: str) -> None:
    """`ConfigError`, which begins with `what`, if there are no such temporal and spatial views."""
    if min(views) < 1:
        raise ConfigError(f"{what}: views {views} must each be at least 1, such as 2x3.")
    if frame_fit == "stretch" and views[1] > 1:
        raise ConfigError(
            f"{what}: views {views[0]}x{views[1]} ask for {views[1]} crops of a frame, but the "
            "model has frame_fit='stretch', which takes the whole frame as its only crop. Take 1, "
            f"as in {views[0]}x1."
        )


def crop_views(
    image_HWC: NDArray[np.uint8], size: int, crops: int, frame_fit: FrameFit = "crop"
) -> NDArray[np.uint8]:
    """Squares along the long side, one below the other: [H, W, 3] -> [crops * size, size, 3].

    One is what `fit_image` gives; three are left, centre, right (or top, centre, bottom). Each has
    the frame's short side and is resized to `size`.

    Raises:
        ConfigError: no crop, or several of a stretched frame.
    """
    check_views((1, crops), frame_fit, "crop_views")
    if crops == 1:
        return fit_image(image_HWC, size, frame_fit)
    height, width = image_HWC.shape[:2]
    side = min(height, width)
    views = []
    for number in range(crops):
        start = (max(height, width) - side) * number // (crops - 1)
        top, left = (start, 0) if height > width else (0, start)
        views.append(resize(image_HWC[top : top + side, left : left + side], size))
    return np.concatenate(views)


def _turn(frames_THWC: NDArray[np.uint8], angle: float) -> NDArray[np.uint8]:
    """All frames turned about their middle, anticlockwise, in degrees."""
    height, width = frames_THWC.shape[1:3]
    # Pixel centres have whole coordinates.
    middle = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(middle, angle, 1.0)
    turned = [
        # Reflected, since an even border would be an edge that is nothing in the video.
        cv2.warpAffine(
            frame_HWC,
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        for frame_HWC in frames_THWC
    ]
    return np.stack(turned)


def _colour(
    frames_THWC: NDArray[np.uint8],
    brightness: float,
    contrast: float,
    saturation: float,
    tint_C: NDArray[np.float64],
) -> NDArray[np.uint8]:
    """Brightness, then contrast about the clip's mean grey, saturation and tint, as one matrix."""
    if brightness == contrast == saturation == 1 and (tint_C == 1).all():
        return frames_THWC
    num_frames, height, width = frames_THWC.shape[:3]
    flat = frames_THWC.reshape(num_frames * height, width, 3)
    mean_grey = float(np.dot(cv2.mean(flat)[:3], _LUMA)) * brightness
    # Every row of this matrix sums to 1, so the grey offset passes through it unchanged.
    saturate = saturation * np.eye(3) + (1 - saturation) * _LUMA[None]
    offset = np.full((3, 1), mean_grey * (1 - contrast))
    matrix = tint_C[:, None] * np.hstack([brightness * contrast * saturate, offset])
    return cv2.transform(flat, matrix).reshape(frames_THWC.shape)
