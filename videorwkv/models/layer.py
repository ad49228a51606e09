"""One layer of an LCR: CrossRWKV gate and LSTM-like cell.

    K, V ← edges, frame (and the frame before)      all frames at once
    R, G ← frame, h of the last frame               frame by frame
    a = W_a (SiLU(G) * LN(R . BiWKV(K, V)))         the gate
    A = sigmoid(R') * V', V' from a squared ReLU    the channel mixing
    c ← f c + (1 - f) tanh A, f ← edges             the cell
    h = sigmoid(A) * tanh c

B batch, T frames, L tokens of a frame, C channels, H heads, D head width, F = T * B, M hidden width
of the channel mixing, J tokens of a frame that are computed (all, or those that a mask keeps).
Tensors of a clip are frame-major ([T, B, ...]), so that one frame is one contiguous slice.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.compiler import is_compiling

from videorwkv.models.config import LCRConfig
from videorwkv.models.masking import put, take
from videorwkv.models.rotary import Turn
from videorwkv.ops.wkv import MIN_LOG_DECAY, Prepared, no_autocast, prepare, read


class CrossRWKVLayer(nn.Module):
    """CrossRWKV gate and LSTM-like cell of one layer.

    Args:
        config: the model's configuration.
        drop: chance of leaving the layer's branches out of a clip in training.
    """

    one_D: Tensor
    share_C: Tensor | None
    log_decay_HD: Tensor | None

    def __init__(self, config: LCRConfig, drop: float = 0.0) -> None:
        super().__init__()
        width, heads, head_width = config.width, config.num_heads, config.head_width
        self.config = config
        self.drop = drop
        self.compiled = ""
        self.norm_gate = nn.LayerNorm(width)
        if config.cell != "none":
            # h starts near zero: without a norm the past would ask in a whisper.
            self.norm_past = nn.LayerNorm(width)
        self.receptance_gate = nn.Linear(width, 2 * width, bias=False)
        # With a bias: K and V of zero-initialised edges would both be zero, and stay so.
        self.key_value = nn.Linear(width, 2 * width)
        if config.time_shift:
            # Half of the channels start as themselves, half as mostly what changed.
            self.shift = nn.Parameter(torch.tensor([0.0, 2.0]).repeat(width)[:width])
        self.output = nn.Linear(width, width, bias=False)
        self.norm_mix = nn.LayerNorm(width)
        self.mix_in = nn.Linear(width, width + config.mix_width, bias=False)
        self.mix_out = nn.Linear(config.mix_width, width, bias=False)
        if config.mixer == "wkv":
            # Half-lives from a token to about the frame, spread over the channels of each head.
            rate = torch.logspace(math.log10(1.5), math.log10(0.01), head_width)
            share = rate.repeat(heads, 1) / -MIN_LOG_DECAY
            self.decay = nn.Parameter(torch.logit(share))
            self.bonus = nn.Parameter(torch.ones(heads, head_width))
        # A norm without weights runs slower than one with ones.
        self.register_buffer("one_D", torch.ones(head_width), persistent=False)
        # Set in a copy for inference (deploy.py), where they are constants.
        self.register_buffer("share_C", None, persistent=False)
        self.register_buffer("log_decay_HD", None, persistent=False)
        # Memories of 1 to T frames, spread over the channels (Tallec & Ollivier 2018).
        rate_C = torch.linspace(1.0, max(2.0, config.num_frames - 1.0), width).log()
        if config.cell == "gated":
            self.forget_rate = nn.Parameter(rate_C)
            if config.edges != "none" and config.forget_source == "edges":
                self.forget = nn.Linear(width, width, bias=False)
        if config.is_lstm:
            self.cell_new = nn.Linear(width, 4 * width)
            self.cell_past = nn.Linear(width, 4 * width, bias=False)
            with torch.no_grad():
                self.cell_new.bias[: 2 * width] = torch.cat([-rate_C, rate_C])
        if config.cell == "convlstm":
            # A channel each, then `cell_past`: a full convolution would have nine times as many
            # weights as the plain LSTM that it is compared with.
            self.cell_near = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        if config.learn_edge_strength and config.edges != "none":
            self.edge_strength = nn.Parameter(torch.tensor(float(config.edge_strength)))

    def forward(
        self, x_TBLC: Tensor, *args: Any
    ) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
        """`run`, compiled as a whole in a stream, once that is enabled."""
        run = CrossRWKVLayer.run
        if self.compiled and len(x_TBLC) == 1 and not torch.is_grad_enabled():
            run = compiled_method("run", self.compiled)
        return run(self, x_TBLC, *args)

    def run(
        self,
        x_TBLC: Tensor,
        edge_TBLC: Tensor | None,
        turn: Turn | None,
        hidden_BLC: Tensor,
        memory_BLC: Tensor,
        input_BLC: Tensor,
        kept_B11: Tensor | None = None,
        rows_TBJ: Tensor | None = None,
        into: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
        """All frames through this layer.

        Args:
            x_TBLC: tokens of the layer below.
            edge_TBLC: edge tokens times the edge strength; None without edges.
            turn: rotary encoding for R and K; None without.
            hidden_BLC: h of the frame before the first.
            memory_BLC: c of the frame before the first.
            input_BLC: normed tokens of the frame before the first.
            kept_B11: factor on the branches (drop-path); None: one.
            rows_TBJ: where the tokens of each frame stand in h, c and the normed tokens, which
                stay as they are in all other places; None: everywhere, in order.
            into: where to write the last h, c and normed tokens, without gradients; with `rows_TBJ`
                for one frame only, and they hold the past. None makes new tensors.

        Returns:
            tokens for the next layer [T, B, L, C], the output O = h and the memory after each
            frame (T of [B, L, C] each), and the last normed tokens [B, L, C].
        """
        num_frames = len(x_TBLC)
        if self.config.learn_edge_strength and edge_TBLC is not None:
            edge_TBLC = edge_TBLC * self.edge_strength.to(edge_TBLC.dtype)
        normed_TBLC = self.norm_gate(x_TBLC)
        # What asks no hidden state runs for all frames at once: K, V and the forget signal.
        before_TBLC, input_BLC = _before(normed_TBLC, input_BLC, rows_TBJ, into and into[2])
        frames = self._keys_and_values(normed_TBLC, before_TBLC, edge_TBLC, turn)
        forgets = self._forget(edge_TBLC, num_frames).unbind(0)
        # Unbound once: the gradient of x[t] would be as large as x, for every t anew.
        xs, normeds = x_TBLC.unbind(0), normed_TBLC.unbind(0)
        frame = CrossRWKVLayer.frame
        if self.compiled and not is_compiling():
            frame = compiled_method("frame", self.compiled)
        turns = [None] * num_frames if turn is None else turn.frames(num_frames)
        outputs, hiddens, memories = [], [], []
        for t in range(num_frames):
            now = xs[t], normeds[t], frames[t], forgets[t], turns[t], kept_B11
            if rows_TBJ is None:
                slot = into[:2] if into is not None and t == num_frames - 1 else None
                y_BLC, hidden_BLC, memory_BLC = frame(self, *now, hidden_BLC, memory_BLC, slot)
            else:
                rows_BJ = rows_TBJ[t]
                past = take(hidden_BLC, rows_BJ), take(memory_BLC, rows_BJ)
                y_BLC, new_hidden_BJC, new_memory_BJC = frame(self, *now, *past)
                slots = (None, None) if into is None else into[:2]
                hidden_BLC = put(hidden_BLC, rows_BJ, new_hidden_BJC, slots[0])
                memory_BLC = put(memory_BLC, rows_BJ, new_memory_BJC, slots[1])
            outputs.append(y_BLC)
            hiddens.append(hidden_BLC)
            memories.append(memory_BLC)
        if into is not None and rows_TBJ is None:
            into[2].copy_(input_BLC)
        y_TBLC = torch.stack(outputs) if num_frames > 1 else outputs[0][None]
        return y_TBLC, hiddens, memories, input_BLC

    def frame(
        self,
        x_BLC: Tensor,
        normed_BLC: Tensor,
        key_value: Prepared | tuple[Tensor, Tensor],
        forget_BLC: Tensor,
        turn: Turn | None,
        kept_B11: Tensor | None,
        hidden_BLC: Tensor,
        memory_BLC: Tensor,
        into: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One frame: tokens for the next layer, h and c (paper, gate and cell equations)."""
        config = self.config
        # R and G: the current frame and the past ask.
        asked_BLC = normed_BLC
        if config.cell != "none":
            asked_BLC = self.norm_past(hidden_BLC)
            asked_BLC = torch.add(asked_BLC, normed_BLC, out=reuse(asked_BLC, normed_BLC))
        receptance_BLC, gate_BLC = self.receptance_gate(asked_BLC).chunk(2, dim=-1)
        # a = concat_heads(SiLU(G) * LN(R . BiWKV)) W_a
        read_BLC = self._read(receptance_BLC, key_value, turn)
        gated_BLC = F.silu(gate_BLC, inplace=reuse(gate_BLC) is not None)
        a_BLC = self.output(torch.mul(gated_BLC, read_BLC, out=reuse(gated_BLC, read_BLC)))
        z_BLC = x_BLC + a_BLC if config.residual else a_BLC
        # A = sigmoid(R') * V', with V' from a squared-ReLU key
        mixed = self.mix_in(self.norm_mix(z_BLC))
        mix_receptance_BLC, key_BLM = mixed.split_with_sizes([config.width, config.mix_width], -1)
        key_BLM = torch.clamp_min(key_BLM, 0, out=reuse(key_BLM))
        value_BLC = self.mix_out(torch.square(key_BLM, out=reuse(key_BLM)))
        share_BLC = torch.sigmoid(mix_receptance_BLC, out=reuse(mix_receptance_BLC))
        branch_BLC = wide(torch.mul(value_BLC, share_BLC, out=reuse(value_BLC, share_BLC)))
        # The cell, in float32.
        if config.cell == "none":
            out_BLC = branch_BLC
        elif config.is_lstm:
            gates_BLX = wide(self.cell_new(branch_BLC) + self.cell_past(self._near(hidden_BLC)))
            in_BLC, keep_BLC, show_BLC, new_BLC = gates_BLX.chunk(4, dim=-1)
            kept_BLC = torch.sigmoid(keep_BLC) * memory_BLC
            memory_BLC = kept_BLC + torch.sigmoid(in_BLC) * torch.tanh(new_BLC)
            hidden_BLC = out_BLC = torch.sigmoid(show_BLC) * torch.tanh(memory_BLC)
        else:
            new_BLC = torch.tanh(branch_BLC)
            if config.cell == "paper":
                memory_BLC = forget_BLC * (new_BLC + memory_BLC) + memory_BLC
            else:
                out = reuse(new_BLC) if into is None else into[1]
                memory_BLC = torch.lerp(new_BLC, memory_BLC, forget_BLC, out=out)
            out_BLC = torch.tanh(memory_BLC, out=None if into is None else into[0])
            out_BLC = torch.mul(out_BLC, torch.sigmoid(branch_BLC), out=reuse(out_BLC))
            hidden_BLC = out_BLC
        if not config.residual:
            return out_BLC, hidden_BLC, memory_BLC
        if kept_B11 is None:
            y_BLC = torch.add(z_BLC, branch_BLC, out=reuse(z_BLC, branch_BLC))
        else:
            y_BLC = x_BLC + (a_BLC + branch_BLC) * kept_B11
            out_BLC = out_BLC * kept_B11
        if config.cell != "none":
            y_BLC = torch.add(y_BLC, out_BLC, out=reuse(y_BLC, out_BLC))
        return y_BLC, hidden_BLC, memory_BLC

    def _keys_and_values(
        self,
        normed_TBLC: Tensor,
        before_TBLC: Tensor,
        edge_TBLC: Tensor | None,
        turn: Turn | None,
    ) -> Sequence[Prepared | tuple[Tensor, Tensor]]:
        """K and V of each frame, in the form that the mixer reads."""
        config = self.config
        if config.key_value_source == "edges":
            source_TBLC = _not_none(edge_TBLC)
        else:
            source_TBLC = normed_TBLC
            if config.time_shift:
                share_C = 1 + self.shift if self.share_C is None else self.share_C
                source_TBLC = torch.lerp(before_TBLC, normed_TBLC, share_C.to(normed_TBLC.dtype))
            if config.key_value_source == "edges+frame":
                source_TBLC = source_TBLC + _not_none(edge_TBLC)
        key, value = (
            x.view(*source_TBLC.shape[:-1], config.num_heads, config.head_width)
            for x in self.key_value(source_TBLC).chunk(2, dim=-1)
        )
        if turn is not None:
            key = turn(key)
        if config.mixer != "wkv":
            return list(zip(key.unbind(0), value.unbind(0), strict=True))
        log_decay_HD = self.log_decay_HD
        if log_decay_HD is None:
            log_decay_HD = MIN_LOG_DECAY * torch.sigmoid(self.decay)
        with no_autocast(key.device.type):
            prepared = prepare(
                key.flatten(0, 1), value.flatten(0, 1), log_decay_HD, self.bonus, scan=config.scan
            )
        return prepared.frames(len(normed_TBLC)) if len(normed_TBLC) > 1 else [prepared]

    def _read(
        self,
        receptance_BLC: Tensor,
        key_value: Prepared | tuple[Tensor, Tensor],
        turn: Turn | None,
    ) -> Tensor:
        """LN(R . BiWKV) of each head, [B, L, C]."""
        config = self.config
        r_BLHD = receptance_BLC.view(
            *receptance_BLC.shape[:-1], config.num_heads, config.head_width
        )
        if turn is not None:
            r_BLHD = turn(r_BLHD)
        if isinstance(key_value, Prepared):
            with no_autocast(r_BLHD.device.type):
                out_BLHD = read(r_BLHD, key_value)
        else:
            k_BLHD, v_BLHD = key_value
            if config.mixer == "softmax":
                out_BLHD = F.scaled_dot_product_attention(
                    r_BLHD.transpose(1, 2).to(v_BLHD.dtype),
                    k_BLHD.transpose(1, 2).to(v_BLHD.dtype),
                    v_BLHD.transpose(1, 2),
                    is_causal=config.scan == "forward",
                ).transpose(1, 2)
            else:
                out_BLHD = r_BLHD * v_BLHD
        return F.layer_norm(out_BLHD, (config.head_width,), self.one_D).flatten(-2)

    def _near(self, hidden_BLC: Tensor) -> Tensor:
        """What a ConvLSTM's gates see of the past: h of the neighbours (arXiv 1506.04214)."""
        if self.config.cell != "convlstm":
            return hidden_BLC
        side = math.isqrt(hidden_BLC.shape[1])
        grid_BCHW = hidden_BLC.transpose(1, 2).unflatten(2, (side, side))
        near_BCHW: Tensor = self.cell_near(grid_BCHW.to(self.cell_near.weight.dtype))
        return near_BCHW.flatten(2).transpose(1, 2)

    def _forget(self, edge_TBLC: Tensor | None, num_frames: int) -> Tensor:
        """The forget signal of all frames, float32, broadcastable to [T, B, L, C]."""
        if self.config.cell == "gated":
            rate_C = self.forget_rate
            if edge_TBLC is None or self.config.forget_source == "rate":
                return torch.sigmoid(rate_C).expand(num_frames, 1, 1, -1)
            signal_TBLC = wide(self.forget(edge_TBLC))
            if self.forget.bias is None:
                signal_TBLC = torch.add(signal_TBLC, rate_C, out=reuse(signal_TBLC))
            return torch.sigmoid(signal_TBLC, out=reuse(signal_TBLC))
        if self.config.cell == "paper":
            return wide(_not_none(edge_TBLC))
        return self.norm_gate.weight.new_zeros(num_frames, 1, 1, 1)

    def draw_kept(self, batch: int) -> Tensor | None:
        """Drop-path: one draw a clip, the same in all its frames; None where nothing is dropped."""
        if not self.training or self.drop == 0:
            return None
        keep = 1 - self.drop
        return (torch.rand(batch, 1, 1, device=self.output.weight.device) < keep) / keep


