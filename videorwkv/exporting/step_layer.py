"""One layer of `RecurrentStep`, in the form that inference runtimes fuse: step.py says how.

B batch, L tokens of a frame, C channels, H heads, D head width, M hidden width of the channel
mixing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videorwkv.exporting.scan import FoldedScan
from videorwkv.models import folding
from videorwkv.models.config import LCRConfig
from videorwkv.ops.wkv import MIN_LOG_DECAY


class StepLayer(nn.Module):
    """CrossRWKV gate and cell of one layer, as `videorwkv.models.layer.CrossRWKVLayer`.

    Args:
        config: the model's configuration.
        weights: the layer's own, by the names of its checkpoint.
        tokens: L.
        max_chunk: the longest chunk of the scan.
    """

    shift_C: Tensor
    forget_C: Tensor
    edge_strength: Tensor
    near: Tensor

    def __init__(
        self, config: LCRConfig, weights: folding.Weights, tokens: int, max_chunk: int
    ) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.norm_gate = folding.norm(weights, "norm_gate")
        if config.cell != "none":
            self.norm_past = folding.norm(weights, "norm_past")
        receptance, gate = weights["receptance_gate.weight"].split(width)
        self.receptance, self.gate = folding.linear(receptance), folding.linear(gate)
        key, value = weights["key_value.weight"].split(width)
        key_bias, value_bias = weights["key_value.bias"].split(width)
        self.key, self.value = folding.linear(key, key_bias), folding.linear(value, value_bias)
        if config.time_shift:
            self.register_buffer("shift_C", weights["shift"], persistent=False)
        self.output = folding.linear(weights["output.weight"])
        self.norm_mix = folding.norm(weights, "norm_mix")
        mix_receptance, mix_key = weights["mix_in.weight"].split([width, config.mix_width])
        self.mix_receptance, self.mix_key = folding.linear(mix_receptance), folding.linear(mix_key)
        self.mix_out = folding.linear(weights["mix_out.weight"])
        if config.mixer == "wkv":
            self.scan = FoldedScan(
                MIN_LOG_DECAY * torch.sigmoid(weights["decay"]),
                weights["bonus"],
                length=tokens,
                scan=config.scan,
                max_chunk=max_chunk,
            )
        if config.cell == "gated":
            if "forget.weight" in weights:
                self.forget = folding.linear(weights["forget.weight"], weights["forget_rate"])
            else:
                self.register_buffer(
                    "forget_C", torch.sigmoid(weights["forget_rate"]), persistent=False
                )
        if config.is_lstm:
            self.cell_new = folding.linear(weights["cell_new.weight"], weights["cell_new.bias"])
            self.cell_past = folding.linear(weights["cell_past.weight"])
        if config.cell == "convlstm":
            self.register_buffer("near", weights["cell_near.weight"], persistent=False)
        if "edge_strength" in weights:
            self.register_buffer("edge_strength", weights["edge_strength"], persistent=False)

    def forward(
        self,
        x_BLC: Tensor,
        edge_BLC: Tensor | None,
        turn: tuple[Tensor, Tensor] | None,
        state: Mapping[str, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Tokens for the next layer and this layer's state after the frame."""
        config = self.config
        if config.learn_edge_strength and edge_BLC is not None:
            edge_BLC = edge_BLC * self.edge_strength
        normed_BLC = self.norm_gate(x_BLC)
        asked_BLC = normed_BLC
        if config.cell != "none":
            asked_BLC = asked_BLC + self.norm_past(state["hidden"])
        source_BLC = self._source(normed_BLC, edge_BLC, state)
        read_BLC = self._read(asked_BLC, source_BLC, turn)
        a_BLC = self.output(F.silu(self.gate(asked_BLC)) * read_BLC)
        z_BLC = x_BLC + a_BLC if config.residual else a_BLC
        mixed_BLC = self.norm_mix(z_BLC)
        key_BLM = F.relu(self.mix_key(mixed_BLC))
        value_BLC = self.mix_out(key_BLM * key_BLM)
        branch_BLC = torch.sigmoid(self.mix_receptance(mixed_BLC)) * value_BLC
        after = {"input": normed_BLC} if "input" in state else {}
        if config.cell == "none":
            return (z_BLC + branch_BLC if config.residual else branch_BLC), after
        if config.is_lstm:
            hidden_BLC, memory_BLC = self._lstm(branch_BLC, state)
        else:
            hidden_BLC, memory_BLC = self._cell(branch_BLC, state["memory"], edge_BLC)
        after |= {"hidden": hidden_BLC, "memory": memory_BLC}
        return (z_BLC + branch_BLC + hidden_BLC if config.residual else hidden_BLC), after

    def _cell(
        self, branch_BLC: Tensor, memory_BLC: Tensor, edge_BLC: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        new_BLC = torch.tanh(branch_BLC)
        # Operands in this order: OpenVINO runs what stands first as early as it can, and the forget
        # signals of all layers, kept from the first on, would push the rest out of the cache.
        if self.config.cell == "paper":
            assert edge_BLC is not None  # LCRConfig refuses the paper's cell without edges
            memory_BLC = (new_BLC + memory_BLC) * edge_BLC + memory_BLC
        else:
            memory_BLC = new_BLC + (memory_BLC - new_BLC) * self._forget(edge_BLC)
        return torch.tanh(memory_BLC) * torch.sigmoid(branch_BLC), memory_BLC

    def _lstm(self, branch_BLC: Tensor, state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        past_BLC = state["hidden"]
        if self.config.cell == "convlstm":
            side = math.isqrt(past_BLC.shape[1])
            grid_BCHW = past_BLC.transpose(1, 2).unflatten(2, (side, side))
            past_BLC = tokens(F.conv2d(grid_BCHW, self.near, padding=1, groups=len(self.near)))
        gates_BLX = self.cell_new(branch_BLC) + self.cell_past(past_BLC)
        in_BLC, keep_BLC, show_BLC, new_BLC = gates_BLX.chunk(4, dim=-1)
        kept_BLC = torch.sigmoid(keep_BLC) * state["memory"]
        memory_BLC = kept_BLC + torch.sigmoid(in_BLC) * torch.tanh(new_BLC)
        return torch.sigmoid(show_BLC) * torch.tanh(memory_BLC), memory_BLC

    def _source(
        self, normed_BLC: Tensor, edge_BLC: Tensor | None, state: Mapping[str, Tensor]
    ) -> Tensor:
        """What K and V are made of."""
        source_BLC = normed_BLC
        if "input" in state:
            source_BLC = source_BLC + self.shift_C * (normed_BLC - state["input"])
        if edge_BLC is None or self.config.key_value_source == "frame":
            return source_BLC
        return edge_BLC if self.config.key_value_source == "edges" else source_BLC + edge_BLC

    def _read(
        self, asked_BLC: Tensor, source_BLC: Tensor, turn: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """LN(R . BiWKV) of each head, [B, L, C]."""
        config = self.config
        heads = (config.num_heads, config.head_width)
        r, k, v = (
            product(x_BLC).unflatten(-1, heads).transpose(1, 2)
            for product, x_BLC in (
                (self.receptance, asked_BLC),
                (self.key, source_BLC),
                (self.value, source_BLC),
            )
        )
        if turn is not None:
            r, k = _turned(r, turn), _turned(k, turn)
        if config.mixer == "wkv":
            out_BHLD = self.scan(r, k, v)
        elif config.mixer == "softmax":
            causal = config.scan == "forward"
            out_BHLD = F.scaled_dot_product_attention(r, k, v, is_causal=causal)
        else:
            out_BHLD = r * v
        return F.layer_norm(out_BHLD, (config.head_width,)).transpose(1, 2).flatten(-2)

    def _forget(self, edge_BLC: Tensor | None) -> Tensor:
        if edge_BLC is None or self.config.forget_source == "rate":
            return self.forget_C
        return torch.sigmoid(self.forget(edge_BLC))


def _turned(x_BHLD: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    # Slices, in this order: the pattern that OpenVINO runs as one operation.
    half = x_BHLD.shape[-1] // 2
    first, second = x_BHLD[..., :half], x_BHLD[..., half:]
    cos, sin = turn
    return x_BHLD * cos + torch.cat([-second, first], dim=-1) * sin


def tokens(x_BCHW: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, L, C]."""
    return x_BCHW.flatten(2).transpose(1, 2)
