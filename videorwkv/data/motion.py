"""The generated data set: eight classes told apart by motion alone. It needs no download.

A textured subject drifts, swings, turns or changes its size over a textured ground that drifts by
itself. `motion:rotation=1` adds two classes to the eight, clockwise and counterclockwise: the
hardest, as a rotation has no direction but against its own middle.

**No single frame gives the class away, by construction.** A frame shows the subject at a place
(uniform on a torus: what leaves at one border comes back at the other), at an angle (uniform on the
circle) and at a size (its logarithm uniform on [`SIZE_LOW`, `SIZE_HIGH`], and circular too: past
the largest it begins again at the smallest). The class only decides which of the three moves and
which way, and adding a movement to a uniform phase of a circle leaves it uniform. So place, angle
and size are independent and uniform at every frame index in every class. Everything else (outline,
textures, colours, light, the ground and its drift, noise, the speed) is drawn without looking at
the class. Hence every frame has the same distribution in every class. This holds for the frames
made here; a codec's traces of motion would break it in a clip written to a file and read back.

Exact by (seed, split, index). T frames, H height, W width, C = 3 (RGB).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from statistics import NormalDist
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from videorwkv.data.array_video import ArrayVideo
from videorwkv.data.manifest import Manifest, Row
from videorwkv.errors import ConfigError, UsageError, did_you_mean

CLASSES = ("approach", "bounce", "down", "left", "recede", "right", "shake", "up")
ROTATIONS = ("clockwise", "counterclockwise")
FLIPS = {
    **{name: name for name in (*CLASSES, *ROTATIONS)},
    "left": "right",
    "right": "left",
    "clockwise": "counterclockwise",
    "counterclockwise": "clockwise",
}
SPLITS = ("train", "validation", "test")
FPS = 8.0

# Diameter of the subject as a share of the frame.
SIZE_LOW, SIZE_HIGH = 0.3, 0.8
# Each is drawn uniformly for a clip, in units of 16 frames (2 s).
TRAVEL = (0.3, 0.8)  # shares of the frame's side
TURNS = (0.2, 0.5)  # turns
SWING = (0.06, 0.12)  # shares of the frame's side, from the middle of the swing
SWINGS = (1.0, 1.6)  # swings there and back
ZOOM = (0.45, 0.9)  # shares of the range of log size
GROUND_TRAVEL = (0.0, 0.15)  # shares of the frame's side, in any direction
# Standard deviation of the textures in grey levels; the ground is the softer one.
CONTRAST = (28.0, 55.0)
GROUND_CONTRAST = (10.0, 30.0)

_OUTLINES = ("disc", "square", "blob")
_DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_SWINGS = {"shake": (1, 0), "bounce": (0, 1)}
# Standard normal quantiles of the 256 byte values: random bytes become Gaussian noise by a look-up.
_QUANTILES = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)])


@dataclass(frozen=True, kw_only=True)
class MotionOptions:
    """What `motion:name=value,...` can set.

    Args:
        train, validation, test: clips of each split.
        seed: another seed is another data set.
        size: height and width of the frames in pixels.
        frames: frames of a clip; speeds are per frame, so a longer clip moves further.
        rotation: 1 adds the classes clockwise and counterclockwise.
    """

    train: int = 4000
    validation: int = 500
    test: int = 1000
    seed: int = 1
    size: int = 64
    frames: int = 16
    rotation: int = 0

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, sorted."""
        return tuple(sorted((*CLASSES, *ROTATIONS))) if self.rotation else CLASSES

    def __post_init__(self) -> None:
        if self.rotation not in (0, 1):
            raise ConfigError(f"motion: rotation ({self.rotation}) must be 0 or 1.")
        for name, least in (("size", 16), ("frames", 1), ("seed", 0), *((s, 0) for s in SPLITS)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"motion: {name} ({getattr(self, name)}) must be at least {least}."
                )

    @classmethod
    def parse(cls, text: str) -> MotionOptions:
        """`train=4000,size=64` -> options; raises `ConfigError` on an unknown name or value."""
        names = [field.name for field in fields(cls)]
        values: dict[str, int] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = (piece.strip() for piece in part.partition("="))
            if name not in names:
                raise ConfigError(f"motion: unknown option {name!r}. {did_you_mean(name, names)}")
            if not value.isdecimal():
                raise ConfigError(f"motion: {name} ({value!r}) must be a whole number.")
            values[name] = int(value)
        return cls(**values)


