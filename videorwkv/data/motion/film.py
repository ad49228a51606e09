"""Long clips in which movements come and go: `motion:timeline=60`.

One subject moves over its ground for so many seconds: movements of the classes, pauses, and
movements of no class (diagonals, circles, turning on the spot) follow each other in random order,
each from where the one before has ended. The ground drifts all the while, another way in each
scene. Which movement comes when is drawn without looking at anything else, and place, angle and
size stay uniform at every moment, so that no single frame says what happens.

A film is exact by (seed, split, index), and so is each of its frames: they are drawn when they are
asked for, however long it is. T frames, H height, W width, C = 3 (RGB).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from videorwkv.data.background import BACKGROUND
from videorwkv.data.manifest import Manifest, Row
from videorwkv.data.motion.clips import (
    CLASSES,
    FPS,
    SPLITS,
    Motion,
    MotionOptions,
    clip_generator,
    draw_attributes,
    flipped,
    move,
)
from videorwkv.data.motion.render import Scenery, add_noise
from videorwkv.video.base import Frame, Images, Transform, Video
from videorwkv.video.segment import Segment

# Seconds, drawn uniformly.
MOVING = (2.0, 5.0)
PAUSE = (1.0, 4.0)
# What follows a scene; a pause never follows a pause.
PAUSES, STRANGE = 0.3, 0.25
# The stream of random numbers that the scenes are drawn from.
SCENES = 4
# Movements of no class.
DIAGONAL, CIRCLE, TURN = "diagonal", "circle", "turn"
CIRCLE_RADIUS = (0.08, 0.16)  # fractions of the frame's side


class Scene(NamedTuple):
    """A stretch of a film.

    Args:
        label: its class; empty: a pause, or a movement of no class.
        strange: a movement of no class; empty: none.
        frames: its length.
    """

    label: str
    strange: str
    frames: int


def scenes(rng: np.random.Generator, frames: int) -> list[Scene]:
    """What happens in a film of so many frames; the last scene is cut off where it ends."""
    found: list[Scene] = []
    left = frames
    while left > 0:
        last = found[-1] if found else Scene("", "", 0)
        kind = rng.uniform()
        is_pause = kind < PAUSES and (not found or bool(last.label or last.strange))
        length = round(rng.uniform(*(PAUSE if is_pause else MOVING)) * FPS)
        label = strange = ""
        if not is_pause and kind >= 1 - STRANGE:
            strange = str(rng.choice([DIAGONAL, CIRCLE, TURN]))
        elif not is_pause:
            # Two of one class without a pause would be one.
            label = str(rng.choice([name for name in CLASSES if name != last.label]))
        found.append(Scene(label, strange, min(length, left)))
        left -= length
    return found


def film_manifest(options: MotionOptions) -> Manifest:
    """A row for each movement of a class, as a segment of its film. A film in which there is none
    is a row of its own, of the class `BACKGROUND`."""
    root = f"motion-{options.seed}-{options.size}px-timeline{options.timeline}"
    frames = round(options.timeline * FPS)
    rows = []
    for split in SPLITS:
        for index in range(getattr(options, split)):
            path, start = f"{root}/{split}/{index:06d}", 0
            own = []
            for scene in scenes(clip_generator(options.seed, split, index, stream=SCENES), frames):
                end = start + scene.frames
                if scene.label:
                    segment = Segment(start / FPS, end / FPS)
                    own.append(Row(path, scene.label, split, index, segment=segment))
                start = end
            rows += own or [Row(path, BACKGROUND, split, index)]
    labels = {*CLASSES, *(row.label for row in rows if row.label is not None)}
    return Manifest(
        name="motion",
        rows=tuple(rows),
        labels=tuple(sorted(labels)),
        flips={name: flipped(name) if name in CLASSES else name for name in labels},
        opener=FilmOpener(options),
    )


@dataclass(frozen=True)
class FilmOpener:
    """Row -> its whole film. A class and not a closure: worker processes pickle it."""

    options: MotionOptions

    def __call__(self, row: Row) -> FilmVideo:
        return FilmVideo(
            row.path,
            seed=self.options.seed,
            split=row.split,
            index=row.line,
            size=self.options.size,
            frames=round(self.options.timeline * FPS),
        )


# A film takes about 100 kB, and training opens each again and again.
@functools.lru_cache(maxsize=256)
def _drawn(
    seed: int, split: str, index: int, size: int, frames: int
) -> tuple[list[Scene], Motion, float, Scenery]:
    """All of a film but the noise of its frames."""
    # Each from a source of its own, so that a longer film begins in the same way.
    shown, moved, painted = (clip_generator(seed, split, index, stream=k) for k in (SCENES, 6, 7))
    found = scenes(shown, frames)
    noise = draw_attributes(painted).noise
    return found, motions(found, moved), noise, Scenery(painted, size)


class FilmVideo(Video):
    """A film of so many frames, drawn frame by frame.

    Args:
        name: what messages call it.
        seed: of the data set.
        split: train, validation or test.
        index: of the film in its split.
        size: height and width of the frames in pixels.
        frames: T.
    """

    def __init__(
        self, name: str, *, seed: int, split: str, index: int, size: int, frames: int
    ) -> None:
        super().__init__(name)
        self._key = seed, split, index
        self._size, self._frames = size, frames
        self.scenes, self.motion, self._noise, self._scenery = _drawn(
            seed, split, index, size, frames
        )

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Frame number `index`, uint8 [H, W, 3]."""
        image_THWC = np.empty((1, self._size, self._size, 3), np.uint8)
        place, angle, zoom, ground = (values[index] for values in self.motion)
        self._scenery.draw(place, angle, zoom, ground, image_THWC[0])
        seed, split, film = self._key
        # A stream of its own, of which each frame takes its number.
        rng = clip_generator(seed, split, (film << 32) + index, stream=5)
        return add_noise(image_THWC, self._noise, rng)[0]

    def __iter__(self) -> Iterator[Frame]:
        self._check_open()
        for index in range(self._frames):
            yield Frame(self.frame(index), index / FPS)

    def _scan(self) -> NDArray[np.float64]:
        return np.arange(self._frames) / FPS

    def _rescan(self) -> NDArray[np.float64]:
        return self._scan()

    def _fetch(self, indices: NDArray[np.int64], transform: Transform) -> Images:
        return {index: transform(self.frame(index)) for index in indices.tolist()}


