"""The clips of the generated data set: options, classes, what moves, and the rows of a manifest.

T frames, H height, W width, C = 3 (RGB).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from videorwkv.data.manifest import Manifest, Row
from videorwkv.data.motion.order import SEPARATOR, least_frames, orders, scenes
from videorwkv.data.motion.render import Scenery, add_noise
from videorwkv.errors import ConfigError, UsageError, did_you_mean
from videorwkv.video.array import ArrayVideo

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

# Each is drawn uniformly for a clip, in units of 16 frames (2 s).
TRAVEL = (0.3, 0.8)  # fractions of the frame's side
TURNS = (0.2, 0.5)  # turns
SWING = (0.06, 0.12)  # fractions of the frame's side, from the middle of the swing
SWINGS = (1.0, 1.6)  # swings there and back
ZOOM = (0.45, 0.9)  # fractions of the range of log size
GROUND_TRAVEL = (0.0, 0.15)  # fractions of the frame's side, in any direction

_DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_SWINGS = {"shake": (1, 0), "bounce": (0, 1)}


def parse_options(what: str, cls: type[Any], text: str) -> dict[str, int]:
    """`train=4000,size=64` -> values of the fields of `cls`.

    Raises:
        ConfigError: an unknown name, or a value that is no whole number; `what` begins the message.
    """
    names = [field.name for field in fields(cls)]
    values: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in names:
            raise ConfigError(f"{what}: unknown option {name!r}. {did_you_mean(name, names)}")
        if not value.isdecimal():
            raise ConfigError(f"{what}: {name} ({value!r}) must be a whole number.")
        values[name] = int(value)
    return values


@dataclass(frozen=True, kw_only=True)
class MotionOptions:
    """What `motion:name=value,...` can set.

    Args:
        train, validation, test: clips of each split.
        seed: another seed is another data set.
        size: height and width of the frames in pixels.
        frames: frames of a clip; speeds are per frame, so a longer clip moves further.
        rotation: 1 adds the classes clockwise and counterclockwise.
        order: 2 to 4 movements one after the other, whose order is the class; 0: one movement.
        pause: still frames before and after each movement of an order, and a still scene around
            all of them; 0: none.
        event: frames in which something moves, the others being still; 0: all.
        at: the first of them.
        timeline: seconds of long clips in which movements, pauses and movements of no class follow
            each other, each movement a segment with its label; 0: none. See film.py.
    """

    train: int = 4000
    validation: int = 500
    test: int = 1000
    seed: int = 1
    size: int = 64
    frames: int = 16
    rotation: int = 0
    order: int = 0
    pause: int = 0
    event: int = 0
    at: int = 0
    timeline: int = 0

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, sorted."""
        if self.order:
            return orders(self.order)
        return tuple(sorted((*CLASSES, *ROTATIONS))) if self.rotation else CLASSES

    def __post_init__(self) -> None:
        if self.rotation not in (0, 1):
            raise ConfigError(f"motion: rotation ({self.rotation}) must be 0 or 1.")
        if self.order not in (0, 2, 3, 4):
            raise ConfigError(f"motion: order ({self.order}) must be 0, 2, 3 or 4.")
        if self.order and (self.rotation or self.event):
            raise ConfigError("motion: order can't be combined with rotation or event.")
        if self.pause and not self.order:
            raise ConfigError(f"motion: pause ({self.pause}) needs order, such as order=2.")
        if self.at + self.event > self.frames or (self.at and not self.event):
            raise ConfigError(
                f"motion: event ({self.event}) frames from at ({self.at}) on must lie within "
                f"frames ({self.frames})."
            )
        if self.timeline and (self.rotation or self.order or self.event or self.frames != 16):
            raise ConfigError(
                "motion: timeline can't be combined with frames, rotation, order or event."
            )
        frames = least_frames(self.order, self.pause) if self.order else 1
        numbers = (("size", 16), ("frames", frames))
        for name, least in (*numbers, *((n, 0) for n in ("seed", "pause", "event", "at", *SPLITS))):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"motion: {name} ({getattr(self, name)}) must be at least {least}."
                )
        if 0 < self.timeline < 10:
            raise ConfigError(
                f"motion: timeline ({self.timeline}) must be 0 or at least 10, in seconds."
            )

    @classmethod
    def parse(cls, text: str) -> MotionOptions:
        """`train=4000,size=64` -> options; raises `ConfigError` on an unknown name or value."""
        return cls(**parse_options("motion", cls, text))


class Attributes(NamedTuple):
    """Drawn for a clip without looking at its class. Lengths are fractions of the frame's side."""

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
    """Where the subject is: place [T, 2], angle [T] in turns, zoom [T], each in [0, 1); and the
    ground, [T, 2]."""

    place: NDArray[np.float64]
    angle: NDArray[np.float64]
    zoom: NDArray[np.float64]
    ground: NDArray[np.float64]


