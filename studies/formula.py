"""Multiply-accumulates (MACs) by formula: what `videorwkv.models.cost` counts must agree with.

C channels, L tokens, D head width, P chunks of S tokens, M hidden width of the mixing.
"""

from __future__ import annotations

import math

from videorwkv.models import LCRConfig
from videorwkv.models.stems import stem_strides


def stem_macs(config: LCRConfig, channels: int) -> int:
    """One stem, for images of this many channels."""
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
    """One head's products over the tokens of a frame, the scan in its chunked form."""
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
    """One frame through the whole model."""
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
    if config.is_lstm:
        layer += 8 * width  # four gates, each of A and h
    if config.cell == "convlstm":
        layer += 9  # h of 3 x 3 neighbours, channel by channel
    total += config.depth * (tokens * width * layer + config.num_heads * scan_macs(tokens, config))
    return total + (1 if config.cell == "none" else 2) * width * config.num_classes


def joint_macs(config: LCRConfig, frames: int) -> int:
    """A clip through `studies.joint.JointAttention`."""
    width, tokens = config.width, frames * config.num_patches
    hidden = joint_hidden(config)
    total = frames * stem_macs(config, 3)
    total += config.depth * (tokens * width * (4 * width + 2 * hidden) + 2 * tokens**2 * width)
    return total + width * config.num_classes


def joint_hidden(config: LCRConfig) -> int:
    """Hidden width of its MLP that gives a layer the parameters of one of LCR's."""
    return max(8, round((1.5 * config.width + config.mix_width) / 8) * 8)
