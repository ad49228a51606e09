"""What acts in the clips of `scenes`: bodies that travel, turn, deform and move limbs.

Each movement is a smooth function of time, drawn at random; labels are read off it afterwards, so
they are true whatever was drawn. T frames, P points. Lengths are fractions of the frame's side, x
to the right and y down; angles are in turns, clockwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from videorwkv.data.motion.render import texture

POINTS = 40
# Radius of a body without its limbs.
RADIUS = (0.05, 0.17)
# A body travels so far in one act, in any of eight directions, or turns about a point beside it.
REACH = (0.2, 0.6)
# Places where a body begins, a fraction of the side from the border.
MARGIN = 0.12
# Side of the texture that a body is cut out of, in pixels.
PATCH = 48

Path: TypeAlias = Callable[[np.random.Generator, int], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Actor:
    """One body over a clip.

    Args:
        place_T2: of its middle.
        spin_T: its turning.
        size_T: factor on its radius.
        squeeze_T: its height over its width, as a logarithm.
        limbs_TL: angle of each limb.
        radius: of the body.
        outline_P: distance of the outline from the middle, of a mean of 1.
        limb_length: in radii.
    """

    place_T2: NDArray[np.float64]
    spin_T: NDArray[np.float64]
    size_T: NDArray[np.float64]
    squeeze_T: NDArray[np.float64]
    limbs_TL: NDArray[np.float64]
    radius: float
    outline_P: NDArray[np.float64]
    limb_length: float

    def paint(
        self,
        image_HWC: NDArray[np.uint8],
        t: int,
        camera_23: NDArray[np.float64],
        surface_SSC: NDArray[np.uint8],
    ) -> None:
        """Paint it into the image, in place, as it is in frame `t`.

        Args:
            image_HWC: the frame so far.
            t: its number.
            camera_23: from fractions of the frame's side to pixels.
            surface_SSC: what it looks like; goes with it.
        """
        radius = self.radius * self.size_T[t]
        turn_P = 2 * np.pi * np.arange(POINTS) / POINTS
        stretch = np.exp(self.squeeze_T[t] / 2)
        body_P2 = np.stack([np.cos(turn_P) / stretch, np.sin(turn_P) * stretch], 1)
        parts = [_turned(body_P2 * self.outline_P[:, None] * radius, self.spin_T[t])]
        limb_P2 = _limb(radius, self.limb_length)
        parts += [_turned(limb_P2, angle + self.spin_T[t]) for angle in self.limbs_TL[t]]
        parts = [(part + self.place_T2[t]) @ camera_23[:, :2].T + camera_23[:, 2] for part in parts]
        every_P2 = np.concatenate(parts)
        # Only the window that it covers is touched.
        corner = np.maximum(np.floor(every_P2.min(0)).astype(int) - 1, 0)
        x, y = corner
        right, bottom = np.ceil(every_P2.max(0)).astype(int) + 2
        window_HWC = image_HWC[y : max(bottom, y), x : max(right, x)]
        if not window_HWC.size:
            return
        height, width = window_HWC.shape[:2]
        cover_HW = np.zeros((height, width), np.uint8)
        for part_P2 in parts:
            # Four fractional bits: what moves by less than a pixel is seen to move.
            points = np.rint((part_P2 - corner) * 16).astype(np.int32)
            cv2.fillPoly(cover_HW, [points], 255, lineType=cv2.LINE_AA, shift=4)
        at = camera_23[:, :2] @ self.place_T2[t] + camera_23[:, 2]
        rows = (np.arange(height) + y - round(float(at[1]))) % len(surface_SSC)
        columns = (np.arange(width) + x - round(float(at[0]))) % len(surface_SSC)
        surface_HWC = surface_SSC[rows][:, columns]
        alpha_HWC = cv2.merge([cover_HW] * 3)
        hidden_HWC = cv2.multiply(window_HWC, alpha_HWC, scale=1 / 255)
        shown_HWC = cv2.multiply(surface_HWC, alpha_HWC, scale=1 / 255)
        window_HWC[:] = cv2.add(cv2.subtract(window_HWC, hidden_HWC), shown_HWC)


def draw_actor(rng: np.random.Generator, frames: int) -> Actor:
    """A body with a life of `frames` frames, as much of its way in the frame as fits."""
    radius = float(np.exp(rng.uniform(*np.log(RADIUS))))
    turn_P = 2 * np.pi * np.arange(POINTS) / POINTS
    outline_P = np.ones(POINTS)
    for k in range(2, 6):  # lobes
        outline_P += rng.uniform(0, 0.22 / k) * np.cos(k * turn_P + rng.uniform(0, 2 * np.pi))
    limbs = int(rng.choice(4, p=(0.4, 0.25, 0.25, 0.1)))
    way_T2 = _travel(rng, frames)
    low, high = way_T2.min(0), way_T2.max(0)
    room = np.maximum(1 - 2 * MARGIN - (high - low), 0)
    limb_paths = [rng.uniform() + _maybe(rng, 0.7, _limb_path, frames) for _ in range(limbs)]
    return Actor(
        place_T2=way_T2 + MARGIN - low + rng.uniform(0, 1, size=2) * room,
        spin_T=rng.uniform() + _maybe(rng, 0.25, _spin, frames),
        size_T=np.exp(_maybe(rng, 0.25, _swell, frames)),
        squeeze_T=rng.uniform(-0.6, 0.6) + _maybe(rng, 0.2, _swell, frames),
        limbs_TL=np.stack(limb_paths, 1) if limbs else np.zeros((frames, 0)),
        radius=radius,
        outline_P=outline_P,
        limb_length=float(rng.uniform(1.8, 3.2)),
    )


def draw_surface(rng: np.random.Generator, light: float) -> NDArray[np.uint8]:
    """A texture that is lighter or darker than its surroundings [S, S, 3], periodic."""
    level = float(np.clip(light + rng.choice((-1, 1)) * rng.uniform(15, 80), 20, 235))
    return texture(rng, PATCH, light=level, contrast=rng.uniform(4, 40))


def progress(
    rng: np.random.Generator, frames: int, first: float, last: float
) -> NDArray[np.float64]:
    """0 to 1 between two moments, fractions of the clip, slowly or fast at either end [T]."""
    u_T = (np.arange(frames) + 0.5) / frames
    done_T = np.clip((u_T - first) / max(last - first, 1e-6), 0, 1)
    return np.asarray((0.5 - 0.5 * np.cos(np.pi * done_T)) ** np.exp(rng.uniform(-0.7, 0.7)))


def _maybe(rng: np.random.Generator, share: float, path: Path, frames: int) -> NDArray[np.float64]:
    """A path that `share` of the bodies have, the others rest [T]."""
    return path(rng, frames) if rng.uniform() < share else np.zeros(frames)


def _acts(rng: np.random.Generator, most: int) -> list[tuple[float, float]]:
    """Begin and end of acts in a row with rests between them, as fractions of the clip."""
    count = int(rng.integers(1, most + 1))
    shares = rng.uniform(0.5, 1.5, size=2 * count + 1)
    shares[::2] *= rng.uniform(0, 1.2)  # the rests
    ends = np.cumsum(shares) / shares.sum()
    return [(float(ends[2 * k]), float(ends[2 * k + 1])) for k in range(count)]


def _travel(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Offsets [T, 2]: straight ways, arcs, or there and back, one after the other; or none."""
    path_T2 = np.zeros((frames, 2))
    kind = rng.choice(("rest", "ways", "arc", "back"), p=(0.2, 0.45, 0.2, 0.15))
    if kind == "ways":
        for first, last in _acts(rng, 3):
            angle = 2 * np.pi * (rng.integers(8) / 8 + rng.normal(0, 0.02))
            way = rng.uniform(*REACH) * np.array([np.cos(angle), np.sin(angle)])
            path_T2 += progress(rng, frames, first, last)[:, None] * way
    elif kind == "arc":
        ((first, last),) = _acts(rng, 1)
        radius, begin = rng.uniform(0.1, 0.25), rng.uniform()
        turns = rng.choice((-1, 1)) * rng.uniform(0.5, 1.5)
        angle_T = 2 * np.pi * (begin + turns * progress(rng, frames, first, last))
        path_T2 = radius * np.stack([np.cos(angle_T), np.sin(angle_T)], 1)
        path_T2 = path_T2 - path_T2[0]
    elif kind == "back":
        ((first, last),) = _acts(rng, 1)
        times, angle = rng.integers(1, 5), 2 * np.pi * rng.integers(8) / 8
        swing_T = 0.5 - 0.5 * np.cos(2 * np.pi * times * progress(rng, frames, first, last))
        way = rng.uniform(0.1, 0.4) * np.array([np.cos(angle), np.sin(angle)])
        path_T2 = swing_T[:, None] * way
    # Nothing that lives is nailed down.
    return path_T2 + np.cumsum(rng.normal(0, rng.uniform(0, 0.004), size=(frames, 2)), axis=0)


