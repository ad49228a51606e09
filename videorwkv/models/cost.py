"""Parameters and multiply-accumulates (MACs) of a model, counted and by formula.

A MAC is one multiplication and one addition: papers (LCR's among them) print MACs as "FLOPs",
PyTorch's counter prints two operations a MAC. Both are given, named.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from videorwkv.models import Inputs, LCRConfig, build_model
from videorwkv.models.masking import NO_MASKS, Masks
from videorwkv.ops.wkv import scan_backend


class Cost(NamedTuple):
    """What a model costs.

    Args:
        parameters: trainable numbers.
        macs_per_frame: multiply-accumulates of one frame at the configured size.
        macs_per_clip: those of `num_frames` frames.
        num_frames: frames of the clip.
    """

    parameters: int
    macs_per_frame: int
    macs_per_clip: int
    num_frames: int

    @property
    def flops_per_clip(self) -> int:
        """Two operations a MAC, as `torch.utils.flop_counter` counts."""
        return 2 * self.macs_per_clip


def cost(config: LCRConfig, masks: Masks = NO_MASKS) -> Cost:
    """Count one clip of `config.num_frames` frames at `config.image_size`.

    Products and convolutions are counted, as in most papers; sums, norms and activations are not.
    The scan is counted as its chunked form, which consists of matrix products, whatever runs on
    this machine; the softmax mixer as the plain computation.

    Args:
        config: the model.
        masks: which patches are left out.
    """
    model = build_model(config).eval()
    size, num_frames = config.image_size, config.num_frames
    counts = []
    for frames in (1, num_frames):
        inputs = Inputs(
            torch.zeros(1, frames, size, size, 3, dtype=torch.uint8),
            torch.zeros(1, frames, size, size, dtype=torch.uint8),
        )
        state = masks.start(model, inputs, torch.Generator())
        counts.append(count_macs(partial(model.scan, inputs, state)))
    parameters = sum(p.numel() for p in model.parameters())
    return Cost(parameters, counts[0], counts[1], num_frames)


def count_macs(run: Callable[[], object]) -> int:
    """Multiply-accumulates of a call without gradients, counted as `cost` counts them."""
    with (
        torch.inference_mode(),
        scan_backend("chunked"),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        run()
    return counter.get_total_flops() // 2
