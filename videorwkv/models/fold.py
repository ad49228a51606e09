"""A model for inference: what no longer changes is computed once. See `LCR.for_inference`."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from videorwkv.models.layer import CrossRWKVLayer
from videorwkv.models.lcr import LCR
from videorwkv.models.stems import ConvStem, PatchStem
from videorwkv.ops.wkv import MIN_LOG_DECAY


@torch.no_grad()
def deploy(model: LCR, *, half: bool, compiled: bool) -> LCR:
    """A copy of `model` with the same numbers; arguments as in `LCR.for_inference`.

    Norms, factors and linear maps that follow a convolution go into it, so does the norm before the
    classifier. Weights are stored as products read them. The channels that a rotary encoding turns
    as pairs come to lie side by side, so that a turn is one product of complex numbers; compilers
    know none, so for them they stay apart.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    model.deployed = True
    config = model.config
    _fuse(model.stem)
    if config.edges != "none":
        _absorb(_fuse(model.edge_stem), model.zero_conv, model.edge_strength)
        if config.readout == "cls":
            model.cls_edge.mul_(model.edge_strength)
        model.zero_conv, model.edge_strength = nn.Identity(), 1.0
    if isinstance(model.norm_head, nn.BatchNorm1d):
        _absorb_norm(model.head, model.norm_head)
        model.norm_head = nn.Identity()
    model.pairs = config.position == "rope" and not compiled
    for layer in model.layers:
        assert isinstance(layer, CrossRWKVLayer)
        if model.pairs:
            _pair(layer)
        for linear in layer.children():
            if isinstance(linear, nn.Linear):
                linear.weight.data = linear.weight.T.contiguous().T
        _set_constants(layer, half)
    if half:
        _halve(model)
    if compiled:
        model.enable_compile()
    return model


def _fuse(stem: PatchStem | ConvStem) -> nn.Linear | nn.Conv2d:
    """Put the norms of a stem into its convolutions; returns its last linear map."""
    if isinstance(stem, PatchStem):
        return stem.embed
    layers: list[nn.Module] = []
    for layer in stem.layers:
        if isinstance(layer, nn.BatchNorm2d):
            before = layers.pop()
            assert isinstance(before, nn.Conv2d)
            layer = fuse_conv_bn_eval(before, layer)
        layers.append(layer)
    stem.layers = nn.Sequential(*layers)
    for parameter in stem.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    last = layers[-1]
    assert isinstance(last, nn.Conv2d)
    return last


def _absorb(first: nn.Linear | nn.Conv2d, second: nn.Module, strength: float) -> None:
    """`first` becomes strength * second(first(x))."""
    assert isinstance(second, nn.Linear)
    assert first.bias is not None
    weight_CC = second.weight * strength
    first.weight.copy_((weight_CC @ first.weight.flatten(1)).view_as(first.weight))
    first.bias.copy_(weight_CC @ first.bias + second.bias * strength)


def _absorb_norm(head: nn.Linear, norm: nn.BatchNorm1d) -> None:
    """`head` becomes head(norm(x))."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale_F = norm.weight * (norm.running_var + norm.eps).rsqrt()
    head.bias.copy_(head.bias + head.weight @ (norm.bias - norm.running_mean * scale_F))
    head.weight.mul_(scale_F)


def _pair(layer: CrossRWKVLayer) -> None:
    """Reorder the channels of each head: 0, D/2, 1, D/2 + 1, ..."""
    heads, width = layer.config.num_heads, layer.config.head_width
    order_D = torch.arange(width).unflatten(0, (2, -1)).T.flatten()
    order_C = (torch.arange(heads)[:, None] * width + order_D).flatten()
    both = torch.cat([order_C, order_C + len(order_C)])
    for rows in (layer.receptance_gate.weight, layer.key_value.weight, layer.key_value.bias):
        rows.copy_(rows[both])
    layer.output.weight.copy_(layer.output.weight[:, order_C])
    if layer.config.mixer == "wkv":
        layer.decay.copy_(layer.decay[:, order_D])
        layer.bonus.copy_(layer.bonus[:, order_D])


def _set_constants(layer: CrossRWKVLayer, half: bool) -> None:
    config = layer.config
    if config.time_shift:
        layer.share_C = 1 + layer.shift
    if config.mixer == "wkv":
        layer.log_decay_HD = MIN_LOG_DECAY * torch.sigmoid(layer.decay)
    if hasattr(layer, "forget") and not half:
        layer.forget.bias = layer.forget_rate  # in half precision the rate stays apart, in full


class _HalfLinear(nn.Linear):
    """Takes any float type; its product is one of bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


def _halve(model: LCR) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name != "head":
            module.__class__ = _HalfLinear
        elif not isinstance(module, nn.Conv2d):
            continue
        if name != "head":
            module.to(torch.bfloat16)
