"""`gestures`, generated clips of a hand that draws in the air: what moves, where and when.

A small hand (its outline, colour and texture are drawn at random) comes in from the border, rests,
draws one of ten figures, rests and leaves, over a cluttered ground that drifts as under a hand-held
camera. The figure is the class. Its place, size, slant and tempo, the light, the ground and the
hand are drawn without looking at the class, and a clip lasts 1 to 9 seconds. With few clips a
class, a model that learns grounds and hands by heart is at chance on new ones; what tells the
classes apart is where something moved and when. `gestures:none=1` adds clips of none: the hand
comes, stays or wanders a little, and leaves.

A clip is exact by (seed, split, index). T frames, H height, W width, P points of a path.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from videorwkv.data.manifest import Manifest, Row
from videorwkv.data.motion.clips import SPLITS, balanced_rows, clip_generator, parse_options
from videorwkv.data.motion.render import add_noise, texture
from videorwkv.errors import ConfigError
from videorwkv.video.array import ArrayVideo

FPS = 12.0
NONE = "none"
SECONDS = (1.0, 9.0)
# Fractions of the frame's area that the hand covers.
AREA = (0.04, 0.14)
# Side of the figure as a fraction of the frame's side.
EXTENT = (0.45, 0.65)
# How far the figure may lie from the middle, as a fraction of the room that there is.
OFF_CENTRE = 0.4


def _star() -> list[tuple[float, float]]:
    turns = np.arange(6) * 2 / 5
    return [(0.5 + 0.5 * np.sin(2 * np.pi * t), 0.5 - 0.5 * np.cos(2 * np.pi * t)) for t in turns]


def _circle() -> list[tuple[float, float]]:
    turns = np.linspace(0, 1, 33)
    return [(0.5 + 0.5 * np.sin(2 * np.pi * t), 0.5 - 0.5 * np.cos(2 * np.pi * t)) for t in turns]


# Corners of each figure in its own square, x to the right and y down.
FIGURES: dict[str, list[tuple[float, float]]] = {
    "caret": [(0, 1), (0.5, 0), (1, 1)],
    "circle": _circle(),
    "cross": [(0, 0), (1, 1), (1, 0), (0, 1)],
    "down": [(0.5, 0), (0.5, 1)],
    "left": [(1, 0.5), (0, 0.5)],
    "right": [(0, 0.5), (1, 0.5)],
    "square": [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)],
    "star": _star(),
    "tick": [(0, 0.55), (0.35, 1), (1, 0)],
    "up": [(0.5, 1), (0.5, 0)],
}
# A mirrored circle or star is drawn the other way round: no class of this set.
FLIPS = {"left": "right", "right": "left"}


@dataclass(frozen=True, kw_only=True)
class GestureOptions:
    """What `gestures:name=value,...` can set.

    Args:
        train, validation, test: clips of each split; every class equally often.
        seed: another seed is another data set.
        size: height of the frames in pixels; they are four thirds as wide.
        none: 1 adds clips in which nothing is drawn.
    """

    train: int = 100
    validation: int = 50
    test: int = 200
    seed: int = 1
    size: int = 96
    none: int = 0

    def __post_init__(self) -> None:
        if self.none not in (0, 1):
            raise ConfigError(f"gestures: none ({self.none}) must be 0 or 1.")
        for name, least in (("size", 32), *((name, 0) for name in ("seed", *SPLITS))):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"gestures: {name} ({getattr(self, name)}) must be at least {least}."
                )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, sorted."""
        return tuple(sorted((*FIGURES, NONE))) if self.none else tuple(FIGURES)

    @classmethod
    def parse(cls, text: str) -> GestureOptions:
        """`train=100,size=96` -> options; raises `ConfigError` on an unknown name or value."""
        return cls(**parse_options("gestures", cls, text))


def gesture_manifest(options: GestureOptions) -> Manifest:
    """The rows of the data set."""
    root = f"gestures-{options.seed}-{options.size}px" + "-none" * options.none
    counts = {split: getattr(options, split) for split in SPLITS}
    return Manifest(
        name="gestures",
        rows=balanced_rows(root, options.classes, counts, options.seed, stream=3),
        labels=options.classes,
        opener=GestureOpener(options),
    )


@dataclass(frozen=True)
class GestureOpener:
    """Row -> video. A class and not a closure: worker processes pickle it."""

    options: GestureOptions

    def __call__(self, row: Row) -> ArrayVideo:
        rng = clip_generator(self.options.seed, row.split, row.line, stream=2)
        frames_THWC = render(row.label or NONE, rng, size=self.options.size)
        return ArrayVideo(row.path, frames_THWC, np.arange(len(frames_THWC)) / FPS)