def _spin(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    ((first, last),) = _acts(rng, 1)
    return rng.choice((-1, 1)) * rng.uniform(0.25, 1.5) * progress(rng, frames, first, last)


def _swell(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Growth, shrinking, or both in turn, as a logarithm [T]."""
    ((first, last),) = _acts(rng, 1)
    done_T = progress(rng, frames, first, last)
    if rng.uniform() < 0.4:
        done_T = 0.5 - 0.5 * np.cos(2 * np.pi * rng.integers(1, 5) * done_T)
    return rng.choice((-1, 1)) * rng.uniform(0.35, 0.8) * done_T


def _limb_path(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """A limb is raised, or goes there and back once or several times [T]."""
    ((first, last),) = _acts(rng, 1)
    done_T = progress(rng, frames, first, last)
    if rng.uniform() < 0.6:
        done_T = 0.5 - 0.5 * np.cos(2 * np.pi * rng.integers(1, 5) * done_T)
    return rng.choice((-1, 1)) * rng.uniform(0.15, 0.5) * done_T


def _limb(radius: float, length: float) -> NDArray[np.float64]:
    """A bar from the middle to the right."""
    half, end = radius * 0.28, radius * length
    return np.array([(0, -half), (end, -half * 0.7), (end, half * 0.7), (0, half)])


def _turned(points_P2: NDArray[np.float64], turns: float) -> NDArray[np.float64]:
    cos, sin = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
    return points_P2 @ np.array([[cos, sin], [-sin, cos]])