class Attributes(NamedTuple):
    """What is drawn for a clip without looking at its class. Shares are of the frame's side."""

    place: NDArray[np.float64]  # [2] x, y at frame 0, in [0, 1)
    angle: float  # turns at frame 0, in [0, 1)
    zoom: float  # phase of the log size at frame 0, in [0, 1)
    travel: float  # speeds, a frame
    turns: float
    zooming: float
    swing: float  # how far
    swings: float  # a frame
    swing_phase: float  # at frame 0, in [0, 1)
    ground: NDArray[np.float64]  # [2] x, y at frame 0
    drift: NDArray[np.float64]  # [2] x, y a frame
    noise: float  # standard deviation in grey levels


class Motion(NamedTuple):
    """Where the subject is: place [T, 2], angle [T] in turns, zoom [T], each in [0, 1)."""

    place: NDArray[np.float64]
    angle: NDArray[np.float64]
    zoom: NDArray[np.float64]


def motion_manifest(options: MotionOptions) -> Manifest:
    """The rows of the data set; every block of as many rows as classes holds each class once."""
    # In each path and not as the manifest's root, which its digest leaves out.
    root = (
        f"motion-{options.seed}-{options.size}px-{options.frames}f" + "-rotation" * options.rotation
    )
    classes = options.classes
    rows = []
    for split in SPLITS:
        for index in range(getattr(options, split)):
            label = classes[class_of(options.seed, split, index, len(classes))]
            rows.append(Row(f"{root}/{split}/{index:06d}", label, split, index))
    return Manifest(
        name="motion",
        rows=tuple(rows),
        labels=classes,
        flips={name: FLIPS[name] for name in classes},
        opener=MotionOpener(options),
    )


@dataclass(frozen=True)
class MotionOpener:
    """Row -> `MotionVideo`. A class and not a closure: worker processes pickle it."""

    options: MotionOptions

    def __call__(self, row: Row) -> MotionVideo:
        options = self.options
        rng = _generator(options.seed, row.split, row.line, stream=0)
        assert row.label is not None
        frames_THWC = render(row.label, rng, size=options.size, frames=options.frames)
        return MotionVideo(row.path, frames_THWC)


class MotionVideo(ArrayVideo):
    """A generated clip at `FPS` frames a second."""

    def __init__(self, name: str, frames_THWC: NDArray[np.uint8]) -> None:
        super().__init__(name, frames_THWC, np.arange(len(frames_THWC)) / FPS)


def class_of(seed: int, split: str, index: int, num_classes: int = len(CLASSES)) -> int:
    """The class of a clip: each block of rows holds every class once, in a random order."""
    block, place = divmod(index, num_classes)
    return int(_generator(seed, split, block, stream=1).permutation(num_classes)[place])


def move(label: str, start: Attributes, frames: int) -> Motion:
    """What the class adds to the uniform phases of place, angle and size, frame after frame."""
    ticks = np.arange(frames, dtype=np.float64)
    direction = np.array(_DIRECTIONS.get(label, (0, 0)))
    turning = {"clockwise": 1, "counterclockwise": -1}.get(label, 0)
    growing = {"approach": 1, "recede": -1}.get(label, 0)
    swinging = np.array(_SWINGS.get(label, (0, 0)))
    swing = start.swing * np.sin(2 * np.pi * (start.swing_phase + ticks * start.swings))
    moved = ticks[:, None] * start.travel * direction + swing[:, None] * swinging
    return Motion(
        place=(start.place + moved) % 1,
        angle=(start.angle + ticks * start.turns * turning) % 1,
        zoom=(start.zoom + ticks * start.zooming * growing) % 1,
    )