def motions(shown: list[Scene], rng: np.random.Generator) -> Motion:
    """Where the subject and its ground are: in each scene from where they were before."""
    first = draw_attributes(rng)
    place, angle, zoom, ground = first.place, first.angle, first.zoom, first.ground
    parts = []
    for scene in shown:
        start = draw_attributes(rng)._replace(place=place, angle=angle, zoom=zoom, ground=ground)
        turning = int(rng.choice((-1, 1)))
        signs = rng.choice((-1, 1), size=2)
        radius, phase = rng.uniform(*CIRCLE_RADIUS), rng.uniform(0, 2 * np.pi)
        # One frame more, from which the next scene goes on.
        ticks = np.arange(scene.frames + 1, dtype=np.float64)
        part = move(scene.label, start, scene.frames + 1)
        # A swing begins where the subject is.
        places = part.place - part.place[0] + place
        angles = part.angle
        if scene.strange == DIAGONAL:
            places = places + ticks[:, None] * start.travel * signs / np.sqrt(2)
        elif scene.strange == TURN:
            angles = angles + ticks * start.turns * turning
        elif scene.strange == CIRCLE:
            turns = phase + 2 * np.pi * turning * ticks * start.swings / 1.5
            circle = radius * np.stack([np.cos(turns), np.sin(turns)], 1)
            places = places + circle - circle[0]
        part = Motion(places % 1, angles % 1, part.zoom, part.ground)
        place, angle, zoom, ground = (values[-1] for values in part)
        parts.append(Motion(*(values[:-1] for values in part)))
    return Motion(*(np.concatenate(values) for values in zip(*parts, strict=True)))
