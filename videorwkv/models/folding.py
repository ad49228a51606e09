"""A checkpoint's weights with everything constant folded into them, as plain layers.

L tokens, D head width, I image channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videorwkv.errors import UsageError
from videorwkv.models.config import LCRConfig
from videorwkv.models.lcr import LCR
from videorwkv.models.presets import build_model
from videorwkv.models.stems import stem_strides

Weights = Mapping[str, Tensor]


def weights_of(model: LCR) -> dict[str, Tensor]:
    """A copy of a model's weights, float32.

    Raises:
        UsageError: they are no longer those of a checkpoint.
    """
    weights = {
        name: x.detach().float().cpu().clone(memory_format=torch.contiguous_format)
        for name, x in model.state_dict().items()
    }
    with torch.device("meta"):
        names = build_model(model.config).state_dict().keys()
    if weights.keys() != names:
        raise UsageError(
            "export: this model's weights have been rearranged. Give the model itself, and not "
            "its copy from LCR.for_inference."
        )
    return weights


def angles(config: LCRConfig, rows: int, columns: int) -> Tensor:
    """Rotation of each token's pairs of channels, [L, D]; `LCR._turn` says why these rates."""
    quarter = config.head_width // 4
    rate_Q = 100.0 ** (-torch.arange(quarter) / quarter)
    row = (torch.arange(rows)[:, None, None] * rate_Q).expand(rows, columns, quarter)
    column = (torch.arange(columns)[None, :, None] * rate_Q).expand(rows, columns, quarter)
    angle_LP = torch.cat([row, column], -1).flatten(0, 1)
    if config.readout == "cls":
        angle_LP = F.pad(angle_LP, (0, 0, 1, 0))
    return angle_LP.repeat(1, 2)


def stem(
    config: LCRConfig, weights: Weights, scale_I: Tensor, after: nn.Linear | None = None
) -> nn.Sequential:
    """The stem as plain convolutions.

    Args:
        config: the model's configuration.
        weights: the stem's own.
        scale_I: what each input channel is divided by first; goes into the first convolution.
        after: what each token goes through last; goes into the last convolution.
    """
    layers: list[nn.Module] = []
    if config.stem == "patch":
        p = config.patch_size
        weight = weights["embed.weight"].unflatten(1, (p, p, -1)).permute(0, 3, 1, 2)
        layers.append(conv(weight, weights["embed.bias"], stride=p, padding=0))
    else:
        for i, stride in enumerate(stem_strides(config.patch_size)):
            weight = weights[f"layers.{3 * i}.weight"]
            factor, offset = batch_norm(part(weights, f"layers.{3 * i + 1}."))
            weight = weight * factor[:, None, None, None]
            layers += [conv(weight, offset, stride=stride, padding=1), nn.ReLU()]
        layers.pop()
    first, last = layers[0], layers[-1]
    assert isinstance(first, nn.Conv2d)
    assert isinstance(last, nn.Conv2d)
    with torch.no_grad():
        first.weight /= scale_I[:, None, None]
        if after is not None and last.bias is not None:
            last.weight.copy_((after.weight @ last.weight.flatten(1)).view_as(last.weight))
            last.bias.copy_(after(last.bias))
    return nn.Sequential(*layers)


def head(config: LCRConfig, weights: Weights) -> tuple[nn.Module, nn.Linear]:
    """Norm and classifier; a trained batch norm is part of the classifier."""
    weight, bias = weights["head.weight"], weights["head.bias"]
    if config.head_norm == "layer":
        return norm(weights, "norm_head"), linear(weight, bias)
    factor, offset = batch_norm(part(weights, "norm_head."))
    return nn.Identity(), linear(weight * factor, bias + weight @ offset)


def batch_norm(weights: Weights) -> tuple[Tensor, Tensor]:
    """A trained batch norm is x * factor + offset."""
    factor = weights["weight"] / (weights["running_var"] + nn.BatchNorm1d(1).eps).sqrt()
    return factor, weights["bias"] - weights["running_mean"] * factor


def part(weights: Weights, prefix: str) -> dict[str, Tensor]:
    """The weights whose names begin so, without that beginning."""
    found = ((name, x) for name, x in weights.items() if name.startswith(prefix))
    return {name.removeprefix(prefix): x for name, x in found}


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight.clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.clone())
    return layer


def conv(weight: Tensor, bias: Tensor, *, stride: int, padding: int) -> nn.Conv2d:
    target, source, side, _ = weight.shape
    layer = nn.Conv2d(source, target, side, stride, padding)
    layer.weight, layer.bias = nn.Parameter(weight.contiguous()), nn.Parameter(bias.clone())
    return layer


def norm(weights: Weights, name: str) -> nn.LayerNorm:
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    layer = nn.LayerNorm(weight.shape[0])
    layer.weight, layer.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    return layer
