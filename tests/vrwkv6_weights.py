"""Random weights of VRWKV6 in the published names and shapes: shared by tests of its conversion."""

from __future__ import annotations

import torch
from torch import Tensor

TINY = {"width": 192, "depth": 12, "grid": 14}
SMALL = {"width": 128, "depth": 2, "grid": 3}
HEAD = 64


def state_dict(*, width: int, depth: int, grid: int, classes: int = 1000) -> dict[str, Tensor]:
    """Names and shapes as published; values as training might leave them."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, mean: float = 0.0, std: float = 0.3) -> Tensor:
        return mean + std * torch.randn(shape, generator=generator)

    def matrix(rows: int, columns: int) -> Tensor:
        return draw(rows, columns, std=columns**-0.5)

    found = {
        "pos_embed": draw(1, grid**2, width),
        "patch_embed.projection.weight": draw(width, 3, 16, 16, std=0.03),
        "patch_embed.projection.bias": draw(width),
        "ln1.weight": draw(width, mean=1.0), "ln1.bias": draw(width),
    }  # fmt: skip
    for i in range(depth):
        norms = ["ln1", "ln2", "att.ln_x", *(["ln0"] if i == 0 else [])]
        layer = {f"{n}.weight": draw(width, mean=1.0) for n in norms}
        layer |= {f"{n}.bias": draw(width) for n in norms}
        layer |= {f"att.time_maa_{x}": draw(1, 1, width, mean=0.5) for x in "xwkvrg"}
        layer |= {
            "att.time_maa_w1": draw(width, 5 * 32), "att.time_maa_w2": draw(5, 32, width),
            "att.time_decay": draw(1, 1, width, mean=-2.0, std=0.5),
            "att.time_decay_w1": draw(width, 64), "att.time_decay_w2": draw(64, width),
            "att.time_faaaa": draw(width // HEAD, HEAD),
            "ffn.spatial_mix_k": draw(1, 1, width, mean=0.5),
            "ffn.spatial_mix_r": draw(1, 1, width, mean=0.5),
            "ffn.key.weight": matrix(4 * width, width),
            "ffn.receptance.weight": matrix(width, width),
            "ffn.value.weight": matrix(width, 4 * width),
        }  # fmt: skip
        for name in ("key", "value", "receptance", "gate", "output"):
            layer[f"att.{name}.weight"] = matrix(width, width)
        found |= {f"layers.{i}.{name}": value for name, value in layer.items()}
    return {
        **{f"backbone.{name}": value for name, value in found.items()},
        "head.fc.weight": matrix(classes, width), "head.fc.bias": draw(classes),
    }  # fmt: skip
