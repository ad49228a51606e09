"""`scenes`, generated clips to start from: what moves, where to, how, in which order, and what the
camera does.

One to three bodies of random shape travel, turn, deform, move limbs and rest, behind and before
other things, over a cluttered ground, under a camera that may pan, zoom, turn or shake and a light
that may change. A clip has many labels, read off what was drawn: `late:left`, `apart`, `camera
closer`. Nobody's video is in it, so what is learnt from it is free of any data set's licence. The
idea is that of Yu et al., "Learning video representations without natural videos" (arXiv
2410.24213); shapes, movements and labels are this project's.

A clip is exact by (seed, split, index). T frames, A actors, H height, W width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from videorwkv.data.manifest import Manifest, Row, join_labels
from videorwkv.data.motion.actors import Actor, draw_actor, draw_surface, progress
from videorwkv.data.motion.clips import SPLITS, clip_generator, parse_options
from videorwkv.data.motion.gestures import clutter
from videorwkv.data.motion.render import add_noise
from videorwkv.errors import ConfigError
from videorwkv.video.array import ArrayVideo

THIRDS = ("early", "middle", "late")
WAYS = ("left", "right", "up", "down")
CAMERAS = (
    *("pan left", "pan right", "pan up", "pan down", "closer", "away"),
    *("turn clockwise", "turn counterclockwise", "shake"),
)
PLACES = tuple(
    f"at {row} {column}"
    for row in ("top", "middle", "bottom")
    for column in ("left", "middle", "right")
)
LIGHTS = ("brighter", "darker", "flicker")

FPS = 8.0
_MIRRORED = {"left": "right", "clockwise": "counterclockwise"}
_MIRRORED |= {there: here for here, there in _MIRRORED.items()}

# In units of the frame's side: what counts as a movement in a third of the clip.
MOVED = 0.06
# Turns of the path's direction that make it an arc, and of a body that make it spin.
ARC, SPUN = 0.4, 0.15
# Change of the logarithm of the size, and turns of a limb, that count.
GROWN, WAVED = 0.2, 0.1
# Change of the distance of two bodies, in units of the side.
NEARER = 0.1

LABELS = tuple(
    sorted(
        (
            *(f"{third}:{way}" for third in THIRDS for way in (*WAYS, "rest", "limb")),
            *PLACES,
            *(f"camera {camera}" for camera in CAMERAS),
            *(f"light {light}" for light in LIGHTS),
            *("arc clockwise", "arc counterclockwise", "spin clockwise", "spin counterclockwise"),
            *("there and back", "grows", "shrinks", "pulses", "bends", "limb waves", "limb raised"),
            *("together", "apart", "touch", "both move", "left one first", "right one first"),
            *("fast", "slow"),
        )
    )
)


@dataclass(frozen=True, kw_only=True)
class SceneOptions:
    """What `scenes:name=value,...` can set.

    Args:
        train, validation, test: clips of each split.
        seed: another seed is another data set.
        size: height and width of the frames in pixels.
        frames: frames of a clip, `FPS` a second.
    """

    train: int = 32000
    validation: int = 500
    test: int = 500
    seed: int = 1
    size: int = 64
    frames: int = 16

    def __post_init__(self) -> None:
        least = {"size": 32, "frames": 8}
        for option in fields(self):
            value = getattr(self, option.name)
            if value < least.get(option.name, 0):
                raise ConfigError(
                    f"scenes: {option.name} ({value}) must be at least {least.get(option.name, 0)}."
                )

    @classmethod
    def parse(cls, text: str) -> SceneOptions:
        """`train=400,size=64` -> options; raises `ConfigError` on an unknown name or value."""
        return cls(**parse_options("scenes", cls, text))


def scene_manifest(options: SceneOptions) -> Manifest:
    """The rows of the data set; what happens in every clip is drawn for its labels, which takes
    about a second for 1,000 clips."""
    root = f"scenes-{options.seed}-{options.size}px-{options.frames}f"
    rows = []
    for split in SPLITS:
        for index in range(getattr(options, split)):
            rng = clip_generator(options.seed, split, index, stream=4)
            label = join_labels(draw_scene(rng, options.frames).labels)
            rows.append(Row(f"{root}/{split}/{index:06d}", label, split, index))
    return Manifest(
        name="scenes",
        rows=tuple(rows),
        labels=LABELS,
        flips={label: flipped(label) for label in LABELS},
        multilabel=True,
        opener=SceneOpener(options),
    )


@dataclass(frozen=True)
class SceneOpener:
    """Row -> video. A class and not a closure: worker processes pickle it."""

    options: SceneOptions

    def __call__(self, row: Row) -> ArrayVideo:
        options = self.options
        happens, looks = (
            clip_generator(options.seed, row.split, row.line, stream=stream) for stream in (4, 5)
        )
        scene = draw_scene(happens, options.frames)
        frames_THWC = paint_scene(scene, looks, options.size)
        return ArrayVideo(row.path, frames_THWC, np.arange(options.frames) / FPS)


def flipped(label: str) -> str:
    """The label of the horizontally flipped clip."""
    words = re.split(r"(\W)", label)
    return "".join(_MIRRORED.get(word, word) for word in words)


@dataclass(frozen=True, eq=False)
class Scene:
    """What happens in a clip, before it is painted.

    Args:
        actors: bodies that may move.
        before: bodies that stand still, nearer than those.
        camera: what it does; empty: nothing.
        camera_T23: from fractions of the frame's side to fractions of the picture's.
        lamp: what the light does; empty: nothing.
        lamp_T: factor on all grey levels.
    """

    actors: tuple[Actor, ...]
    before: tuple[Actor, ...]
    camera: str
    camera_T23: NDArray[np.float64]
    lamp: str
    lamp_T: NDArray[np.float64]

    @property
    def labels(self) -> tuple[str, ...]:
        """What is true of it: names in `LABELS`, sorted."""
        found = {*_labels_of(self.actors, len(self.lamp_T)), *_pair_labels(self.actors)}
        found |= {f"camera {self.camera}"} if self.camera else set()
        found |= {f"light {self.lamp}"} if self.lamp else set()
        return tuple(sorted(found))


def draw_scene(rng: np.random.Generator, frames: int) -> Scene:
    """Draw what happens in so many frames."""
    count = int(rng.choice((1, 2, 3), p=(0.45, 0.4, 0.15)))
    actors = tuple(draw_actor(rng, frames) for _ in range(count))
    before = tuple(draw_actor(rng, frames) for _ in range(int(rng.integers(0, 2))))
    return Scene(actors, before, *_draw_camera(rng, frames), *_draw_light(rng, frames))


def paint_scene(scene: Scene, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Square frames of a scene, with surfaces, a background and noise drawn from `rng`:
    [T, size, size, 3]."""
    light = rng.uniform(60, 180)
    bodies = [(body, draw_surface(rng, light)) for body in scene.actors]
    still = [(body, draw_surface(rng, light)) for body in scene.before]
    # Thrice the frame's side, so that no camera sees an end.
    side = 3 * size
    canvas_HWC = cv2.resize(clutter(rng, 2 * size, 2 * size, light), (side, side))
    noise = rng.uniform(0.5, 5)
    out_THWC = np.empty((len(scene.lamp_T), size, size, 3), np.uint8)
    for t, camera_23 in enumerate(scene.camera_T23 * size):
        # The canvas lies around the frame: from its pixels to those of the picture.
        turn_22 = camera_23[:, :2] / size
        ground_23 = np.column_stack([turn_22, camera_23[:, 2] - turn_22 @ (size, size)])
        image_HWC = cv2.warpAffine(canvas_HWC, ground_23, (size, size))
        for body, surface_SSC in bodies:
            body.paint(image_HWC, t, camera_23, surface_SSC)
        for body, surface_SSC in still:
            body.paint(image_HWC, 0, camera_23, surface_SSC)
        out_THWC[t] = cv2.convertScaleAbs(image_HWC, alpha=float(scene.lamp_T[t]))
    return add_noise(out_THWC, noise, rng)


