"""A layer's training with less memory: what is cheap is computed again on the way back.

Norms, products and gates between the matrix multiplications are most of what autograd would keep of
a frame, and little of its time. Here a step keeps its own inputs, which others keep anyhow, and
makes the rest anew: the same operations in the same order, so the same numbers. Matrix
multiplications and scans are not repeated.

T frames, B batch, L tokens of a frame, C channels, H heads, D head width, M hidden width of the
channel mixing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_compiling

from videorwkv.models.layer import CrossRWKVLayer
from videorwkv.models.stems import RotaryEmbedding
from videorwkv.ops.wkv import Prepared, no_autocast, read


class _Recomputed(torch.autograd.Function):
    """See `recomputed`."""

    @staticmethod
    def forward(
        ctx: Any, function: Callable[..., Any], weight: Tensor | None, bias: Tensor | None,
        *inputs: Tensor | None,
    ) -> Any:  # fmt: skip
        ctx.function = function
        ctx.save_for_backward(weight, *inputs)
        device = next(x.device.type for x in inputs if x is not None)
        ctx.autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        found = function(*inputs)
        if weight is None:
            return found
        first, *others = found if isinstance(found, tuple) else (found,)
        out = F.linear(first.to(weight.dtype), weight, bias)
        return (out, *others) if others else out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        weight, *inputs = ctx.saved_tensors
        needed = ctx.needs_input_grad[3:]
        given = [
            x if x is None else x.detach().requires_grad_(wanted)
            for x, wanted in zip(inputs, needed, strict=True)
        ]
        device, dtype, enabled = ctx.autocast
        with torch.enable_grad(), torch.autocast(device, dtype, enabled=enabled):
            found = ctx.function(*given)
            outputs = list(found) if isinstance(found, tuple) else [found]
            if weight is not None:
                outputs[0] = outputs[0].to(weight.dtype)
        grad_weight = grad_bias = None
        outward = list(grads)
        if weight is not None:
            grad = outward[0].flatten(0, -2)
            if ctx.needs_input_grad[1]:
                grad_weight = grad.T @ outputs[0].detach().flatten(0, -2)
            grad_bias = grad.sum(0) if ctx.needs_input_grad[2] else None
            outward[0] = outward[0] @ weight
        wanted = [x for x in given if x is not None and x.requires_grad]
        # Where weights are frozen, some outputs, or all of them, hang on none of the others.
        moved = [x.requires_grad for x in outputs]
        ends, pulls = ([*compress(both, moved)] for both in (outputs, outward))
        inward = iter(torch.autograd.grad(ends, wanted, pulls) if ends else ())
        back = [next(inward) if x is not None and x.requires_grad else None for x in given]
        return None, grad_weight, grad_bias, *back


def recomputed(
    function: Callable[..., Any],
    *inputs: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
) -> Any:
    """`function(*inputs)`, of which only the inputs are kept for the way back.

    Args:
        function: of tensors alone, without randomness; all that needs a gradient is an input.
        inputs: tensors, or None.
        weight: of a linear map that the result, or the first of a tuple, goes through.
        bias: of that map.
    """
    return _Recomputed.apply(function, weight, bias, *inputs)


class LittleKept:
    """One layer over the frames of a clip, `CrossRWKVLayer.run` without what it would keep.

    Args:
        layer: one that `fits`.
    """

    def __init__(self, layer: CrossRWKVLayer) -> None:
        self.layer = layer
        device = layer.output.weight.device.type
        dtype = layer.output.weight.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        # Once for all frames, as autocast would.
        self.key_value, self.output, self.mix_in, self.mix_out = (
            linear.weight.to(dtype)
            for linear in (layer.key_value, layer.output, layer.mix_in, layer.mix_out)
        )

    @staticmethod
    def fits(layer: CrossRWKVLayer) -> bool:
        """Whether a layer has the default form, which is what is written here."""
        config = layer.config
        return (
            config.cell == "gated"
            and config.is_frame_by_frame
            and config.mixer == "wkv"
            and config.residual
            and config.time_shift
            and config.spatial_shift == "none"
            and config.key_value_source != "edges"
            and not config.cell_scale
        )

    @classmethod
    def of(cls, layer: CrossRWKVLayer) -> LittleKept | None:
        """That of a layer that `fits`, where it is trained as it stands."""
        applies = (
            layer.training
            and torch.is_grad_enabled()
            # A compiler decides itself what to keep; who looks at a module wants it to be called.
            and not (layer.compiled or is_compiling())
            and not any(module._forward_hooks for module in layer.children())
        )
        return cls(layer) if applies else None

    def keys_and_values(
        self, x_TBLC: Tensor, input_BLC: Tensor, edge_TBLC: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Keys and values side by side, [T, B, L, 2 C], and the normed tokens."""
        layer = self.layer
        if layer.config.key_value_source == "frame":
            edge_TBLC = None
        norm, bias = layer.norm_gate, layer.key_value.bias
        found: tuple[Tensor, Tensor] = recomputed(
            _sources, x_TBLC, input_BLC, edge_TBLC, layer.shift, norm.weight, norm.bias,
            weight=self.key_value, bias=bias.to(self.key_value.dtype),
        )  # fmt: skip
        return found

    def frame(
        self,
        layer: CrossRWKVLayer,
        x_BLC: Tensor,
        normeds_BLC: Sequence[Tensor],
        key_value: Prepared,
        forget_BLC: Tensor,
        rotary: RotaryEmbedding | None,
        kept_B11: Tensor | None,
        shift: None,
        hidden_BLC: Tensor,
        memory_BLC: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `CrossRWKVLayer.frame`."""
        config = layer.config
        queries_BLC = layer.norm_past(hidden_BLC) + normeds_BLC[0]
        receptance_BLC, gate_BLC = layer.receptance_gate(queries_BLC).chunk(2, dim=-1)
        r_BLHD = receptance_BLC.view(*x_BLC.shape[:-1], config.num_heads, config.head_width)
        if rotary is not None:
            r_BLHD = rotary(r_BLHD)
        with no_autocast(x_BLC.device.type):
            out_BLHD = read(r_BLHD, key_value)
        scale = (layer.scan_weight, layer.scan_bias) if config.scan_affine else (None, None)
        a_BLC = recomputed(_gated, gate_BLC, out_BLHD, layer.one_D, *scale, weight=self.output)
        norm = layer.norm_mix
        mixed, z_BLC = recomputed(
            _normed_sum, x_BLC, a_BLC, norm.weight, norm.bias, weight=self.mix_in
        )
        mix_receptance_BLC, key_BLM = mixed.split_with_sizes([config.width, config.mix_width], -1)
        value_BLC = recomputed(_squared_relu, key_BLM, weight=self.mix_out)
        branch_BLC, memory_BLC, out_BLC = recomputed(
            _cell, value_BLC, mix_receptance_BLC, forget_BLC, memory_BLC
        )
        if kept_B11 is None:
            return z_BLC + branch_BLC + out_BLC, out_BLC, memory_BLC
        y_BLC = x_BLC + (a_BLC + branch_BLC) * kept_B11 + out_BLC * kept_B11
        return y_BLC, out_BLC, memory_BLC


def _sources(
    x_TBLC: Tensor,
    input_BLC: Tensor,
    edge_TBLC: Tensor | None,
    shift_C: Tensor,
    weight_C: Tensor,
    bias_C: Tensor,
) -> tuple[Tensor, Tensor]:
    """What keys and values are made of, and the normed tokens."""
    normed_TBLC = F.layer_norm(x_TBLC, weight_C.shape, weight_C, bias_C)
    before_TBLC = torch.cat([input_BLC[None].to(normed_TBLC.dtype), normed_TBLC[:-1]])
    source_TBLC = torch.lerp(before_TBLC, normed_TBLC, (1 + shift_C).to(normed_TBLC.dtype))
    return source_TBLC if edge_TBLC is None else source_TBLC + edge_TBLC, normed_TBLC


def _gated(
    gate_BLC: Tensor,
    out_BLHD: Tensor,
    one_D: Tensor,
    weight_C: Tensor | None,
    bias_C: Tensor | None,
) -> Tensor:
    read_BLC = F.layer_norm(out_BLHD, one_D.shape, one_D).flatten(-2)
    if weight_C is not None and bias_C is not None:
        read_BLC = read_BLC * weight_C + bias_C
    return F.silu(gate_BLC) * read_BLC


def _normed_sum(
    x_BLC: Tensor, a_BLC: Tensor, weight_C: Tensor, bias_C: Tensor
) -> tuple[Tensor, Tensor]:
    z_BLC = x_BLC + a_BLC
    return F.layer_norm(z_BLC, weight_C.shape, weight_C, bias_C), z_BLC


def _squared_relu(key_BLM: Tensor) -> Tensor:
    return torch.square(F.relu(key_BLM))


def _cell(
    value_BLC: Tensor, receptance_BLC: Tensor, forget_BLC: Tensor, memory_BLC: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The branch A, the memory c and the output h."""
    branch_BLC = (value_BLC * torch.sigmoid(receptance_BLC)).to(memory_BLC.dtype)
    memory_BLC = torch.lerp(torch.tanh(branch_BLC), memory_BLC, forget_BLC)
    return branch_BLC, memory_BLC, torch.tanh(memory_BLC) * torch.sigmoid(branch_BLC)
