"""`nothing`: generated videos in which nothing happens, for counting false alarms.

`nothing:minutes=10` are six videos of ten minutes: black; a still picture; the same with the noise
of a camera; noise alone, fine and coarse; a picture under a light that flickers. Pictures are those
of `motion`, another one each minute. H height, W width, C = 3 (RGB).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from videorwkv.data.background import BACKGROUND
from videorwkv.data.manifest import Manifest, Row
from videorwkv.data.motion.clips import MotionOptions, motion_manifest, parse_options
from videorwkv.errors import ConfigError
from videorwkv.video.base import Frame, Images, Transform, Video

KINDS = ("black", "still", "still_noise", "noise", "coarse_noise", "flicker")
RATE = 12.0
# Seconds after which a still picture is another one: a cut is no action either.
SCENE = 60.0


@dataclass(frozen=True, kw_only=True)
class NothingOptions:
    """What `nothing:name=value,...` can set.

    Args:
        minutes: of each video.
        size: height of the frames in pixels; they are four thirds as wide.
        seed: another seed is another data set.
    """

    minutes: int = 10
    size: int = 96
    seed: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.minutes <= 1440 or self.size < 32 or self.seed < 0:
            raise ConfigError(
                f"nothing: minutes ({self.minutes}) must lie in [1, 1440], size ({self.size}) be "
                f"at least 32 and seed ({self.seed}) at least 0."
            )

    @classmethod
    def parse(cls, text: str) -> NothingOptions:
        """`minutes=10,size=96` -> options; raises `ConfigError` on an unknown name or value."""
        return cls(**parse_options("nothing", cls, text))


def nothing_manifest(options: NothingOptions) -> Manifest:
    """A video of each kind, in the split `test`."""
    root = f"nothing-{options.seed}-{options.minutes}min"
    return Manifest(
        name="nothing",
        rows=tuple(Row(f"{root}/{kind}", BACKGROUND, "test") for kind in KINDS),
        labels=(BACKGROUND,),
        flips={BACKGROUND: BACKGROUND},
        opener=NothingOpener(options),
    )


@dataclass(frozen=True)
class NothingOpener:
    """Row -> video. A class and not a closure: worker processes pickle it."""

    options: NothingOptions = field(default_factory=NothingOptions)

    def __call__(self, row: Row) -> Video:
        return NothingVideo(row.path, row.path.rpartition("/")[2], self.options)


class NothingVideo(Video):
    """A generated video; a frame is a function of its number.

    Args:
        name: what messages call it.
        kind: one of `KINDS`.
        options: of the data set.
    """

    def __init__(self, name: str, kind: str, options: NothingOptions) -> None:
        super().__init__(name)
        self.kind, self.options = kind, options
        self.count = max(1, round(options.minutes * 60 * RATE))
        self._scene: tuple[int, NDArray[np.float32]] = (-1, np.zeros(0, np.float32))

    def __iter__(self) -> Iterator[Frame]:
        self._check_open()
        for number in range(self.count):
            yield Frame(self._image(number), number / RATE)

    def _scan(self) -> NDArray[np.float64]:
        return np.arange(self.count) / RATE

    def _rescan(self) -> NDArray[np.float64]:
        return self._scan()

    def _fetch(self, indices: NDArray[np.int64], transform: Transform) -> Images:
        return {number: transform(self._image(number)) for number in indices.tolist()}

    @cached_property
    def _scenes(self) -> Manifest:
        wanted = -(-self.count // round(SCENE * RATE))
        return motion_manifest(
            MotionOptions(
                test=wanted, train=0, validation=0, size=64, seed=self.options.seed + 1000
            )
        )

    def _picture(self, number: int) -> NDArray[np.float32]:
        """The still picture at a frame, [H, W, 3]."""
        scene = int(number / RATE // SCENE)
        if self._scene[0] != scene:
            rows = self._scenes.rows
            image_HWC = self._scenes.open(rows[scene % len(rows)]).read([0]).frames_THWC[0]
            size = (self.options.size * 4 // 3, self.options.size)
            large = cv2.resize(image_HWC, size, interpolation=cv2.INTER_CUBIC)
            self._scene = scene, large.astype(np.float32)
        return self._scene[1]

    def _image(self, number: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng([self.options.seed, KINDS.index(self.kind), number])
        height, width = self.options.size, self.options.size * 4 // 3
        if self.kind == "black":
            return np.zeros((height, width, 3), np.uint8)
        if self.kind == "noise":
            return rng.integers(256, size=(height, width, 3), dtype=np.uint8)
        if self.kind == "coarse_noise":
            small = rng.integers(256, size=(-(-height // 8), -(-width // 8), 1), dtype=np.uint8)
            large = small.repeat(8, 0).repeat(8, 1)[:height, :width]
            return np.broadcast_to(large, (height, width, 3)).copy()
        picture_HWC: NDArray[np.floating] = self._picture(number)
        if self.kind == "still_noise":
            picture_HWC = picture_HWC + rng.normal(0, 10, picture_HWC.shape)
        elif self.kind == "flicker":
            # A lamp, whose rhythm is another one every 20 seconds.
            part = int(number / RATE // 20)
            own = np.random.default_rng([self.options.seed, 99, part])
            rhythm, depth = own.uniform(0.2, 6.0), own.uniform(0.1, 0.8)
            picture_HWC = picture_HWC * (1 + depth * np.sin(2 * np.pi * rhythm * number / RATE))
        return np.clip(picture_HWC, 0, 255).astype(np.uint8)
