"""Clips in which nothing happens, made of training clips: what a stream shows most of its time.

Without them a model has never seen a picture that says nothing, and names one of its classes all
the same. T frames, H height, W width, C = 3 (RGB), all uint8.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
# Grey levels. Cameras in the dark reach the upper one.
SENSOR_NOISE = (1.0, 25.0)


def still(frames_THWC: Frames, rng: np.random.Generator) -> Frames:
    """One of the frames all the time."""
    chosen = frames_THWC[rng.integers(len(frames_THWC))]
    return np.repeat(chosen[None], len(frames_THWC), axis=0)


def still_noise(frames_THWC: Frames, rng: np.random.Generator) -> Frames:
    """A still picture, as a camera sees it that has little light."""
    return _noisy(still(frames_THWC, rng).astype(np.float32), rng)


def black(frames_THWC: Frames, rng: np.random.Generator) -> Frames:
    """A covered lens: one dark colour, with or without the noise of a camera."""
    colour_C = rng.uniform(0, 40, 3) * (rng.uniform() < 0.5)
    plain = np.broadcast_to(colour_C.astype(np.float32), frames_THWC.shape)
    return _noisy(plain, rng) if rng.uniform() < 0.5 else plain.astype(np.uint8)


def flicker(frames_THWC: Frames, rng: np.random.Generator) -> Frames:
    """A still picture under a light that changes: in a rhythm, at random, or once."""
    frames = len(frames_THWC)
    depth, kind = rng.uniform(0.05, 0.9), rng.integers(3)
    if kind == 0:
        wave_T = np.sin(2 * np.pi * (rng.uniform(0.03, 0.5) * np.arange(frames) + rng.uniform()))
    elif kind == 1:
        wave_T = rng.uniform(-1, 1, frames)
    else:
        wave_T = np.where(np.arange(frames) < rng.integers(1, max(2, frames)), 1.0, -1.0)
    light_T = (1 + depth * wave_T).astype(np.float32)
    lit = still(frames_THWC, rng).astype(np.float32) * light_T[:, None, None, None]
    return _noisy(lit, rng) if rng.uniform() < 0.5 else np.clip(lit, 0, 255).astype(np.uint8)


def noise(frames_THWC: Frames, rng: np.random.Generator) -> Frames:
    """No signal: noise alone, fine or coarse, grey or coloured, anew in every frame."""
    frames, height, width = frames_THWC.shape[:3]
    grain = int(rng.choice([1, 1, 2, 4, 8]))
    shape = (frames, -(-height // grain), -(-width // grain), 3 if rng.uniform() < 0.5 else 1)
    mean, spread = rng.uniform(30, 225), rng.uniform(10, 128)
    coarse = rng.uniform(-1, 1, shape) if rng.uniform() < 0.5 else rng.normal(0, 0.6, shape)
    levels = np.clip(mean + spread * coarse, 0, 255).astype(np.uint8)
    large = levels.repeat(grain, 1).repeat(grain, 2)[:, :height, :width]
    return np.broadcast_to(large, frames_THWC.shape).copy()


KINDS: dict[str, Callable[[Frames, np.random.Generator], Frames]] = {
    "still": still,
    "still_noise": still_noise,
    "black": black,
    "flicker": flicker,
    "noise": noise,
}


def negative(frames_THWC: Frames, seed: int) -> Frames:
    """A clip in which nothing happens, of the size of another one.

    Args:
        frames_THWC: the other one, as the model would see it.
        seed: chooses one of `KINDS` and everything in it.
    """
    rng = np.random.default_rng(seed)
    kinds = list(KINDS.values())
    return kinds[int(rng.integers(len(kinds)))](frames_THWC, rng)


def _noisy(frames_THWC: NDArray[np.float32], rng: np.random.Generator) -> Frames:
    """With the noise of a camera, whose pixels may be averaged or not."""
    sigma = float(np.exp(rng.uniform(*np.log(SENSOR_NOISE))))
    drawn = rng.normal(0, sigma, frames_THWC.shape).astype(np.float32)
    if rng.uniform() < 0.3:
        drawn = np.stack([cv2.blur(one, (3, 3)) for one in drawn]) * 2
    return np.clip(frames_THWC + drawn, 0, 255).astype(np.uint8)
