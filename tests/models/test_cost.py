from __future__ import annotations

from dataclasses import replace

import pytest

from studies.scaling import frame_macs
from videorwkv.models import LCRConfig, list_models, model_config
from videorwkv.models.cost import cost
from videorwkv.models.masking import Masks
from videorwkv.models.presets import PUBLISHED

# 144 tokens: three chunks of 48.
SMALL = LCRConfig(
    image_size=96, patch_size=8, num_frames=3, num_classes=7, width=16, depth=2, head_width=8
)
VARIANTS = {
    "default": SMALL,
    "one chunk": replace(SMALL, image_size=32),
    "padded chunks": replace(SMALL, image_size=104),  # 169 tokens: three chunks of 57
    "wide": replace(SMALL, width=64, head_width=16, channel_mix_ratio=4.0),
    "deep": replace(SMALL, depth=5),
    "patch stem": replace(SMALL, stem="patch"),
    "one frame": replace(SMALL, stem="patch", stem_frames=1),
    "published": replace(SMALL, **PUBLISHED),
    "lite0": replace(SMALL, stem="lite0"),
    "lite0, change, no edges": replace(
        SMALL,
        stem="lite0",
        stem_picture=False,
        edges="none",
        key_value_source="frame",
        patch_size=16,
        image_size=64,
    ),
    "no edges": replace(SMALL, edges="none", key_value_source="frame"),
    "forward": replace(SMALL, scan="forward"),
    "softmax": replace(SMALL, mixer="softmax"),
    "no mixer": replace(SMALL, mixer="none"),
    "no memory": replace(SMALL, cell="none"),
    "lstm": replace(SMALL, cell="lstm"),
    "convlstm": replace(SMALL, cell="convlstm"),
    "rg-lru": replace(SMALL, cell="rglru", past="below"),
    "cells of change": replace(SMALL, stem_picture=False, readout="cells", memory_clock="change"),
    "edges as K, V": replace(SMALL, forget_source="rate"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_counted_macs_are_those_of_the_formula(name: str) -> None:
    config = VARIANTS[name]
    spent = cost(config)
    assert spent.macs_per_frame == pytest.approx(frame_macs(config), rel=0.01)
    assert spent.macs_per_clip == pytest.approx(3 * frame_macs(config), rel=0.01)
    assert spent.flops_per_clip == 2 * spent.macs_per_clip
    assert spent.num_frames == 3


def test_the_published_budget() -> None:
    spent = cost(model_config("lcr_paper", num_classes=27))
    assert spent.parameters == pytest.approx(5.14e6, rel=0.02)
    assert spent.num_frames == 16
    assert spent.macs_per_clip <= 22.5e9


@pytest.mark.parametrize("name", ["tube_mask_ratio", "motion_mask_ratio"])
def test_masks_save_their_share(name: str) -> None:
    config = replace(VARIANTS["deep"], stem="patch", num_frames=1)
    ratios: dict[str, float] = {name: 0.75}
    full, masked = cost(config), cost(config, Masks(**ratios))
    # Every product is one of tokens that stay; the scan's also grow with their number.
    assert 0.15 * full.macs_per_frame < masked.macs_per_frame <= 0.26 * full.macs_per_frame


def test_the_small_preset_stays_small() -> None:
    spent = cost(model_config("lcr_nano"))
    assert spent.parameters <= 1.2e6
    assert spent.macs_per_frame <= 0.15e9


@pytest.mark.parametrize("name", list_models())
def test_presets_cost_what_the_formula_says(name: str) -> None:
    config = model_config(name, num_frames=1)
    assert cost(config).macs_per_frame == pytest.approx(frame_macs(config), rel=0.01)
