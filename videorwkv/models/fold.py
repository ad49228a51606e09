"""Copies of a model with what is constant folded into its weights: for inference and for export.

L tokens, D head width, E features of the head, I image channels.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from videorwkv.errors import UsageError
from videorwkv.models.layer import CrossRWKVLayer
from videorwkv.models.pretrained_stem import Lite0, PretrainedStem, TimmNetwork
from videorwkv.models.shift import PartedLinear
from videorwkv.models.stems import ConvStem, PatchStem

# An LCR; named loosely, because lcr.py imports this file.
Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def fold(model: Model) -> Model:
    """A copy of an LCR that gives the same numbers, with fewer operations, in evaluation mode.

    Batch norms go into the convolutions before them, zero convolution and edge strength into the
    edge stem, the batch norm before the classifier into the classifier; the layers become
    `FoldedLayer`s.

    Raises:
        UsageError: the model is such a copy.
    """
    folded: Any = copy.deepcopy(model).eval().requires_grad_(False)
    if folded.is_folded:
        raise UsageError(
            "This model is a copy from LCR.for_inference, whose weights have been rearranged; give "
            "the model itself, for another copy or an export of the original."
        )
    folded.is_folded = True
    config = folded.config
    _fuse_batch_norms(folded.stem)
    if isinstance(folded.stem, PretrainedStem):
        assert isinstance(folded.stem.norm, nn.BatchNorm1d)
        _fuse_norm(folded.stem.norm, folded.stem.embed)
        folded.stem.norm = nn.Identity()
    if config.edges != "none":
        _fuse_batch_norms(folded.edge_stem)
        _append_linear(folded.edge_stem, folded.zero_conv, folded.edge_strength)
        if config.readout == "cls":
            folded.cls_edge.mul_(folded.edge_strength)
        folded.zero_conv, folded.edge_strength = nn.Identity(), 1.0
    if isinstance(folded.norm_head, nn.BatchNorm1d):
        _fuse_norm(folded.norm_head, folded.head)
        folded.norm_head = nn.Identity()
    for layer in folded.layers:
        # Made of the layer, for a new one would draw from the random generator.
        layer.__class__ = FoldedLayer
        layer.fold()
    return folded


@torch.no_grad()
def for_inference(model: Model, *, half: bool, compiled: bool) -> Model:
    """A folded copy in the layout that PyTorch runs fastest; arguments as in `LCR.for_inference`.

    Weights are stored as matrix multiplications read them. The channels that a rotary embedding
    rotates as pairs come to lie side by side, so that a rotation is one product of complex numbers;
    compilers know none, so for them they stay apart.
    """
    fast: Any = fold(model)
    fast.adjacent_pairs = fast.config.position == "rope" and not compiled
    for layer in fast.layers:
        if fast.adjacent_pairs:
            _make_pairs_adjacent(layer)
        for linear in layer.children():
            if isinstance(linear, nn.Linear):
                linear.weight.data = linear.weight.T.contiguous().T
    for name in ("stem", "edge_stem"):
        if hasattr(fast, name):
            getattr(fast, name).to(memory_format=torch.channels_last)
    if half:
        _halve(fast)
    if compiled:
        fast.enable_compile()
    return fast


class FoldedLayer(CrossRWKVLayer):
    """A layer whose weights no longer change: what depends on them alone is computed once."""

    frame_weight_C: Tensor
    log_decay_HD: Tensor
    clock_2C: Tensor

    def fold(self) -> None:
        if self.config.time_shift:
            self.register_buffer("frame_weight_C", super()._frame_weight(), persistent=False)
        if self.config.mixer == "wkv":
            self.register_buffer("log_decay_HD", super()._log_decay(), persistent=False)
            del self.decay
        if hasattr(self, "forget"):
            self.forget.bias = self.forget_rate
        if self.config.memory_clock == "change":
            self.register_buffer("clock_2C", super()._clock(), persistent=False)

    def _clock(self) -> Tensor:
        return self.clock_2C

    def _frame_weight(self) -> Tensor:
        return self.frame_weight_C

    def _log_decay(self) -> Tensor:
        return self.log_decay_HD

    def _forget_logits(self, edge_TBLC: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        if not hasattr(self, "forget") or self.forget.bias is None:
            return super()._forget_logits(edge_TBLC)
        return self.forget(edge_TBLC), None


def stem_as_convolutions(stem: PatchStem | ConvStem | Lite0, scale_I: Tensor) -> nn.Sequential:
    """A folded stem as convolutions of images [B, I, H, W] -> [B, C, H / P, W / P].

    Args:
        stem: of a folded model, or its network; its weights are changed.
        scale_I: what each input channel is divided by first; goes into the first convolution.
    """
    layers = nn.Sequential(_as_convolution(stem)) if isinstance(stem, PatchStem) else stem.layers
    first = next(module for module in layers.modules() if isinstance(module, nn.Conv2d))
    with torch.no_grad():
        first.weight /= scale_I[:, None, None]
    return layers


def _as_convolution(stem: PatchStem) -> nn.Conv2d:
    p = stem.patch_size
    weight_CIPP = stem.embed.weight.unflatten(1, (p, p, -1)).permute(0, 3, 1, 2).contiguous()
    conv = nn.Conv2d(weight_CIPP.shape[1], len(weight_CIPP), p, stride=p, device="meta")
    conv.weight, conv.bias = nn.Parameter(weight_CIPP, requires_grad=False), stem.embed.bias
    return conv


def split_rows(linear: nn.Linear, sizes: list[int]) -> list[nn.Linear]:
    """A linear map as several, each of which gives a part of its outputs."""
    parts = []
    has_bias = linear.bias is not None
    biases = linear.bias.split(sizes) if has_bias else [None] * len(sizes)
    for weight, bias in zip(linear.weight.split(sizes), biases, strict=True):
        part = nn.Linear(linear.in_features, len(weight), bias=has_bias, device="meta")
        part.weight = nn.Parameter(weight.clone(), requires_grad=False)
        if bias is not None:
            part.bias = nn.Parameter(bias.clone(), requires_grad=False)
        parts.append(part)
    return parts


def _fuse_batch_norms(stem: nn.Module) -> None:
    """Each batch norm in a chain of layers goes into the convolution before it; networks of timm
    stay as they are."""
    chains = [module for module in stem.modules() if isinstance(module, nn.Sequential)]
    if isinstance(stem, PretrainedStem) and isinstance(stem.network, TimmNetwork):
        chains = []
    for chain in chains:
        layers: list[nn.Module] = []
        for layer in chain:
            if isinstance(layer, nn.BatchNorm2d):
                before = layers.pop()
                assert isinstance(before, nn.Conv2d)
                layer = fuse_conv_bn_eval(before, layer)
            layers.append(layer)
        del chain[:]
        chain.extend(layers)


def _append_linear(stem: PatchStem | ConvStem, linear: nn.Linear, strength: float) -> None:
    """`stem` becomes strength * linear(stem(x))."""
    last: Any = stem.embed if isinstance(stem, PatchStem) else stem.layers[-1]
    weight_CC = linear.weight * strength
    last.weight.copy_((weight_CC @ last.weight.flatten(1)).view_as(last.weight))
    last.bias.copy_(weight_CC @ last.bias + linear.bias * strength)


def _fuse_norm(norm: nn.BatchNorm1d, linear: nn.Linear) -> None:
    """`linear` becomes linear(norm(x))."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale_E = norm.weight * (norm.running_var + norm.eps).rsqrt()
    linear.bias.copy_(linear.bias + linear.weight @ (norm.bias - norm.running_mean * scale_E))
    linear.weight.mul_(scale_E)


