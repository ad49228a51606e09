"""C channels, L tokens, D head width, P chunks of S tokens, M hidden width of the mixing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from videorwkv.complexity import cost
from videorwkv.masks import Masks
from videorwkv.models import LCRConfig, list_models, model_config
from videorwkv.models.registry import published
from videorwkv.models.stems import stem_strides

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
    "published": published(SMALL),
    "no edges": replace(SMALL, edges="none", key_value_source="frame"),
    "forward": replace(SMALL, scan="forward"),
    "softmax": replace(SMALL, mixer="softmax"),
    "no mixer": replace(SMALL, mixer="none"),
    "no memory": replace(SMALL, cell="none"),
    "lstm": replace(SMALL, cell="lstm"),
    "edges as K, V": replace(SMALL, forget_source="rate"),
}


def stem_macs(config: LCRConfig, channels: int) -> int:
    if config.stem == "patch":
        return config.num_patches * channels * config.patch_size**2 * config.width
    strides, side, total = stem_strides(config.patch_size), config.image_size, 0
    for left, stride in enumerate(strides, start=1 - len(strides)):
        side //= stride
        target = max(8, config.width >> -left)
        total += side**2 * 9 * channels * target
        channels = target
    return total


def scan_macs(tokens: int, config: LCRConfig) -> int:
    """One head's chunk products: prepare, then read."""
    width = config.head_width
    if config.mixer == "none":
        return 0
    if config.mixer == "softmax":
        return 2 * tokens**2 * width
    chunks = math.ceil(tokens / 64)
    size = math.ceil(tokens / chunks)
    directions = 2 if config.scan == "bidirectional" else 1
    total = (directions + 1) * chunks * size**2 * width  # receptance on keys; both halves on values
    if chunks > 1:
        total += directions * 2 * chunks * size * width**2  # a chunk's state made, and read
    return total


def frame_macs(config: LCRConfig) -> int:
    width, mix = config.width, config.mix_width
    tokens = config.num_patches + (config.readout == "cls")
    has_edges = config.edges != "none"
    total = stem_macs(config, 3 * config.stem_frames)
    if has_edges:
        total += stem_macs(config, 1) + config.num_patches * width**2
    layer = 2 * width + 2 * width + width  # receptance and gate, key and value, output
    layer += width + mix + mix  # the mixing's receptance and key, then its value
    if config.cell == "gated" and has_edges and config.forget_source == "edges":
        layer += width
    if config.cell == "lstm":
        layer += 8 * width  # four gates, each of A and h
    total += config.depth * (tokens * width * layer + config.num_heads * scan_macs(tokens, config))
    return total + (1 if config.cell == "none" else 2) * width * config.num_classes


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