@functools.cache
def compiled_method(name: str, mode: str) -> Callable[..., Any]:
    """A method of the layer compiled: one program for all layers, kept out of their pickles."""
    return torch.compile(getattr(CrossRWKVLayer, name), dynamic=False, mode=mode)


def _before(
    normed_TBLC: Tensor, input_BLC: Tensor, rows_TBJ: Tensor | None, into_BLC: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Each token's normed input when it was last computed [T, B, L, C], and the last of all."""
    dtype = normed_TBLC.dtype
    if rows_TBJ is None:
        before_TBLC = input_BLC[None].to(dtype)
        if len(normed_TBLC) > 1:
            before_TBLC = torch.cat([before_TBLC, normed_TBLC[:-1]])
        return before_TBLC, wide(normed_TBLC[-1])
    befores = []
    for normed_BJC, rows_BJ in zip(normed_TBLC, rows_TBJ, strict=True):
        befores.append(take(input_BLC, rows_BJ).to(dtype))
        input_BLC = put(input_BLC, rows_BJ, wide(normed_BJC), into_BLC)
    return torch.stack(befores) if len(befores) > 1 else befores[0][None], input_BLC


def reuse(x: Tensor, other: Tensor | None = None) -> Tensor | None:
    """Where a result may go: over an operand that is not read again, unless a gradient needs it or
    the result is wider. A layer's buffers then stay few enough for a CPU's cache."""
    wider = other is not None and other.dtype != x.dtype
    return None if wider or torch.is_grad_enabled() or is_compiling() else x


def wide(x: Tensor) -> Tensor:
    """Float32 from bfloat16; float64 stays: memory and logits never live in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _not_none(edge_TBLC: Tensor | None) -> Tensor:
    assert edge_TBLC is not None  # LCRConfig refuses edges="none" where edges are asked for
    return edge_TBLC