def motion_manifest(options: MotionOptions) -> Manifest:
    """The rows of the data set; of one with a timeline `film_manifest` gives them."""
    if options.timeline:
        raise UsageError("motion: film_manifest gives the rows of timeline.")
    # In each path and not as the manifest's root, which its digest leaves out.
    root = (
        f"motion-{options.seed}-{options.size}px-{options.frames}f"
        + "-rotation" * options.rotation
        + f"-order{options.order}" * bool(options.order)
        + f"-pause{options.pause}" * bool(options.pause)
        + f"-event{options.event}at{options.at}" * bool(options.event)
    )
    counts = {split: getattr(options, split) for split in SPLITS}
    return Manifest(
        name="motion",
        rows=balanced_rows(root, options.classes, counts, options.seed, stream=1),
        labels=options.classes,
        flips={name: flipped(name) for name in options.classes},
        opener=MotionOpener(options),
    )


@dataclass(frozen=True)
class MotionOpener:
    """Row -> `MotionVideo`. A class and not a closure: worker processes pickle it."""

    options: MotionOptions

    def __call__(self, row: Row) -> MotionVideo:
        options = self.options
        rng = clip_generator(options.seed, row.split, row.line, stream=0)
        assert row.label is not None
        event = (options.at, options.event) if options.event else (0, options.frames)
        frames_THWC = render(
            row.label,
            rng,
            size=options.size,
            frames=options.frames,
            event=event,
            pause=options.pause,
        )
        return MotionVideo(row.path, frames_THWC)


class MotionVideo(ArrayVideo):
    """A generated clip at `FPS` frames a second."""

    def __init__(self, name: str, frames_THWC: NDArray[np.uint8]) -> None:
        super().__init__(name, frames_THWC, np.arange(len(frames_THWC)) / FPS)


def balanced_rows(
    root: str, classes: Sequence[str], counts: Mapping[str, int], seed: int, *, stream: int
) -> tuple[Row, ...]:
    """The rows of a generated data set: each block of as many rows as classes holds every class
    once, in a random order.

    Args:
        root: begins each path.
        classes: their names.
        counts: split -> number of clips.
        seed: of the data set.
        stream: of `clip_generator`, for the orders.
    """
    rows = []
    for split, count in counts.items():
        for first in range(0, count, len(classes)):
            rng = clip_generator(seed, split, first // len(classes), stream=stream)
            order = rng.permutation(len(classes))[: count - first]
            rows += [
                Row(f"{root}/{split}/{index:06d}", classes[k], split, index)
                for index, k in enumerate(order, start=first)
            ]
    return tuple(rows)


def flipped(label: str) -> str:
    """The class of the horizontally flipped clip."""
    return SEPARATOR.join(FLIPS[name] for name in label.split(SEPARATOR))


def move(
    label: str, start: Attributes, frames: int, event: tuple[int, int] | None = None
) -> Motion:
    """What the class adds to the uniform phases of place, angle and size, frame after frame.

    Args:
        label: a class; empty: nothing but the ground moves.
        start: what was drawn for the clip.
        frames: T.
        event: first frame and number of those in which something moves; None: all.
    """
    first, length = event or (0, frames)
    ticks = np.clip(np.arange(frames, dtype=np.float64) - first, 0, length)
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
        ground=start.ground + ticks[:, None] * start.drift,
    )


def render(
    label: str,
    rng: np.random.Generator,
    *,
    size: int,
    frames: int,
    event: tuple[int, int] | None = None,
    pause: int = 0,
) -> NDArray[np.uint8]:
    """One clip of a class: [T, size, size, 3]. What is drawn from `rng` is the same for all."""
    attributes = draw_attributes(rng)
    if SEPARATOR in label:
        motion = _move_in_turn(label.split(SEPARATOR), attributes, frames, pause, rng)
    else:
        motion = move(label, attributes, frames, event)
    scenery = Scenery(rng, size)
    out_THWC = np.empty((frames, size, size, 3), np.uint8)
    for t in range(frames):
        scenery.draw(
            motion.place[t], motion.angle[t], motion.zoom[t], motion.ground[t], out_THWC[t]
        )
    return add_noise(out_THWC, attributes.noise, rng)


def _move_in_turn(
    actions: list[str], first: Attributes, frames: int, pause: int, rng: np.random.Generator
) -> Motion:
    """One movement after the other, each from a place, an angle, a size and a ground of its own."""
    starts = [first, *(draw_attributes(rng) for _ in actions[1:])]
    shown = scenes(actions, frames, pause, rng)
    starts += [draw_attributes(rng) for _ in shown[len(starts) :]]
    parts = [
        move(scene.label, start, scene.frames, (scene.still, scene.moving))
        for scene, start in zip(shown, starts, strict=True)
    ]
    return Motion(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def clip_generator(seed: int, split: str, number: int, *, stream: int) -> np.random.Generator:
    """The source of randomness of one clip; another stream is independent of it."""
    if split not in SPLITS:
        raise UsageError(f"motion: unknown split {split!r}. {did_you_mean(split, SPLITS)}")
    entropy = np.random.SeedSequence([seed, SPLITS.index(split), number, stream])
    return np.random.Generator(np.random.PCG64(entropy))


def draw_attributes(rng: np.random.Generator) -> Attributes:
    """Everything of a clip that does not depend on its class."""
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
