"""A layer of `RecurrentStep`: one frame of a CrossRWKV layer in the form that runtimes fuse.

Operands stand in the order in which OpenVINO runs them fastest.

B batch, H height, W width (H heads in a layer), L tokens of a frame, C channels, D head width,
M hidden width of the channel mixing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videorwkv.exporting.scan import FoldedScan
from videorwkv.models.cell import RGLRU_SCALE
from videorwkv.models.fold import FoldedLayer, split_rows
from videorwkv.models.layer import NEAR
from videorwkv.models.shift import q_shift


class StepLayer(nn.Module):
    """CrossRWKV gate and cell of one layer, as `videorwkv.models.layer.CrossRWKVLayer`.

    Args:
        layer: of a folded model; its modules become this one's.
        tokens: L.
        max_chunk: the longest chunk of the scan.
        grid: rows and columns of patches.
    """

    shift_C: Tensor
    forget_C: Tensor
    log_kept_C: Tensor
    clock_2C: Tensor
    edge_strength: Tensor
    near: Tensor
    scan_weight: Tensor
    scan_bias: Tensor
    cell_scale: Tensor

    def __init__(
        self, layer: FoldedLayer, tokens: int, max_chunk: int, grid: tuple[int, int]
    ) -> None:
        super().__init__()
        config = self.config = layer.config
        self.grid = grid
        width = config.width
        self.norm_gate, self.norm_mix = layer.norm_gate, layer.norm_mix
        if hasattr(layer, "norm_past"):
            self.norm_past = layer.norm_past
        self.receptance, self.gate = split_rows(layer.receptance_gate, [width, width])
        self.key, self.value = split_rows(layer.key_value, [width, width])
        if config.time_shift:
            # Detached: torch.export takes a parameter that is also a buffer for two.
            self.register_buffer("shift_C", layer.shift.detach(), persistent=False)
        self.output = layer.output
        self.mix_receptance, self.mix_key = split_rows(layer.mix_in, [width, config.mix_width])
        self.mix_out = layer.mix_out
        if config.mixer == "wkv":
            self.scan = FoldedScan(
                layer.log_decay_HD,
                layer.bonus,
                length=tokens,
                scan=config.scan,
                max_chunk=max_chunk,
            )
        if config.cell == "gated":
            if hasattr(layer, "forget"):
                self.forget = layer.forget
            else:
                forget_C = torch.sigmoid(layer.forget_rate)
                self.register_buffer("forget_C", forget_C, persistent=False)
        if config.memory_clock == "change":
            self.register_buffer("clock_2C", layer.clock_2C, persistent=False)
        if config.cell == "rglru":
            self.cell_recurrence, self.cell_in = split_rows(layer.cell_gates, [width, width])
            log_kept_C = -RGLRU_SCALE * F.softplus(layer.recurrence.detach())
            self.register_buffer("log_kept_C", log_kept_C, persistent=False)
        if config.is_lstm:
            self.cell_new, self.cell_past = layer.cell_new, layer.cell_past
        if config.cell == "convlstm":
            self.register_buffer("near", layer.cell_near.weight.detach(), persistent=False)
        names = ["scan_weight", "scan_bias"] if config.scan_affine else []
        names += ["cell_scale"] if hasattr(layer, "cell_scale") else []
        names += [f"near_{name}" for name in NEAR] if config.spatial_shift == "q_shift" else []
        for name in names:
            self.register_buffer(name, getattr(layer, name).detach(), persistent=False)
        if hasattr(layer, "edge_strength"):
            self.register_buffer("edge_strength", layer.edge_strength.detach(), persistent=False)

    def forward(
        self,
        x_BLC: Tensor,
        edge_BLC: Tensor | None,
        moved_BL2: Tensor | None,
        rotary: tuple[Tensor, Tensor] | None,
        keep_BK: Tensor | None,
        past_BLC: Tensor | None,
        state: Mapping[str, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Tokens for the next layer and this layer's state after the frame."""
        config = self.config
        if config.learn_edge_strength and edge_BLC is not None:
            edge_BLC = edge_BLC * self.edge_strength
        normed_BLC = self.norm_gate(x_BLC)
        query_BLC, gated_BLC = self._near(normed_BLC, keep_BK, "receptance", "gate")
        if past_BLC is not None:
            past_BLC = self.norm_past(past_BLC)
            one = query_BLC is gated_BLC
            query_BLC = query_BLC + past_BLC
            gated_BLC = query_BLC if one else gated_BLC + past_BLC
        sources_BLC = self._sources(normed_BLC, edge_BLC, keep_BK, state)
        read_BLC = self._read(query_BLC, sources_BLC, rotary)
        if config.scan_affine:
            read_BLC = read_BLC * self.scan_weight + self.scan_bias
        a_BLC = self.output(F.silu(self.gate(gated_BLC)) * read_BLC)
        z_BLC = x_BLC + a_BLC if config.residual else a_BLC
        mixed_BLC, keyed_BLC = self._near(
            self.norm_mix(z_BLC), keep_BK, "mix_receptance", "mix_key"
        )
        key_BLM = F.relu(self.mix_key(keyed_BLC))
        value_BLC = self.mix_out(key_BLM * key_BLM)
        branch_BLC = torch.sigmoid(self.mix_receptance(mixed_BLC)) * value_BLC
        after = {"input": normed_BLC} if "input" in state else {}
        if config.cell == "none":
            return (z_BLC + branch_BLC if config.residual else branch_BLC), after
        if config.is_lstm:
            hidden_BLC, memory_BLC = self._lstm(branch_BLC, state)
        else:
            hidden_BLC, memory_BLC = self._cell(branch_BLC, state["memory"], edge_BLC, moved_BL2)
        after |= {"hidden": hidden_BLC, "memory": memory_BLC}
        if not config.residual:
            return hidden_BLC, after
        y_BLC = z_BLC + branch_BLC
        if hasattr(self, "cell_scale"):
            y_BLC = y_BLC + hidden_BLC * self.cell_scale
        elif not config.cell_scale:
            y_BLC = y_BLC + hidden_BLC
        return y_BLC, after

    def _near(
        self, x_BLC: Tensor, keep_BK: Tensor | None, one: str, other: str
    ) -> tuple[Tensor, Tensor]:
        """Tokens mixed with their neighbours, once for each of two maps; see
        `videorwkv.models.shift`."""
        if self.config.spatial_shift == "none":
            return x_BLC, x_BLC
        rows, columns = self.grid
        has_cls = int(self.config.readout == "cls")
        near_BLC = x_BLC[:, has_cls:]
        if keep_BK is not None:
            index_BLC = keep_BK[..., None].expand(-1, -1, x_BLC.shape[2])
            # Made of x, so that no runtime has to ask for the size of the batch.
            nothing_BLC = (near_BLC[:, :1] * 0).expand(-1, rows * columns, -1)
            near_BLC = nothing_BLC.scatter(1, index_BLC, near_BLC)
        near_BLC = q_shift(near_BLC, rows, columns, self.config.head_width)
        if keep_BK is not None:
            near_BLC = near_BLC.gather(1, index_BLC)
        if has_cls:
            near_BLC = torch.cat([x_BLC[:, :1], near_BLC], 1)
        change_BLC = near_BLC - x_BLC
        return (
            x_BLC + change_BLC * getattr(self, f"near_{one}"),
            x_BLC + change_BLC * getattr(self, f"near_{other}"),
        )

    def _cell(
        self,
        branch_BLC: Tensor,
        memory_BLC: Tensor,
        edge_BLC: Tensor | None,
        moved_BL2: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        if self.config.cell == "rglru":
            log_kept_BLC = torch.sigmoid(self.cell_recurrence(branch_BLC)) * self.log_kept_C
            new_BLC = torch.sigmoid(self.cell_in(branch_BLC)) * branch_BLC
            new_BLC = torch.sqrt(-torch.expm1(2 * log_kept_BLC)) * new_BLC
            memory_BLC = torch.exp(log_kept_BLC) * memory_BLC + new_BLC
            return torch.tanh(memory_BLC) * torch.sigmoid(branch_BLC), memory_BLC
        new_BLC = torch.tanh(branch_BLC)
        # Operands in this order: OpenVINO runs what stands first as early as it can, and the forget
        # gates of all layers, kept from the first on, would push the rest out of the cache.
        if self.config.cell == "paper":
            assert edge_BLC is not None  # LCRConfig refuses the paper's cell without edges
            memory_BLC = (new_BLC + memory_BLC) * edge_BLC + memory_BLC
        else:
            forget_BLC = self._forget(edge_BLC)
            if moved_BL2 is None:
                memory_BLC = new_BLC + (memory_BLC - new_BLC) * forget_BLC
            else:  # in the form that leaves the memory as it is to the bit where nothing moves
                held_BLC = torch.exp(moved_BL2 @ self.clock_2C)
                write_BLC = (1 - held_BLC) * (1 - forget_BLC)
                memory_BLC = memory_BLC + (new_BLC - memory_BLC) * write_BLC
        return torch.tanh(memory_BLC) * torch.sigmoid(branch_BLC), memory_BLC

    def _lstm(self, branch_BLC: Tensor, state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        past_BLC = state["hidden"]
        if self.config.cell == "convlstm":
            side = math.isqrt(past_BLC.shape[1])
            grid_BCHW = past_BLC.transpose(1, 2).unflatten(2, (side, side))
            past_BLC = flat_tokens(F.conv2d(grid_BCHW, self.near, padding=1, groups=len(self.near)))
        gates_BLX = self.cell_new(branch_BLC) + self.cell_past(past_BLC)
        in_BLC, keep_BLC, show_BLC, new_BLC = gates_BLX.chunk(4, dim=-1)
        kept_BLC = torch.sigmoid(keep_BLC) * state["memory"]
        memory_BLC = kept_BLC + torch.sigmoid(in_BLC) * torch.tanh(new_BLC)
        return torch.sigmoid(show_BLC) * torch.tanh(memory_BLC), memory_BLC

    def _sources(
        self,
        normed_BLC: Tensor,
        edge_BLC: Tensor | None,
        keep_BK: Tensor | None,
        state: Mapping[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """What K and V are made of."""
        source_BLC = normed_BLC
        if self.config.key_value_source == "edges":
            assert edge_BLC is not None  # LCRConfig refuses edges="none" there
            source_BLC = edge_BLC
        elif "input" in state:
            source_BLC = source_BLC + self.shift_C * (normed_BLC - state["input"])
        key_BLC, value_BLC = self._near(source_BLC, keep_BK, "key", "value")
        if edge_BLC is None or self.config.key_value_source != "edges+frame":
            return key_BLC, value_BLC
        if key_BLC is value_BLC:
            both_BLC = key_BLC + edge_BLC
            return both_BLC, both_BLC
        return key_BLC + edge_BLC, value_BLC + edge_BLC

    def _read(
        self,
        query_BLC: Tensor,
        sources_BLC: tuple[Tensor, Tensor],
        rotary: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """LN(R . BiWKV) of each head, [B, L, C]."""
        config = self.config
        heads = (config.num_heads, config.head_width)
        r, k, v = (
            product(x_BLC).unflatten(-1, heads).transpose(1, 2)
            for product, x_BLC in (
                (self.receptance, query_BLC),
                (self.key, sources_BLC[0]),
                (self.value, sources_BLC[1]),
            )
        )
        if rotary is not None:
            r, k = _rotated(r, rotary), _rotated(k, rotary)
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


def _rotated(x_BHLD: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    # Slices, in this order: the pattern that OpenVINO runs as one operation.
    half = x_BHLD.shape[-1] // 2
    first, second = x_BHLD[..., :half], x_BHLD[..., half:]
    cos, sin = rotary
    return x_BHLD * cos + torch.cat([-second, first], dim=-1) * sin


def flat_tokens(x_BCHW: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, L, C]."""
    return x_BCHW.flatten(2).transpose(1, 2)