def _draw_camera(rng: np.random.Generator, frames: int) -> tuple[str, NDArray[np.float64]]:
    """What the camera does (empty: nothing), and where it puts the frame [T, 2, 3]."""
    done_T = progress(rng, frames, rng.uniform(-0.3, 0.3), rng.uniform(0.7, 1.3))
    camera = str(rng.choice(("", *CAMERAS), p=(0.5, *(0.5 / len(CAMERAS),) * len(CAMERAS))))
    shift_T2, zoom_T, turn_T = rng.normal(0, 0.001, (frames, 2)), np.ones(frames), np.zeros(frames)
    ways = {"left": (1, 0), "right": (-1, 0), "up": (0, 1), "down": (0, -1)}
    if camera.startswith("pan"):  # the picture goes the other way
        way = np.array(ways[camera.removeprefix("pan ")])
        shift_T2 += (done_T - 0.5)[:, None] * way * rng.uniform(0.15, 0.5)
    elif camera == "shake":
        shift_T2 += rng.normal(0, rng.uniform(0.01, 0.03), size=(frames, 2))
    elif camera in ("closer", "away"):
        zoom_T = np.exp((done_T - 0.5) * rng.uniform(0.25, 0.7) * (1 if camera == "closer" else -1))
    elif camera:  # the picture turns the other way
        turn_T = (done_T - 0.5) * rng.uniform(0.06, 0.2) * (-1 if camera == "turn clockwise" else 1)
    cos_T, sin_T = (f(2 * np.pi * turn_T) * zoom_T for f in (np.cos, np.sin))
    turn_T22 = np.stack([cos_T, -sin_T, sin_T, cos_T], 1).reshape(frames, 2, 2)
    middle_T2 = 0.5 + shift_T2 - turn_T22.sum(2) / 2
    return camera, np.concatenate([turn_T22, middle_T2[:, :, None]], 2)