def render(label: str, rng: np.random.Generator, *, size: int) -> NDArray[np.uint8]:
    """One clip of a class, [T, size, size * 4 / 3, 3]."""
    frames = max(8, round(FPS * np.exp(rng.uniform(*np.log(SECONDS)))))
    width = size * 4 // 3
    place_T2, shown_T = trajectory(label, rng, frames)
    place_T2 = place_T2 * (width, size)
    light = rng.uniform(80, 165)
    canvas_HWC = clutter(rng, size, width, light)
    hand_HWC, cover_HW = _hand(rng, size, light)
    margin = (canvas_HWC.shape[0] - size) // 2
    drift_T2 = _drift(rng, frames, margin)
    flicker_T = 1 + rng.uniform(0, 0.04) * np.sin(
        2 * np.pi * (rng.uniform() + np.arange(frames) * rng.uniform(0.01, 0.2))
    )
    tilt = rng.uniform(-25, 25) + rng.uniform(-12, 12) * np.sin(
        2 * np.pi * (rng.uniform() + np.arange(frames) / frames)
    )
    out_THWC = np.empty((frames, size, width, 3), np.uint8)
    for t in range(frames):
        x, y = margin + drift_T2[t]
        image_HWC = cv2.getRectSubPix(
            canvas_HWC, (width, size), (float(x + (width - 1) / 2), float(y + (size - 1) / 2))
        )
        if shown_T[t]:
            _lay(image_HWC, hand_HWC, cover_HW, place_T2[t], float(tilt[t]))
        out_THWC[t] = np.clip(image_HWC * flicker_T[t], 0, 255).astype(np.uint8)
    return add_noise(out_THWC, rng.uniform(1, 5), rng)


