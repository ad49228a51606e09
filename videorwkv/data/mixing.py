"""Mixup and cutmix: pairs of clips of a batch become mixtures of both, with both labels.

Zhang et al., arXiv 1710.09412, and Yun et al., arXiv 1905.04899. All frames of a clip are mixed
alike. B clips of a batch, T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from videorwkv.data.order import Key
from videorwkv.errors import ConfigError
from videorwkv.preprocess.inputs import Inputs

# Keeps the generators of pairs apart from those of clips and orders.
_MIX = 0x314C


class Mix(NamedTuple):
    """With what the clips of a batch are mixed.

    Args:
        partner_B: place in the batch of the other clip, its own where it is not mixed; int64 [B].
        share_B: share of its own pixels and of its own label, at least a half; float32 [B].
        box_B4: top, left, bottom and right of the pixels that are the other's; all 0 where both
            are blended instead; int64 [B, 4].
    """

    partner_B: Tensor
    share_B: Tensor
    box_B4: Tensor


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How clips are mixed. With both, each pair is mixed in one of the two ways.

    Args:
        mixup: alpha of the Beta distribution of the share by which two clips are blended; 0 is off.
        cutmix: the same of the area that one clip has of the other; 0 is off.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) <= 100:
                raise ConfigError(
                    f"Mixing: {name} ({getattr(self, name)}) is the alpha of a Beta distribution, "
                    "in [0, 100]; 0 is off, 0.8 or 1 is usual."
                )

    @property
    def is_on(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0

    def plan(
        self, keys: Sequence[Key], good: Sequence[bool], *, seed: int, size: int
    ) -> Mix | None:
        """Neighbours are mixed with each other, as far as both could be read.

        What is drawn is a function of the seed and of the key of the first clip of a pair, so it
        is the same however a batch is shared.

        Args:
            keys: of the clips that a batch wanted, from the first of a pair on.
            good: which of them are in the batch.
            seed: of what is drawn.
            size: side of the frames in pixels.

        Returns:
            None where no pair is whole.
        """
        places = np.cumsum(good) - 1
        count = int(sum(good))
        partner, share, box = list(range(count)), [1.0] * count, [[0, 0, 0, 0]] * count
        found = False
        for first in range(0, len(keys) - 1, 2):
            if not (good[first] and good[first + 1]):
                continue
            found = True
            one, other = int(places[first]), int(places[first + 1])
            partner[one], partner[other] = other, one
            drawn, area = self._draw(np.random.default_rng([seed, *keys[first], _MIX]), size)
            share[one] = share[other] = drawn
            box[one] = box[other] = area
        if not found:
            return None
        return Mix(
            torch.tensor(partner), torch.tensor(share, dtype=torch.float32), torch.tensor(box)
        )

    def _draw(self, rng: np.random.Generator, size: int) -> tuple[float, list[int]]:
        """Share of the clip itself, and the box of the other; no box to blend them."""
        by_box = rng.uniform() < 0.5 if self.mixup and self.cutmix else bool(self.cutmix)
        alpha = self.cutmix if by_box else self.mixup
        share = float(rng.beta(alpha, alpha))
        # Which of the two has more is no difference: they change places.
        share = max(share, 1 - share)
        row, column = rng.integers(size, size=2).tolist()
        if not by_box:
            return share, [0, 0, 0, 0]
        half = round(size * float(np.sqrt(1 - share))) // 2
        top, bottom = max(0, row - half), min(size, row + half)
        left, right = max(0, column - half), min(size, column + half)
        if half == 0:
            return 1.0, [0, 0, 0, 0]
        return 1 - (bottom - top) * (right - left) / size**2, [top, left, bottom, right]


def mixed(inputs: Inputs, mix: Mix) -> Inputs:
    """Frames and edges after mixing. The edges are made before: made after, they would draw the
    outline of a box, which is nothing in the video."""
    frames, edges = (x.clone() for x in inputs)
    partners, shares, boxes = mix.partner_B.tolist(), mix.share_B.tolist(), mix.box_B4.tolist()
    for place, (partner, share, box) in enumerate(zip(partners, shares, boxes, strict=True)):
        if partner == place or share == 1:
            continue
        top, left, bottom, right = box
        for new, old in zip((frames, edges), inputs, strict=True):
            if bottom:
                new[place, :, top:bottom, left:right] = old[partner, :, top:bottom, left:right]
            else:
                blend = torch.lerp(old[partner].float(), old[place].float(), share)
                new[place] = blend.round_().to(new.dtype)
    return Inputs(frames, edges)