def render(label: str, rng: np.random.Generator, *, size: int, frames: int) -> NDArray[np.uint8]:
    """One clip of a class: [T, size, size, 3]. What is drawn from `rng` is the same for all."""
    attributes = _draw_attributes(rng)
    motion = move(label, attributes, frames)
    light = rng.uniform(95, 160)
    ground_HWC = _texture(rng, size, light=light, contrast=rng.uniform(*GROUND_CONTRAST))
    colour_HWC, alpha_HWC = _subject(rng, size, light=light, contrast=rng.uniform(*CONTRAST))

    # Twice the period each way, so that every window of the torus lies in one piece.
    ground_HWC = np.tile(ground_HWC, (2, 2, 1))

    out_THWC = np.empty((frames, size, size, 3), np.uint8)
    for t in range(frames):
        # The subject is drawn in the middle, over a ground shifted against its place; rolling the
        # finished frame then takes both where they belong, across the borders of the torus.
        place = motion.place[t] * size
        whole = np.floor(place).astype(int)
        shift = (whole - (attributes.ground + t * attributes.drift) * size) % size
        x, y = shift + (size - 1) / 2
        image_HWC = cv2.getRectSubPix(ground_HWC, (size, size), (float(x), float(y)))
        diameter = SIZE_LOW * (SIZE_HIGH / SIZE_LOW) ** motion.zoom[t] * size
        _draw_subject(image_HWC, colour_HWC, alpha_HWC, place - whole, motion.angle[t], diameter)
        _roll(image_HWC, whole[0], whole[1], out_THWC[t])
    return _add_noise(out_THWC, attributes.noise, rng)


_INVERSE = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


def _generator(seed: int, split: str, number: int, *, stream: int) -> np.random.Generator:
    if split not in SPLITS:
        raise UsageError(f"motion: unknown split {split!r}. {did_you_mean(split, SPLITS)}")
    entropy = np.random.SeedSequence([seed, SPLITS.index(split), number, stream])
    return np.random.Generator(np.random.PCG64(entropy))


def _draw_attributes(rng: np.random.Generator) -> Attributes:
    heading = rng.uniform(0, 2 * np.pi)
    drift = rng.uniform(*GROUND_TRAVEL) / 16
    return Attributes(
        place=rng.uniform(size=2),
        angle=rng.uniform(),
        zoom=rng.uniform(),
        travel=rng.uniform(*TRAVEL) / 16,
        turns=rng.uniform(*TURNS) / 16,
        zooming=rng.uniform(*ZOOM) / 16,
        swing=rng.uniform(*SWING),
        swings=rng.uniform(*SWINGS) / 16,
        swing_phase=rng.uniform(),
        ground=rng.uniform(size=2),
        drift=drift * np.array([np.cos(heading), np.sin(heading)]),
        noise=rng.uniform(1, 4),
    )


def _texture(
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


def _subject(
    rng: np.random.Generator, size: int, *, light: float, contrast: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Colour times cover, and cover (0 to 255), both [S, S, 3]; nothing touches the border."""
    side = max(16, round(size * SIZE_HIGH))
    level = light + rng.choice((-1, 1)) * rng.uniform(15, 45)
    texture_HWC = _texture(rng, side, light=level, contrast=contrast)
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


def _draw_subject(
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


def _roll(image_HWC: NDArray[np.uint8], x: int, y: int, out_HWC: NDArray[np.uint8]) -> None:
    """`np.roll` along both axes at once; 0 <= x, y < size."""
    height, width = image_HWC.shape[:2]
    out_HWC[y:, x:] = image_HWC[: height - y, : width - x]
    out_HWC[y:, :x] = image_HWC[: height - y, width - x :]
    out_HWC[:y, x:] = image_HWC[height - y :, : width - x]
    out_HWC[:y, :x] = image_HWC[height - y :, width - x :]


def _add_noise(
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