def trajectory(
    label: str, rng: np.random.Generator, frames: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Where the hand is, as fractions of the frame's sides [T, 2], and whether it is there."""
    extent = rng.uniform(*EXTENT) * np.array([0.75, 1.0]) * rng.uniform(0.85, 1.15, size=2)
    extent = np.minimum(extent, 0.72)
    centre = 0.5 + OFF_CENTRE * rng.uniform(-0.5, 0.5, size=2) * (0.9 - extent)
    corners = np.array(FIGURES.get(label, [(0.5, 0.5)])) - 0.5
    if label == NONE:  # a small walk around one place
        corners = np.cumsum(rng.uniform(-0.15, 0.15, size=(int(rng.integers(1, 6)), 2)), axis=0)
    slant = np.deg2rad(rng.uniform(-12, 12))
    turn = np.array([[np.cos(slant), -np.sin(slant)], [np.sin(slant), np.cos(slant)]])
    path_P2 = corners @ turn.T * extent + centre
    # Mostly from below, as hands come; out of the frame by its own size.
    sides = np.array([(0.5, 1.35), (-0.3, 0.6), (1.3, 0.6)])
    coming, leaving = (
        sides[rng.choice(3, p=(0.8, 0.1, 0.1))] + rng.uniform(-0.2, 0.2, size=2) for _ in range(2)
    )
    # Shares of the clip: away, coming, at rest, drawing, at rest, leaving, away.
    shares = np.array([0.1, 0.25, 0.25, 1.6, 0.25, 0.25, 0.1]) * rng.uniform(0.75, 1.25, size=7)
    ends = np.cumsum(shares) / shares.sum() * frames
    ticks = np.arange(frames) + 0.5
    phase = np.searchsorted(ends, ticks)
    place_T2 = np.empty((frames, 2))
    for t, (tick, part) in enumerate(zip(ticks, np.minimum(phase, 6), strict=True)):
        start = ends[part - 1] if part else 0.0
        done = _ease((tick - start) / max(ends[part] - start, 1e-9))
        if part <= 1:
            place_T2[t] = coming + (path_P2[0] - coming) * (done if part else 0.0)
        elif part == 3:
            place_T2[t] = _along(path_P2, done)
        elif part == 2:
            place_T2[t] = path_P2[0]
        elif part == 4:
            place_T2[t] = path_P2[-1]
        else:
            place_T2[t] = path_P2[-1] + (leaving - path_P2[-1]) * (done if part == 5 else 1.0)
    # A hand at rest is not nailed down.
    place_T2 += np.cumsum(rng.normal(0, 0.0025, size=(frames, 2)), axis=0)
    return place_T2, (phase > 0) & (phase < 6)


def _ease(done: float) -> float:
    """Slow, fast, slow."""
    return float(0.5 - 0.5 * np.cos(np.pi * min(max(done, 0.0), 1.0)))


def _along(path_P2: NDArray[np.float64], done: float) -> NDArray[np.float64]:
    """The point of a polyline after a fraction of its length."""
    if len(path_P2) == 1:
        return path_P2[0]
    lengths = np.linalg.norm(np.diff(path_P2, axis=0), axis=1)
    walked = np.concatenate([[0.0], np.cumsum(lengths)])
    x, y = (np.interp(done * walked[-1], walked, path_P2[:, k]) for k in range(2))
    return np.array([x, y])


def clutter(rng: np.random.Generator, height: int, width: int, light: float) -> NDArray[np.uint8]:
    """A cluttered picture with a margin all around: soft texture, boxes, discs and lines."""
    margin = height // 8
    side = width + 2 * margin
    canvas_HWC = texture(rng, side, light=light, contrast=rng.uniform(8, 30))
    for _ in range(int(rng.integers(4, 16))):
        colour = tuple(float(c) for c in np.clip(light + rng.normal(0, 45, size=3), 5, 250))
        x, y = (int(v) for v in rng.uniform(0, side, size=2))
        a, b = (int(v) for v in rng.uniform(0.05, 0.45, size=2) * side)
        kind = rng.integers(3)
        if kind == 0:
            cv2.rectangle(canvas_HWC, (x, y), (x + a, y + b), colour, cv2.FILLED)
        elif kind == 1:
            cv2.circle(canvas_HWC, (x, y), max(2, a // 3), colour, cv2.FILLED, cv2.LINE_AA)
        else:
            thick = int(rng.integers(1, max(2, height // 24) + 1))
            cv2.line(canvas_HWC, (x, y), (x + a - side // 4, y + b), colour, thick, cv2.LINE_AA)
    return np.ascontiguousarray(canvas_HWC[: height + 2 * margin, : width + 2 * margin])


def _hand(
    rng: np.random.Generator, size: int, light: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A palm with fingers and an arm: colour [S, S, 3], and cover [S, S] in [0, 1]."""
    area = rng.uniform(*AREA) * size * size * 4 / 3
    palm = np.sqrt(area / np.pi) * 0.8
    side = int(6 * palm) | 1
    cover_HW = np.zeros((side, side), np.uint8)
    middle = side // 2
    axes = (int(palm * rng.uniform(0.75, 1.0)), int(palm * rng.uniform(0.9, 1.2)))
    cv2.ellipse(cover_HW, (middle, middle), axes, 0, 0, 360, 255, cv2.FILLED, cv2.LINE_AA)
    for finger in range(int(rng.integers(0, 6))):
        angle = np.deg2rad(-90 + (finger - 2) * 22 + rng.uniform(-8, 8))
        reach = palm * rng.uniform(1.4, 2.1)
        tip = (int(middle + reach * np.cos(angle)), int(middle + reach * np.sin(angle)))
        cv2.line(cover_HW, (middle, middle), tip, 255, max(2, int(palm * 0.36)), cv2.LINE_AA)
    if rng.uniform() < 0.7:  # the arm, or its sleeve
        wrist = int(palm * rng.uniform(0.9, 1.4))
        cv2.line(cover_HW, (middle, middle), (middle, side), 255, max(2, wrist), cv2.LINE_AA)
    skin = np.array([rng.uniform(90, 235)] * 3) * np.array([1.0, 0.8, 0.68])
    colour_HWC = texture(rng, side, light=0.0, contrast=rng.uniform(4, 16)).astype(np.int16)
    colour_HWC = np.clip(colour_HWC - 16 + skin + (light - 120) * 0.4, 5, 250).astype(np.uint8)
    if rng.uniform() < 0.5:  # a sleeve of another colour
        edge = min(side, middle + int(palm * rng.uniform(1.0, 1.6)))
        colour_HWC[edge:] = rng.integers(10, 240, size=3)
    cover = (cover_HW / 255).astype(np.float32)
    return np.asarray(colour_HWC, np.uint8), cover


def _drift(rng: np.random.Generator, frames: int, margin: int) -> NDArray[np.float64]:
    """Offsets of the ground in pixels [T, 2]: a slow walk with a little shaking."""
    speed = rng.uniform(0, 0.25)
    walk_T2 = np.cumsum(rng.normal(0, speed, size=(frames, 2)), axis=0)
    heading = rng.uniform(0, 2 * np.pi)
    walk_T2 += (
        np.arange(frames)[:, None]
        * rng.uniform(0, 0.12)
        * np.array([np.cos(heading), np.sin(heading)])
    )
    return np.clip(walk_T2 - walk_T2.mean(0), -margin + 1, margin - 1)


def _lay(
    image_HWC: NDArray[np.uint8],
    hand_HWC: NDArray[np.uint8],
    cover_HW: NDArray[np.float32],
    place: NDArray[np.float64],
    tilt: float,
) -> None:
    """Lay the hand over the image, its palm at `place` (x, y in pixels), in place."""
    height, width = image_HWC.shape[:2]
    middle = (len(cover_HW) - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), tilt, 1.0)
    matrix[:, 2] += place - middle
    colour_HWC = cv2.warpAffine(hand_HWC, matrix, (width, height))
    alpha_HW1 = cv2.warpAffine(cover_HW, matrix, (width, height))[..., None]
    image_HWC[:] = image_HWC * (1 - alpha_HW1) + colour_HWC * alpha_HW1
