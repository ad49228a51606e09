"""Weights of Vision-RWKV's image classifiers (VRWKV6, arXiv 2403.02308) as those of an LCR.

A layer of VRWKV6 is one of LCR's whose keys and values come from the frame, with a spatial shift,
an affine norm after the scan, and no memory. The memory, the edges and the time shift are new: they
start without influence (`cell_scale`, the zero convolution, a time shift of zero), so that the
tokens of every frame are, at the start, those of the image model.

What LCR has no place for is left out: the data-dependent part of decay and mixing (low-rank
matrices), the norm of the image model's tokens after the last layer, and its classifier.

C channels, H heads, D head width, M hidden width of the channel mixing, P patch size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from videorwkv.errors import CheckpointError
from videorwkv.models.config import LCRConfig
from videorwkv.models.presets import model_config
from videorwkv.ops.wkv import MIN_LOG_DECAY

# How near to its strongest and to none a decay may be, as a fraction of the strongest; beyond, its
# parameter would be infinite.
NEAREST = 1e-6
# Tensors of a layer that have an exact counterpart -> name here; what needs more is in `_layer`.
_SAME = {
    "ln1.weight": "norm_gate.weight",
    "ln1.bias": "norm_gate.bias",
    "ln2.weight": "norm_mix.weight",
    "ln2.bias": "norm_mix.bias",
    "att.output.weight": "output.weight",
    "att.ln_x.weight": "scan_weight",
    "att.ln_x.bias": "scan_bias",
    "att.time_faaaa": "bonus",
    "ffn.value.weight": "mix_out.weight",
}
_NEAR = {"r": "receptance", "g": "gate", "k": "key", "v": "value"}


class Converted(NamedTuple):
    """An image model as an LCR.

    Args:
        config: of the LCR, for any number of classes.
        weights: by LCR's names.
        left_out: names in the file that LCR has no place for.
        clipped: decays that are stronger than the scan allows, and were set to its strongest.
    """

    config: LCRConfig
    weights: dict[str, Tensor]
    left_out: tuple[str, ...]
    clipped: int


def convert(state: Mapping[str, Tensor]) -> Converted:
    """VRWKV6's state dict, with or without `backbone.` before its names.

    Raises:
        CheckpointError: it is another model's, or a tensor is missing or has another shape.
    """
    given = {name.removeprefix("backbone."): value for name, value in state.items()}
    if "layers.0.att.time_faaaa" not in given:
        kind = "VRWKV, whose scan has no heads" if "layers.0.att.spatial_decay" in given else "none"
        raise CheckpointError(
            "These are no weights of VRWKV6: 'layers.0.att.time_faaaa' is missing "
            f"(known by its names: {kind}). Take the classifier vrwkv6_tiny, _small or _base."
        )
    source = _Source(given)
    config = _config(source)
    width, size = config.width, config.patch_size
    stem_CIPP = source.take("patch_embed.projection.weight", width, 3, size, size)
    grid = config.image_size // size
    table_LC = source.take("pos_embed", 1, grid**2, width)[0]
    weights = {
        "stem.embed.weight": stem_CIPP.permute(0, 2, 3, 1).flatten(1),
        "stem.embed.bias": source.take("patch_embed.projection.bias", width),
        "position": table_LC.T.unflatten(1, (grid, grid))[None],
        "norm_tokens.weight": source.take("layers.0.ln0.weight", width),
        "norm_tokens.bias": source.take("layers.0.ln0.bias", width),
    }
    clipped = 0
    for i in range(config.depth):
        rate = source.take(f"layers.{i}.att.time_decay", 1, 1, width).flatten().exp()
        share = rate / -MIN_LOG_DECAY
        clipped += int((share > 1 - NEAREST).sum())
        decay = torch.logit(share.clamp(NEAREST, 1 - NEAREST)).view(config.num_heads, -1)
        layer = {"decay": decay, **dict(_layer(source, i, config))}
        weights |= {f"layers.{i}.{name}": value.contiguous() for name, value in layer.items()}
    return Converted(config, weights, tuple(sorted(given.keys() - source.taken)), clipped)


class _Source:
    """The tensors of a file, checked one by one."""

    def __init__(self, given: Mapping[str, Tensor]) -> None:
        self.given = given
        self.taken: set[str] = set()

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        tensor = self.given.get(name)
        if tensor is None or tensor.ndim != dimensions:
            got = "is missing" if tensor is None else f"has shape {list(tensor.shape)}"
            raise CheckpointError(
                f"VRWKV6's {name!r} {got}; {dimensions} dimensions are wanted. Is the file whole?"
            )
        return tuple(tensor.shape)

    def take(self, name: str, *shape: int) -> Tensor:
        if self.shape(name, len(shape)) != shape:
            raise CheckpointError(
                f"VRWKV6's {name!r} has shape {list(self.given[name].shape)}; {list(shape)} is "
                "wanted, as its other weights have it."
            )
        self.taken.add(name)
        return self.given[name].detach().float()


def _config(source: _Source) -> LCRConfig:
    width, _, patch_size, _ = source.shape("patch_embed.projection.weight", 4)
    heads, head_width = source.shape("layers.0.att.time_faaaa", 2)
    hidden, _ = source.shape("layers.0.ffn.key.weight", 2)
    _, patches, _ = source.shape("pos_embed", 3)
    depth = 1 + max(int(name.split(".")[1]) for name in source.given if name.startswith("layers."))
    if heads * head_width != width or math.isqrt(patches) ** 2 != patches:
        raise CheckpointError(
            f"VRWKV6: {heads} heads of {head_width} channels and {patches} positions do not make "
            f"tokens of {width} channels on a square grid."
        )
    return replace(
        model_config("lcr_vrwkv6_tiny"),
        image_size=math.isqrt(patches) * patch_size,
        patch_size=patch_size,
        width=width,
        depth=depth,
        head_width=head_width,
        channel_mix_ratio=hidden / width,
    )


def _layer(source: _Source, index: int, config: LCRConfig) -> Iterator[tuple[str, Tensor]]:
    """A layer's tensors by LCR's names, but the decay."""
    width, mix = config.width, config.mix_width
    shapes = {
        "att.output.weight": (width, width),
        "att.time_faaaa": (config.num_heads, config.head_width),
        "ffn.value.weight": (width, mix),
    }
    for theirs, ours in _SAME.items():
        yield ours, source.take(f"layers.{index}.{theirs}", *shapes.get(theirs, (width,)))
    for ours, (room, *names) in {
        "receptance_gate.weight": ("att", "receptance", "gate"),
        "key_value.weight": ("att", "key", "value"),
        "mix_in.weight": ("ffn", "receptance", "key"),
    }.items():
        rows = [mix if (room, name) == ("ffn", "key") else width for name in names]
        parts = [
            source.take(f"layers.{index}.{room}.{name}.weight", count, width)
            for name, count in zip(names, rows, strict=True)
        ]
        yield ours, torch.cat(parts)
    yield "key_value.bias", torch.zeros(2 * width)
    for letter, name in _NEAR.items():
        weight_C = source.take(f"layers.{index}.att.time_maa_{letter}", 1, 1, width)
        yield f"near_{name}", weight_C.flatten()
    for letter, name in {"r": "mix_receptance", "k": "mix_key"}.items():
        own_C = source.take(f"layers.{index}.ffn.spatial_mix_{letter}", 1, 1, width)
        yield f"near_{name}", 1 - own_C.flatten()  # theirs is the weight of the token itself
    # New, and without influence at the start.
    yield "shift", torch.zeros(width)
    if index < config.depth - 1:  # nothing reads the last layer's tokens
        yield "cell_scale", torch.zeros(width)
    yield "norm_past.weight", torch.zeros(width)
    yield "norm_past.bias", torch.zeros(width)