def _draw_light(rng: np.random.Generator, frames: int) -> tuple[str, NDArray[np.float64]]:
    """What the light does (empty: nothing), and factors [T]."""
    lamp = str(rng.choice(("", *LIGHTS), p=(0.7, 0.1, 0.1, 0.1)))
    done_T = progress(rng, frames, rng.uniform(0, 0.5), rng.uniform(0.6, 1))
    if lamp == "flicker":
        return lamp, np.exp(rng.normal(0, rng.uniform(0.05, 0.15), size=frames))
    depth = {"": 0.0, "brighter": 1.0, "darker": -1.0}[lamp] * rng.uniform(0.25, 0.6)
    return lamp, np.exp(depth * (done_T - 0.5))


def _labels_of(actors: Sequence[Actor], frames: int) -> set[str]:
    """What one or another of the bodies does."""
    found: set[str] = set()
    cuts = np.linspace(0, frames - 1, len(THIRDS) + 1).round().astype(int)
    for third, first, last in zip(THIRDS, cuts, cuts[1:], strict=False):
        rest = True
        for actor in actors:
            x, y = actor.place_T2[last] - actor.place_T2[first]
            far = np.ptp(actor.place_T2[first : last + 1], axis=0)
            waved = (
                actor.limbs_TL.shape[1]
                and np.ptp(actor.limbs_TL[first : last + 1], axis=0).max() > WAVED
            )
            rest = rest and not waved and far.max() < MOVED / 2
            found |= {f"{third}:limb"} if waved else set()
            if abs(x) > MOVED:
                found.add(f"{third}:{'right' if x > 0 else 'left'}")
            if abs(y) > MOVED:
                found.add(f"{third}:{'down' if y > 0 else 'up'}")
        found |= {f"{third}:rest"} if rest else set()
    for actor in actors:
        found |= _own_labels(actor)
    return found


def _own_labels(actor: Actor) -> set[str]:
    """What this body does over the whole clip."""
    found: set[str] = set()
    step_T2 = np.diff(actor.place_T2, axis=0)
    length_T = np.linalg.norm(step_T2, axis=1)
    way = length_T.sum()
    moving = length_T > 0.3 * length_T.max()
    if way > 2 * MOVED:
        heading_T = np.unwrap(np.arctan2(step_T2[:, 1], step_T2[:, 0])[moving]) / (2 * np.pi)
        smooth = len(heading_T) > 3 and np.abs(np.diff(heading_T)).max() < 0.2
        if smooth and abs(heading_T[-1] - heading_T[0]) > ARC:
            found.add("arc clockwise" if heading_T[-1] > heading_T[0] else "arc counterclockwise")
        apart = np.linalg.norm(actor.place_T2 - actor.place_T2[0], axis=1)
        if apart[-1] < 0.3 * apart.max() and apart.max() > MOVED:
            found.add("there and back")
        found.add("fast" if way / len(length_T) > 0.05 else "slow")
        # Where it is while it moves.
        for x, y in np.clip(actor.place_T2[1:][moving], 0, 0.999):
            found.add(PLACES[3 * int(3 * y) + int(3 * x)])
    turned = actor.spin_T[-1] - actor.spin_T[0]
    if abs(turned) > SPUN:
        found.add("spin clockwise" if turned > 0 else "spin counterclockwise")
    for path_T, grown, shrunk, both in (
        (np.log(actor.size_T), "grows", "shrinks", "pulses"),
        (actor.squeeze_T, "bends", "bends", "bends"),
    ):
        change, extent = path_T[-1] - path_T[0], np.ptp(path_T)
        if abs(change) > GROWN:
            found.add(grown if change > 0 else shrunk)
        elif extent > GROWN:
            found.add(both)
    for limb_T in actor.limbs_TL.T:
        if np.ptp(limb_T) > WAVED:
            raised = abs(limb_T[-1] - limb_T[0]) > 0.7 * np.ptp(limb_T)
            found.add("limb raised" if raised else "limb waves")
    return found


def _pair_labels(actors: Sequence[Actor]) -> set[str]:
    """What two bodies do to each other."""
    found: set[str] = set()
    starts = []
    for actor in actors:
        far_T = np.linalg.norm(actor.place_T2 - actor.place_T2[0], axis=1)
        if far_T.max() > 2 * MOVED:
            starts.append((int(np.argmax(far_T > MOVED)), actor.place_T2[0, 0]))
    if len(starts) > 1:
        found.add("both move")
    if (
        len(starts) == 2
        and abs(starts[0][0] - starts[1][0]) > 1
        and abs(starts[0][1] - starts[1][1]) > MOVED
    ):
        first, second = sorted(starts)
        found.add("left one first" if first[1] < second[1] else "right one first")
    if len(actors) == 2:
        one, other = actors
        gap_T = np.linalg.norm(one.place_T2 - other.place_T2, axis=1)
        touching_T = gap_T < one.radius * one.size_T + other.radius * other.size_T
        if gap_T[0] - gap_T[-1] > NEARER:
            found.add("together")
        if gap_T[-1] - gap_T[0] > NEARER:
            found.add("apart")
        if touching_T.any() and not touching_T.all():
            found.add("touch")
    return found
