"""A layer's training with less memory: what is cheap is computed again on the way back.

Norms, products and gates between the matrix multiplications are most of what autograd would keep of
a frame, and little of its time. Here a step keeps its own inputs, which others keep anyhow, and
makes the rest anew: the same operations in the same order, so the same numbers. Matrix
multiplications and scans are not repeated.

T frames, B batch, L tokens of a frame, C channels, H heads, D head width, M hidden width of the
channel mixing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, compress
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.compiler import is_compiling

from videorwkv.errors import UsageError
from videorwkv.models.layer import CrossRWKVLayer
from videorwkv.models.stems import RotaryEmbedding
from videorwkv.ops.wkv import Prepared, gradients, no_autocast, prepare, read, resolve


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
        _refuse_second()
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


class _Lowered(torch.autograd.Function):
    """Weights in another type, all by one operation, and so their gradients."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.dtypes = [x.dtype for x in weights]
        lowered = [torch.empty_like(x, dtype=dtype) for x in weights]
        torch._foreach_copy_(lowered, weights)
        # What is frozen needs no gradient in the other type either.
        ctx.mark_non_differentiable(
            *(x for x, needed in zip(lowered, ctx.needs_input_grad[1:], strict=True) if not needed)
        )
        ctx.set_materialize_grads(False)
        return tuple(lowered)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        _refuse_second()
        back = [
            None if x is None else torch.empty_like(x, dtype=dtype)
            for x, dtype in zip(grads, ctx.dtypes, strict=True)
        ]
        torch._foreach_copy_(
            [x for x in back if x is not None], [x for x in grads if x is not None]
        )
        return None, *back


