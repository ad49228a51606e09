"""What is done to the frames of a clip at test time. T frames, H height, W width, 3 colours (RGB).

A change is a frozen dataclass with a `name` and a call:
frames [T, H, W, 3] and a generator in, as many frames out. What it draws is a function
of the clip's pixels, so a clip gets the same noise whatever stands beside it in a batch.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from videorwkv.errors import ConfigError
from videorwkv.models import LCR, Inputs
from videorwkv.models.masking import Masks
from videorwkv.models.state import LCRState
from videorwkv.preprocess.edges import edge_map

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Order:
    """The frames in another order: `backwards`, `shuffled`, or `frozen` to the middle one."""

    how: Literal["backwards", "shuffled", "frozen"]

    def __post_init__(self) -> None:
        if self.how not in ("backwards", "shuffled", "frozen"):
            raise ConfigError(
                f"Order {self.how!r} is unknown; allowed: backwards, shuffled, frozen."
            )

    @property
    def name(self) -> str:
        return self.how

    def __call__(self, frames_THWC: Frames, rng: np.random.Generator) -> Frames:
        count = len(frames_THWC)
        if self.how == "shuffled":
            return frames_THWC[rng.permutation(count)]
        return frames_THWC[::-1] if self.how == "backwards" else frames_THWC[[count // 2] * count]


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of this standard deviation in grey levels, its own in every pixel."""

    deviation: float

    @property
    def name(self) -> str:
        return f"noise {self.deviation:g}"

    def __call__(self, frames_THWC: Frames, rng: np.random.Generator) -> Frames:
        noise = rng.standard_normal(frames_THWC.shape, dtype=np.float32) * self.deviation
        return np.clip(np.rint(frames_THWC + noise), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Blur:
    """Gaussian blur of this standard deviation in pixels."""

    sigma: float

    @property
    def name(self) -> str:
        return f"blur {self.sigma:g}"

    def __call__(self, frames_THWC: Frames, rng: np.random.Generator) -> Frames:
        return np.stack([cv2.GaussianBlur(f, (0, 0), self.sigma) for f in frames_THWC])


@dataclass(frozen=True)
class Dark:
    """The light times this share, in [0, 1]: an under-exposed camera with 8 bits a colour."""

    light: float

    @property
    def name(self) -> str:
        return f"light {self.light:g}"

    def __call__(self, frames_THWC: Frames, rng: np.random.Generator) -> Frames:
        return np.rint(frames_THWC * np.float32(self.light)).astype(np.uint8)


@dataclass(frozen=True)
class Jpeg:
    """JPEG of this quality, 1 to 100, frame by frame."""

    quality: int

    @property
    def name(self) -> str:
        return f"JPEG {self.quality}"

    def __call__(self, frames_THWC: Frames, rng: np.random.Generator) -> Frames:
        quality = [cv2.IMWRITE_JPEG_QUALITY, self.quality]
        # OpenCV's order of colours is blue first; JPEG treats the three differently.
        packed = [cv2.imencode(".jpg", f[..., ::-1], quality)[1] for f in frames_THWC]
        unpacked: list[Frames] = [np.asarray(cv2.imdecode(p, cv2.IMREAD_COLOR)) for p in packed]
        return np.stack([image_HWC[..., ::-1] for image_HWC in unpacked])


Change = Order | Noise | Blur | Dark | Jpeg


class Changed(nn.Module):
    """A model that sees changed clips: the frames are changed, then the edges made of them.

    Args:
        model: in evaluation mode.
        change: what is done to each clip.
        seed: of what it draws.
    """

    def __init__(self, model: LCR, change: Change, seed: int = 0) -> None:
        super().__init__()
        self.model = model
        self.change = change
        self.seed = seed
        self.config = model.config

    def forward(self, inputs: Inputs) -> Tensor:
        return self.model(self.apply_change(inputs))

    def scan(self, inputs: Inputs, state: LCRState | None = None) -> tuple[Tensor, LCRState]:
        return self.model.scan(self.apply_change(inputs), state)

    def init_state(self, *sizes: Any, **options: Any) -> LCRState:
        return self.model.init_state(*sizes, **options)

    def resolve_masks(self, masks: Masks) -> Masks:
        return self.model.resolve_masks(masks)

    def apply_change(self, inputs: Inputs) -> Inputs:
        """The changed clips with their edges, on the device that `inputs` are on."""
        frames, edges = [], []
        for clip_THWC in inputs.frames_BTHWC.cpu().numpy():
            # By content: independent of the batch and of the place in it.
            rng = np.random.default_rng([self.seed, zlib.crc32(clip_THWC.tobytes())])
            changed_THWC = np.ascontiguousarray(self.change(clip_THWC, rng))
            frames.append(torch.from_numpy(changed_THWC))
            edges_THW = edge_map(changed_THWC, self.config.edges, self.config.edge_options)
            edges.append(torch.from_numpy(edges_THW))
        device = inputs.frames_BTHWC.device
        return Inputs(torch.stack(frames), torch.stack(edges)).to(device)