def _make_pairs_adjacent(layer: FoldedLayer) -> None:
    """Reorder the channels of each head: 0, D/2, 1, D/2 + 1, ..."""
    heads, width = layer.config.num_heads, layer.config.head_width
    order_D = torch.arange(width).unflatten(0, (2, -1)).T.flatten()
    order_C = (torch.arange(heads)[:, None] * width + order_D).flatten()
    both = torch.cat([order_C, order_C + len(order_C)])
    for rows in (layer.receptance_gate.weight, layer.key_value.weight, layer.key_value.bias):
        rows.copy_(rows[both])
    layer.output.weight.copy_(layer.output.weight[:, order_C])
    if layer.config.scan_affine:
        layer.scan_weight.copy_(layer.scan_weight[order_C])
        layer.scan_bias.copy_(layer.scan_bias[order_C])
    if layer.config.mixer == "wkv":
        layer.log_decay_HD.copy_(layer.log_decay_HD[:, order_D])
        layer.bonus.copy_(layer.bonus[:, order_D])


class _HalfLinear(nn.Linear):
    """Takes any float type; its matrix multiplication is in bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


def _halve(model: Any) -> None:
    """Matrix multiplications and convolutions in bfloat16, all but the classifier's."""
    for layer in model.layers:
        if hasattr(layer, "forget"):
            layer.forget.bias = None  # the forget rate is added in float32
    for name, module in model.named_modules():
        if name in ("head", "cells") or not isinstance(module, nn.Linear | nn.Conv2d):
            continue
        if name.startswith("stem.network.network."):
            continue  # timm's, which may mix types
        if isinstance(module, nn.Linear) and not isinstance(module, PartedLinear):
            module.__class__ = _HalfLinear
        module.to(torch.bfloat16)