class _Scanned(torch.autograd.Function):
    """`CrossRWKVLayer`'s R . BiWKV(K, V) of all frames, of which R, K and V are kept as they were
    before their rotary embedding, and no state of the scan."""

    @staticmethod
    def forward(
        ctx: Any, layer: CrossRWKVLayer, rotary: RotaryEmbedding | None, receptance_TBLC: Tensor,
        both_TBLX: Tensor, log_decay_HD: Tensor, bonus_HD: Tensor,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(receptance_TBLC, both_TBLX, log_decay_HD, bonus_HD)
        # Named here: the way back may run on another thread.
        backend = resolve("auto", both_TBLX.device.type, both_TBLX.dtype)
        ctx.how = layer, rotary, backend
        r, k, v = _turned(layer, rotary, receptance_TBLC, both_TBLX)
        with no_autocast(r.device.type):
            scan = layer.config.scan
            prepared = prepare(k, v, log_decay_HD, bonus_HD, scan=scan, backend=backend)
            return read(r, prepared).view(*receptance_TBLC.shape[:-1], *r.shape[2:])

    @staticmethod
    def backward(ctx: Any, grad_TBLHD: Tensor) -> Any:
        _refuse_second()
        layer, rotary, backend = ctx.how
        *tokens, log_decay_HD, bonus_HD = ctx.saved_tensors
        given = [x.detach().requires_grad_() for x in tokens]
        with torch.enable_grad(), no_autocast(grad_TBLHD.device.type):
            r, k, v = _turned(layer, rotary, *given)
        with no_autocast(grad_TBLHD.device.type):
            plain = r.detach(), k.detach(), v.detach(), log_decay_HD, bonus_HD
            *pulls, dlog_decay_HD, dbonus_HD = gradients(
                grad_TBLHD.flatten(0, 1), *plain, scan=layer.config.scan, backend=backend
            )
        back = torch.autograd.grad((r, k, v), given, pulls)
        return None, None, *back, dlog_decay_HD, dbonus_HD


def _refuse_second() -> None:
    """Raises UsageError under `create_graph=True`: what is computed again hangs on nothing that
    autograd could follow a second time, and second derivatives would be wrong without a word."""
    if torch.is_grad_enabled():
        raise UsageError(
            "recompute: a gradient that is differentiated itself (create_graph=True) can't go "
            "through layers that are computed again. Train this model without recompute."
        )


def _turned(
    layer: CrossRWKVLayer, rotary: RotaryEmbedding | None, *tokens: Tensor
) -> tuple[Tensor, ...]:
    """Receptance, keys and values by heads, [T * B, L, H, D]."""
    config, (receptance_TBLC, both_TBLX) = layer.config, tokens
    r, k, v = (
        x.view(*x.shape[:-1], config.num_heads, config.head_width)
        for x in (receptance_TBLC, *both_TBLX.chunk(2, dim=-1))
    )
    if rotary is not None:
        r, k = rotary(r), rotary(k)
    return tuple(x.flatten(0, 1) for x in (r, k, v))


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
        weights: its own, as `_weights` gives them, in the type in which it multiplies.
    """

    def __init__(self, layer: CrossRWKVLayer, weights: Sequence[Tensor]) -> None:
        self.layer = layer
        (
            self.receptance_gate, self.key_value, self.bias, self.output, self.mix_in, self.mix_out,
        ) = weights  # fmt: skip

    @staticmethod
    def fits(layer: CrossRWKVLayer) -> bool:
        """Whether a layer has the default form, which is what is written here."""
        config = layer.config
        return (
            config.cell == "gated"
            and config.mixer == "wkv"
            and config.residual
            and config.time_shift
            and config.spatial_shift == "none"
            and config.key_value_source != "edges"
            and not config.cell_scale
        )

    @classmethod
    def of(cls, layers: Iterable[nn.Module]) -> list[LittleKept | None]:
        """That of each layer, all of which `fits`; None where it isn't trained as it stands."""
        found = [cast(CrossRWKVLayer, layer) for layer in layers]
        if not (found and found[0].training and torch.is_grad_enabled()) or is_compiling():
            return [None] * len(found)
        weights = [_weights(layer) for layer in found]
        device = weights[0][0].device.type
        if torch.is_autocast_enabled(device):
            # At once for all layers and frames: a cast of each would be as many operations.
            flat = _Lowered.apply(torch.get_autocast_dtype(device), *chain(*weights))
            weights = list(zip(*[iter(flat)] * len(weights[0]), strict=True))
        return [
            # A compiler decides itself what to keep; who looks at a module wants it to be called.
            cls(layer, own)
            if layer.training
            and not layer.compiled
            and not any(module._forward_hooks for module in layer.children())
            else None
            for layer, own in zip(found, weights, strict=True)
        ]

    def keys_and_values(
        self, x_TBLC: Tensor, input_BLC: Tensor, edge_TBLC: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Keys and values side by side, [T, B, L, 2 C], and the normed tokens."""
        layer = self.layer
        if layer.config.key_value_source == "frame":
            edge_TBLC = None
        norm = layer.norm_gate
        found: tuple[Tensor, Tensor] = recomputed(
            _sources, x_TBLC, input_BLC, edge_TBLC, layer.shift, norm.weight, norm.bias,
            weight=self.key_value, bias=self.bias,
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
        both_BLX = F.linear(queries_BLC.to(self.receptance_gate.dtype), self.receptance_gate)
        receptance_BLC, gate_BLC = both_BLX.chunk(2, dim=-1)
        r_BLHD = receptance_BLC.view(*x_BLC.shape[:-1], config.num_heads, config.head_width)
        if rotary is not None:
            r_BLHD = rotary(r_BLHD)
        with no_autocast(x_BLC.device.type):
            out_BLHD = read(r_BLHD, key_value)
        a_BLC = self._read(gate_BLC, out_BLHD)
        z_BLC, mix_receptance_BLC, value_BLC = self._mixed(x_BLC, a_BLC)
        branch_BLC, memory_BLC, out_BLC = recomputed(
            _cell, value_BLC, mix_receptance_BLC, forget_BLC, memory_BLC
        )
        if kept_B11 is None:
            return z_BLC + branch_BLC + out_BLC, out_BLC, memory_BLC
        y_BLC = x_BLC + (a_BLC + branch_BLC) * kept_B11 + out_BLC * kept_B11
        return y_BLC, out_BLC, memory_BLC

    def branches(
        self,
        layer: CrossRWKVLayer,
        x_TBLC: Tensor,
        normeds_TBLC: Sequence[Tensor],
        both_TBLX: Tensor,
        rotary: RotaryEmbedding | None,
        shift: None,
        past_TBLC: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `CrossRWKVLayer.branches` of all frames, with keys and values as `keys_and_values`
        gives them; the normed tokens are made again, too."""
        norm = layer.norm_gate
        norms = [norm.weight, norm.bias]
        if past_TBLC is not None:
            norms += [layer.norm_past.weight, layer.norm_past.bias]
        queries = recomputed(_queries, x_TBLC, past_TBLC, *norms, weight=self.receptance_gate)
        if layer._is_fused(both_TBLX, rotary):
            gated_TBLC = layer._gated(queries, both_TBLX, rotary)
            a_TBLC = F.linear(gated_TBLC.to(self.output.dtype), self.output)
        else:
            receptance_TBLC, gate_TBLC = queries.chunk(2, dim=-1)
            out_TBLHD = _Scanned.apply(
                layer, rotary, receptance_TBLC, both_TBLX, layer._log_decay(), layer.bonus
            )
            a_TBLC = self._read(gate_TBLC, out_TBLHD)
        z_TBLC, mix_receptance_TBLC, value_TBLC = self._mixed(x_TBLC, a_TBLC)
        return a_TBLC, z_TBLC, recomputed(_opened, value_TBLC, mix_receptance_TBLC)

    def _read(self, gate_BLC: Tensor, out_BLHD: Tensor) -> Tensor:
        """From what the scan reads: a."""
        layer = self.layer
        scale = (layer.scan_weight, layer.scan_bias) if layer.config.scan_affine else (None, None)
        a_BLC: Tensor = recomputed(
            _gated, gate_BLC, out_BLHD, layer.one_D, *scale, weight=self.output
        )
        return a_BLC

    def _mixed(self, x_BLC: Tensor, a_BLC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The residual path after the gate, and R', V' of the mixing."""
        config, norm = self.layer.config, self.layer.norm_mix
        mixed, z_BLC = recomputed(
            _normed_sum, x_BLC, a_BLC, norm.weight, norm.bias, weight=self.mix_in
        )
        mix_receptance_BLC, key_BLM = mixed.split_with_sizes([config.width, config.mix_width], -1)
        value_BLC = recomputed(_squared_relu, key_BLM, weight=self.mix_out)
        return z_BLC, mix_receptance_BLC, value_BLC


def _weights(layer: CrossRWKVLayer) -> tuple[Tensor, ...]:
    """What a layer multiplies by, in the order of `LittleKept`."""
    key_value = layer.key_value
    return (
        layer.receptance_gate.weight, key_value.weight, key_value.bias, layer.output.weight,
        layer.mix_in.weight, layer.mix_out.weight,
    )  # fmt: skip


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


def _queries(
    x_TBLC: Tensor,
    past_TBLC: Tensor | None,
    weight_C: Tensor,
    bias_C: Tensor,
    past_weight_C: Tensor | None = None,
    past_bias_C: Tensor | None = None,
) -> Tensor:
    """What receptance and gate are made of."""
    normed_TBLC = F.layer_norm(x_TBLC, weight_C.shape, weight_C, bias_C)
    if past_TBLC is None:
        return normed_TBLC
    return F.layer_norm(past_TBLC, weight_C.shape, past_weight_C, past_bias_C) + normed_TBLC


def _opened(value_BLC: Tensor, receptance_BLC: Tensor) -> Tensor:
    return value_BLC * torch.sigmoid(receptance_BLC)


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
