"""Small models with every part awake, and clips for them: shared by the tests of models."""

from __future__ import annotations

from dataclasses import replace

import torch

from videorwkv.models import LCR, Inputs, LCRConfig, build_model
from videorwkv.models.presets import PUBLISHED

# Nine patches a frame.
SMALL = LCRConfig(
    image_size=24, patch_size=8, width=16, depth=2, head_width=8, num_classes=5, num_frames=4
)
VARIANTS = {
    "default": SMALL,
    "published": replace(SMALL, **PUBLISHED),
    "softmax": replace(SMALL, mixer="softmax"),
    "no mixer": replace(SMALL, mixer="none"),
    "forward scan": replace(SMALL, scan="forward"),
    "no memory": replace(SMALL, cell="none"),
    "no edges": replace(SMALL, edges="none", key_value_source="frame"),
    "frame K, V": replace(SMALL, key_value_source="frame"),
    "learned position": replace(SMALL, position="learned", stem="patch"),
    "cls": replace(SMALL, readout="cls"),
    "cells": replace(SMALL, readout="cells", readout_cells=2, readout_width=4),
    "cells of change": replace(
        SMALL, stem_picture=False, readout="cells", readout_cells=3, head_norm="layer"
    ),
    "flow": replace(SMALL, stem_flow=True, stem_picture=False),
    "clock of change": replace(SMALL, memory_clock="change"),
    "clock of change, cls": replace(
        SMALL, memory_clock="change", readout="cls", stem_picture=False, forget_source="rate"
    ),
    "lite0": replace(SMALL, stem="lite0"),
    "lite0, change": replace(
        SMALL,
        stem="lite0",
        stem_picture=False,
        stem_tuned=2,
        memory_clock="change",
        edges="none",
        key_value_source="frame",
        readout="cells",
        readout_cells=2,
        position="learned",
    ),
    "lite0, frame alone, cls": replace(SMALL, stem="lite0", stem_frames=1, readout="cls"),
    "lstm": replace(SMALL, cell="lstm"),
    "convlstm": replace(SMALL, cell="convlstm"),
    "past of the layer below": replace(SMALL, past="below", depth=3),
    "past of the layer below, lstm, cls": replace(SMALL, past="below", cell="lstm", readout="cls"),
    "past of the layer below, softmax, q-shift": replace(
        SMALL, past="below", mixer="softmax", spatial_shift="q_shift", cell_scale=True
    ),
    "rg-lru": replace(SMALL, cell="rglru"),
    "rg-lru at once": replace(SMALL, cell="rglru", past="below", readout="cls"),
    "nobody's past": replace(SMALL, past="none", memory_clock="change"),
    "edges as K, V only": replace(SMALL, forget_source="rate"),
    "learned edge strength": replace(SMALL, learn_edge_strength=True, edge_strength=0.5),
    "one frame deep": replace(SMALL, stem_frames=1, time_shift=False, head_norm="layer"),
    "q-shift": replace(SMALL, spatial_shift="q_shift", position="learned", token_norm=True),
    "q-shift, cls": replace(SMALL, spatial_shift="q_shift", readout="cls", scan_affine=True),
    "image model": replace(
        SMALL,
        spatial_shift="q_shift",
        scan_affine=True,
        token_norm=True,
        cell_scale=True,
        stem="patch",
        stem_frames=1,
        position="learned",
        channel_mix_ratio=4.0,
    ),
    "no position": replace(SMALL, position="none", residual=False),
}


def make_inputs(
    batch: int = 2, frames: int = 4, size: int | tuple[int, int] = 24, seed: int = 0
) -> Inputs:
    """Noise, and edges on half of the pixels."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, frames, *((size, size) if isinstance(size, int) else size))
    return Inputs(
        torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=generator),
        torch.randint(0, 2, shape, dtype=torch.uint8, generator=generator) * 255,
    )


def make_model(config: LCRConfig = SMALL, seed: int = 0, noise: float = 0.05) -> LCR:
    """Away from what starts at zero (the edges' weights, say), so that all parts take part."""
    torch.manual_seed(seed)
    model = build_model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return model
