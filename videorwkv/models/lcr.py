"""LSTM-CrossRWKV (LCR), arXiv 2411.05636, from pixels to logits, top to bottom.

    frames ─ stem ──────────── x ─┐
                                  ├─ [CrossRWKV gate → cell] x depth, frame by frame ─ head ─ logits
    edges ── stem ─ zero conv ─ e ┘          ↑        ↓
                                       h, c of the last frame

B batch, T frames, L tokens of a frame, C channels, H heads, D head width, N layers, K classes,
F = T * B frames of a batch, I image channels, P patch size, M hidden width of the channel mixing,
J tokens of a frame that are computed (all, or those that a mask keeps; K in `keep_BK`).
Tensors of a clip are frame-major ([T, B, ...]), so that one frame is one contiguous slice.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.utils.checkpoint import checkpoint

from videorwkv.errors import ConfigError, UsageError
from videorwkv.models.config import LCRConfig
from videorwkv.models.inputs import Inputs, fit, make_inputs
from videorwkv.models.masking import Watch, patches, put, take, tube_mask
from videorwkv.ops.wkv import MIN_LOG_DECAY, Prepared, prepare, read
from videorwkv.video.clip import Clip, Frame

# ImageNet's statistics, as Vision-RWKV's weights expect them.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)

# Without gradients a clip runs in pieces of about this many tokens: what is computed for all frames
# of a piece at once then stays in a CPU's cache, and memory does not grow with the clip.
PIECE_TOKENS = 1024


class LCRState(NamedTuple):
    """All that a stream remembers. A value: passed in, returned, stored nowhere. Zero at the start.

    Args:
        hidden_NBLC: h of each layer, float32.
        memory_NBLC: c of each layer, float32.
        input_NBLC: normed input of each layer at the last frame, float32, for the time shift.
        pixels_BHWC: the last frame, uint8, for a stem of two frames; no pixel for one of one.
        keep_BK: patches that stay under tube masking, the same in every frame; None: all.
        watch: under motion masking, what a frame is compared with; else None.
        votes_BK: sum of the logits so far, float32; only `cell="none"` averages over frames.
        seen_B: frames seen, int64.
    """

    hidden_NBLC: Tensor
    memory_NBLC: Tensor
    input_NBLC: Tensor
    pixels_BHWC: Tensor
    keep_BK: Tensor | None
    watch: Watch | None
    votes_BK: Tensor
    seen_B: Tensor

    def reset(self, stream: int) -> LCRState:
        """The same state with one stream of the batch at its start again."""
        index = torch.tensor([stream], device=self.seen_B.device)
        return LCRState(
            # Filled, not multiplied by zero: a stream is also reset because it went bad (NaN).
            self.hidden_NBLC.index_fill(1, index, 0.0),
            self.memory_NBLC.index_fill(1, index, 0.0),
            self.input_NBLC.index_fill(1, index, 0.0),
            self.pixels_BHWC,  # not read before a stream's second frame
            self.keep_BK,
            None if self.watch is None else self.watch.reset(index),
            self.votes_BK.index_fill(0, index, 0.0),
            self.seen_B.index_fill(0, index, 0),
        )


class PatchStem(nn.Module):
    """One cut: a 1 x P x P convolution of stride P, written as a linear map of each patch."""

    def __init__(self, channels: int, patch_size: int, width: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.embed = nn.Linear(channels * patch_size**2, width)

    def forward(self, parts_FHWI: Sequence[Tensor], keep_FJ: Tensor | None) -> Tensor:
        """Images [F, H, W, I] -> tokens of all patches, or of the kept ones, [F, J, C]."""
        patches_FLX = patches(torch.cat(list(parts_FHWI), dim=-1), self.patch_size)
        return self.embed(patches_FLX if keep_FJ is None else take(patches_FLX, keep_FJ))


class ConvStem(nn.Module):
    """Strided 3 x 3 convolutions down to the same grid; the channels double on the way to C.

    Batch norm, and not a norm over the frame: without it small data does not get learnt (LOG.md).
    In evaluation it is a constant, so the clip and the stream see the same.
    """

    def __init__(self, channels: int, patch_size: int, width: int) -> None:
        super().__init__()
        strides = stem_strides(patch_size)
        layers: list[nn.Module] = []
        source = channels
        for i, stride in enumerate(strides):
            target = max(8, width >> (len(strides) - 1 - i))
            layers += [
                nn.Conv2d(source, target, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(target),
                nn.ReLU(inplace=True),
            ]
            source = target
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, parts_FHWI: Sequence[Tensor], keep_FJ: Tensor | None) -> Tensor:
        """Images [F, H, W, I] -> tokens of all patches, or of the kept ones, [F, J, C]."""
        first, *body = self.layers
        # Part by part, for side by side they would be a slow copy of three channels at a time.
        parts_FHWI = [part.to(first.weight.dtype) for part in parts_FHWI]
        weights = first.weight.split(parts_FHWI[0].shape[-1], dim=1)
        # Frames lie channels-last, so this permutation is a channels-last image without a copy.
        x_FIHW = F.conv2d(
            parts_FHWI[0].permute(0, 3, 1, 2), weights[0], first.bias, first.stride, 1
        )
        for part_FHWI, weight in zip(parts_FHWI[1:], weights[1:], strict=True):
            x_FIHW += F.conv2d(part_FHWI.permute(0, 3, 1, 2), weight, None, first.stride, 1)
        last = max(i for i, layer in enumerate(body) if isinstance(layer, nn.Conv2d))
        for i, layer in enumerate(body):
            if i == last and keep_FJ is not None and not self.training:
                x_FIHW = _convolve_at(x_FIHW, layer, keep_FJ)
            else:
                x_FIHW = layer(x_FIHW)
        x_FLC = x_FIHW.flatten(2).transpose(1, 2)
        # In training the last norm counts all tokens.
        return take(x_FLC, keep_FJ) if keep_FJ is not None and self.training else x_FLC


def _convolve_at(x_FIHW: Tensor, conv: nn.Conv2d, keep_FJ: Tensor) -> Tensor:
    """A 3 x 3 convolution at some places of its output grid alone, [F, C, J, 1]."""
    stride, columns = conv.stride[0], x_FIHW.shape[3]
    grid_columns = (columns - 1) // stride + 1
    row_FJ, column_FJ = keep_FJ // grid_columns, keep_FJ % grid_columns
    columns += 2
    first_FJ1 = (row_FJ * (stride * columns) + column_FJ * stride)[..., None]
    offset_3 = torch.arange(3, device=keep_FJ.device)
    window_FS = (first_FJ1 + (offset_3[:, None] * columns + offset_3).flatten()).flatten(1)
    padded_FLI = F.pad(x_FIHW, (1, 1, 1, 1)).permute(0, 2, 3, 1).flatten(1, 2)
    seen_FJX = take(padded_FLI, window_FS).unflatten(1, (-1, 9)).flatten(2)
    kept_FJC = F.linear(seen_FJX, conv.weight.permute(0, 2, 3, 1).flatten(1), conv.bias)
    return kept_FJC.transpose(1, 2)[..., None]


def stem_strides(patch_size: int) -> list[int]:
    """Strides of 2 and 3 whose product is the patch size, the large ones first."""
    strides = []
    for stride in (3, 2):
        while patch_size % stride == 0:
            strides.append(stride)
            patch_size //= stride
    if patch_size != 1 or not strides:
        raise ConfigError(
            "LCRConfig: stem='conv' needs a patch_size made of factors 2 and 3, such as 8, 12 or "
            "16; choose one, or stem='patch'."
        )
    return strides


class Turn(NamedTuple):
    """Rotary position encoding of tokens.

    Args:
        cos: cosine of each pair's angle, [1 or B, L, 1, D / 2]; in front T where frames differ.
        sin: its sine.
        both: cos + i sin, where the channels of a pair lie side by side; else None.
    """

    cos: Tensor
    sin: Tensor
    both: Tensor | None

    def __call__(self, x_BLHD: Tensor) -> Tensor:
        """Turn the channels (d, d + D/2) of each head by their token's angle: [..., L, H, D]."""
        if self.both is not None:
            pairs = torch.view_as_complex(_wide(x_BLHD).view(*x_BLHD.shape[:-1], -1, 2))
            return torch.view_as_real(pairs * self.both).view(x_BLHD.shape)
        first, second = x_BLHD.chunk(2, dim=-1)
        return torch.cat(
            [first * self.cos - second * self.sin, second * self.cos + first * self.sin], dim=-1
        )

    def frames(self, num_frames: int) -> Sequence[Turn]:
        """That of each frame's tokens."""
        if self.cos.ndim == 4:
            return [self] * num_frames
        return [Turn(*(None if x is None else x[t] for x in self)) for t in range(num_frames)]


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
        if config.cell == "gated":
            # Memories of 1 to T frames, spread over the channels (Tallec & Ollivier 2018). Without
            # edges this rate is all of the forget signal.
            span = torch.linspace(1.0, max(2.0, config.num_frames - 1.0), width)
            self.forget_rate = nn.Parameter(span.log())
            if config.edges != "none":
                self.forget = nn.Linear(width, width, bias=False)

    def forward(
        self, x_TBLC: Tensor, *args: Any
    ) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
        """`run`, compiled as a whole in a stream, once that is enabled."""
        run = CrossRWKVLayer.run
        if self.compiled and len(x_TBLC) == 1 and not torch.is_grad_enabled():
            run = _compiled("run", self.compiled)
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
        into: tuple[Tensor, Tensor] | None = None,
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
            into: where to write the last h and c, without gradients; None makes new tensors.

        Returns:
            tokens for the next layer [T, B, L, C], the output O = h and the memory after each
            frame (T of [B, L, C] each), and the last normed tokens [B, L, C].
        """
        num_frames = len(x_TBLC)
        normed_TBLC = self.norm_gate(x_TBLC)
        # What asks no hidden state runs for all frames at once: K, V and the forget signal.
        before_TBLC, input_BLC = _before(normed_TBLC, input_BLC, rows_TBJ)
        frames = self._keys_and_values(normed_TBLC, before_TBLC, edge_TBLC, turn)
        forgets = self._forget(edge_TBLC, num_frames).unbind(0)
        # Unbound once: the gradient of x[t] would be as large as x, for every t anew.
        xs, normeds = x_TBLC.unbind(0), normed_TBLC.unbind(0)
        frame = CrossRWKVLayer.frame
        if self.compiled and not is_compiling():
            frame = _compiled("frame", self.compiled)
        turns = [None] * num_frames if turn is None else turn.frames(num_frames)
        outputs, hiddens, memories = [], [], []
        for t in range(num_frames):
            now = xs[t], normeds[t], frames[t], forgets[t], turns[t], kept_B11
            if rows_TBJ is None:
                past = hidden_BLC, memory_BLC, into if t == num_frames - 1 else None
                y_BLC, hidden_BLC, memory_BLC = frame(self, *now, *past)
            else:
                rows_BJ = rows_TBJ[t]
                past = take(hidden_BLC, rows_BJ), take(memory_BLC, rows_BJ)
                y_BLC, *new = frame(self, *now, *past)
                hidden_BLC = put(hidden_BLC, rows_BJ, new[0])
                memory_BLC = put(memory_BLC, rows_BJ, new[1])
            outputs.append(y_BLC)
            hiddens.append(hidden_BLC)
            memories.append(memory_BLC)
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
            asked_BLC = torch.add(asked_BLC, normed_BLC, out=_over(asked_BLC, normed_BLC))
        receptance_BLC, gate_BLC = self.receptance_gate(asked_BLC).chunk(2, dim=-1)
        # a = concat_heads(SiLU(G) * LN(R . BiWKV)) W_a
        read_BLC = self._read(receptance_BLC, key_value, turn)
        gated_BLC = F.silu(gate_BLC, inplace=_over(gate_BLC) is not None)
        a_BLC = self.output(torch.mul(gated_BLC, read_BLC, out=_over(gated_BLC, read_BLC)))
        z_BLC = x_BLC + a_BLC if config.residual else a_BLC
        # A = sigmoid(R') * V', with V' from a squared-ReLU key
        mixed = self.mix_in(self.norm_mix(z_BLC))
        mix_receptance_BLC, key_BLM = mixed.split_with_sizes([config.width, config.mix_width], -1)
        key_BLM = torch.clamp_min(key_BLM, 0, out=_over(key_BLM))
        value_BLC = self.mix_out(torch.square(key_BLM, out=_over(key_BLM)))
        share_BLC = torch.sigmoid(mix_receptance_BLC, out=_over(mix_receptance_BLC))
        branch_BLC = _wide(torch.mul(value_BLC, share_BLC, out=_over(value_BLC, share_BLC)))
        # The cell, in float32.
        if config.cell == "none":
            out_BLC = branch_BLC
        else:
            new_BLC = torch.tanh(branch_BLC)
            if config.cell == "paper":
                memory_BLC = forget_BLC * (new_BLC + memory_BLC) + memory_BLC
            else:
                over = _over(new_BLC) if into is None else into[1]
                memory_BLC = torch.lerp(new_BLC, memory_BLC, forget_BLC, out=over)
            out_BLC = torch.tanh(memory_BLC, out=None if into is None else into[0])
            out_BLC = torch.mul(out_BLC, torch.sigmoid(branch_BLC), out=_over(out_BLC))
            hidden_BLC = out_BLC
        if not config.residual:
            return out_BLC, hidden_BLC, memory_BLC
        if kept_B11 is None:
            y_BLC = torch.add(z_BLC, branch_BLC, out=_over(z_BLC, branch_BLC))
        else:
            y_BLC = x_BLC + (a_BLC + branch_BLC) * kept_B11
            out_BLC = out_BLC * kept_B11
        if config.cell != "none":
            y_BLC = torch.add(y_BLC, out_BLC, out=_over(y_BLC, out_BLC))
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
        with _no_autocast(key.device.type):
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
            with _no_autocast(r_BLHD.device.type):
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

    def _forget(self, edge_TBLC: Tensor | None, num_frames: int) -> Tensor:
        """The forget signal of all frames, float32, broadcastable to [T, B, L, C]."""
        if self.config.cell == "gated":
            rate_C = self.forget_rate
            if edge_TBLC is None:
                return torch.sigmoid(rate_C).expand(num_frames, 1, 1, -1)
            signal_TBLC = _wide(self.forget(edge_TBLC))
            if self.forget.bias is None:
                signal_TBLC = torch.add(signal_TBLC, rate_C, out=_over(signal_TBLC))
            return torch.sigmoid(signal_TBLC, out=_over(signal_TBLC))
        if edge_TBLC is None:
            assert self.config.cell == "none"  # LCRConfig refuses the paper's cell without edges
            return self.norm_gate.weight.new_zeros(num_frames, 1, 1, 1)
        return _wide(edge_TBLC)

    def draw_kept(self, batch: int) -> Tensor | None:
        """Drop-path: one draw a clip, the same in all its frames; None where nothing is dropped."""
        if not self.training or self.drop == 0:
            return None
        keep = 1 - self.drop
        return (torch.rand(batch, 1, 1, device=self.output.weight.device) < keep) / keep


@functools.cache
def _compiled(name: str, mode: str) -> Callable[..., Any]:
    """A method of the layer compiled: one program for all layers, kept out of their pickles."""
    return torch.compile(getattr(CrossRWKVLayer, name), dynamic=False, mode=mode)


def _before(
    normed_TBLC: Tensor, input_BLC: Tensor, rows_TBJ: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Each token's normed input when it was last computed [T, B, L, C], and the last of all."""
    dtype = normed_TBLC.dtype
    if rows_TBJ is None:
        before_TBLC = input_BLC[None].to(dtype)
        if len(normed_TBLC) > 1:
            before_TBLC = torch.cat([before_TBLC, normed_TBLC[:-1]])
        return before_TBLC, _wide(normed_TBLC[-1])
    befores = []
    for normed_BJC, rows_BJ in zip(normed_TBLC, rows_TBJ, strict=True):
        befores.append(take(input_BLC, rows_BJ).to(dtype))
        input_BLC = put(input_BLC, rows_BJ, _wide(normed_BJC))
    return torch.stack(befores), input_BLC


class LCR(nn.Module):
    """The whole model. `forward`, `scan` and `step` give the same numbers.

    Args:
        config: every choice; see `LCRConfig`.
    """

    pixel_scale: Tensor
    pixel_shift: Tensor
    turn_cos: Tensor
    turn_sin: Tensor

    def __init__(self, config: LCRConfig) -> None:
        super().__init__()
        self.config = config
        width, grid = config.width, config.image_size // config.patch_size
        stem = ConvStem if config.stem == "conv" else PatchStem
        self.stem: PatchStem | ConvStem = stem(3 * config.stem_frames, config.patch_size, width)
        if config.edges != "none":
            self.edge_stem = stem(1, config.patch_size, width)
            # Zero at the start, so the edges come in as a prompt that training turns up.
            self.zero_conv = nn.Linear(width, width)
            nn.init.zeros_(self.zero_conv.weight)
            nn.init.zeros_(self.zero_conv.bias)
        if config.readout == "cls":
            self.cls_token = nn.Parameter(torch.zeros(width))
            nn.init.trunc_normal_(self.cls_token, std=0.02)
            # `[CLS]` covers no pixels; without a forget signal of its own its memory stays zero.
            self.cls_edge = nn.Parameter(torch.zeros(width))
        if config.position == "learned":
            self.position = nn.Parameter(torch.zeros(1, width, grid, grid))
            nn.init.trunc_normal_(self.position, std=0.02)
        if config.position == "rope":
            for name, table in zip(
                ("turn_cos", "turn_sin"), _angles(config, grid, grid), strict=True
            ):
                self.register_buffer(name, table, persistent=False)
        last = max(1, config.depth - 1)
        self.layers = nn.ModuleList(
            CrossRWKVLayer(config, config.drop_path * i / last) for i in range(config.depth)
        )
        features = width if config.cell == "none" else 2 * width
        self.norm_head = (
            nn.BatchNorm1d(features) if config.head_norm == "batch" else nn.LayerNorm(features)
        )
        self.head = nn.Linear(features, config.num_classes)
        mean, std = torch.tensor(PIXEL_MEAN), torch.tensor(PIXEL_STD)
        self.register_buffer("pixel_scale", 1 / (std * 255), persistent=False)
        self.register_buffer("pixel_shift", -mean / std, persistent=False)
        self.edge_strength = config.edge_strength
        # Set in a copy for inference (deploy.py): channels that rotate as pairs lie side by side.
        self.pairs = False
        # Frames whose activations are kept in training at a time; 0: all.
        self.checkpoint_frames = 0

    def enable_compile(self, mode: str = "default") -> None:
        """Run each layer through torch.compile (C++ compiler or Triton needed).

        In a stream a layer is one program, in a clip its frame is. Compiled at the first use, once
        for all layers; weights, copies and pickles stay as they are.

        Args:
            mode: of torch.compile; `reduce-overhead` uses CUDA graphs.
        """
        for layer in self.layers:
            assert isinstance(layer, CrossRWKVLayer)
            layer.compiled = mode

    def for_inference(self, *, half: bool = False, compiled: bool = False) -> LCR:
        """A copy that gives the same numbers in less time, and that can't be trained.

        Its states are those of this model: a stream may change from one to the other.

        Args:
            half: products and convolutions in bfloat16 (other numbers, then).
            compiled: for torch.compile, which is enabled.
        """
        from videorwkv.models.deploy import deploy

        return deploy(self, half=half, compiled=compiled)

    def preprocess(self, clip: Clip | Frame | NDArray) -> Inputs:
        """Frames as decoded -> a batch of one at the model's size, with edge maps.

        Args:
            clip: a Clip, a Frame, or RGB uint8 of [T, H, W, 3] or [H, W, 3].
        """
        frames = clip.frames_THWC if isinstance(clip, Clip) else clip
        frames = frames.image_HWC[None] if isinstance(frames, Frame) else frames
        frames = frames[None] if frames.ndim == 3 else frames
        square_THWC = fit(frames, self.config.image_size)
        return make_inputs(
            square_THWC, edges=self.config.edges, edge_options=self.config.edge_options
        )

    def init_state(
        self,
        batch_size: int = 1,
        *,
        image_size: int | tuple[int, int] | None = None,
        tube_mask_ratio: float = 0.0,
        motion_mask_ratio: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> LCRState:
        """The state before the first frame.

        Args:
            batch_size: streams side by side.
            image_size: side, or height and width, of the frames to come; the configuration's side
                if None.
            tube_mask_ratio: share of the patches to leave out of every frame (saves their cost).
            motion_mask_ratio: share of the patches whose memory a frame leaves as it is: those that
                changed least since they were last computed (saves their cost).
            generator: source of the mask's randomness.
        """
        size = self.config.image_size if image_size is None else image_size
        height, width = (size, size) if isinstance(size, int) else size
        p, device = self.config.patch_size, self.head.weight.device
        count = (height // p) * (width // p)
        if tube_mask_ratio and motion_mask_ratio:
            raise UsageError(
                f"LCR.init_state: tube_mask_ratio ({tube_mask_ratio}) and motion_mask_ratio "
                f"({motion_mask_ratio}) exclude each other; give one of them."
            )
        keep = watch = None
        if tube_mask_ratio:
            keep = tube_mask(count, tube_mask_ratio, batch_size, generator=generator, device=device)
        if motion_mask_ratio:
            watch = Watch.start(batch_size, count, p, motion_mask_ratio, device=device)
        return self._zero_state(batch_size, height, width, keep, watch)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits after the last frame, float32 [B, K]; draws a tube mask in training."""
        return self.scan(inputs)[0][:, -1]

    def step(self, inputs: Inputs, state: LCRState) -> tuple[Tensor, LCRState]:
        """One frame (inputs with T = 1): logits [B, K] and the next state."""
        if inputs.frames_BTHWC.shape[1] != 1:
            raise UsageError(
                f"LCR.step takes one frame; got {inputs.frames_BTHWC.shape[1]}: use LCR.scan."
            )
        logits_BTK, state = self.scan(inputs, state)
        return logits_BTK[:, 0], state

    def scan(self, inputs: Inputs, state: LCRState | None = None) -> tuple[Tensor, LCRState]:
        """Many frames: logits at every frame, float32 [B, T, K], and the state after the last.

        A layer's recurrence needs its own past and the layer below only, so the clip goes layer by
        layer, and all that asks no hidden state is computed for all frames at once.

        Args:
            inputs: frames [B, T, H, W, 3] and edges [B, T, H, W], any H, W that patches divide.
            state: what came before; None starts anew (in training with a fresh tube mask).
        """
        frames_BTHWC = inputs.frames_BTHWC
        batch, num_frames, height, width = frames_BTHWC.shape[:4]
        p = self.config.patch_size
        if height % p or width % p:
            raise UsageError(
                f"LCR: frames of {height}x{width} can't be cut into patches of {p}x{p}; resize "
                f"to multiples of {p}, or use model.preprocess."
            )
        rows, columns = height // p, width // p
        if state is None:
            ratio = self.config.tube_mask_ratio if self.training else 0.0
            device = frames_BTHWC.device
            keep = tube_mask(rows * columns, ratio, batch, device=device) if ratio else None
            state = self._zero_state(batch, height, width, keep)
        tokens = self._num_tokens(rows * columns, state.keep_BK)
        if state.hidden_NBLC.shape[1:3] != (batch, tokens):
            raise UsageError(
                f"LCR.scan: the state is for {list(state.hidden_NBLC.shape[1:3])} (streams, "
                f"tokens), the frames give {[batch, tokens]}: take init_state with their "
                "batch_size and image_size."
            )
        piece = num_frames
        if not (self.training or torch.is_grad_enabled()):
            piece = max(1, PIECE_TOKENS // (batch * tokens))
        logits = []
        for start in range(0, num_frames, piece):
            logits_BTK, state = self._advance(inputs.at(start, start + piece), state)
            logits.append(logits_BTK)
        return (torch.cat(logits, 1) if len(logits) > 1 else logits[0]), state

    def _advance(self, inputs: Inputs, state: LCRState) -> tuple[Tensor, LCRState]:
        """A piece of a clip: see `scan`."""
        frames_BTHWC = inputs.frames_BTHWC
        batch, num_frames = frames_BTHWC.shape[:2]
        keep_TBJ = rows_TBJ = None
        watch = state.watch
        if state.keep_BK is not None:
            keep_TBJ = state.keep_BK[None]
        if watch is not None:
            keep_TBJ, share_TB, watch = watch.choose(inputs, self.config.patch_size)
            rows_TBJ = keep_TBJ
            if self.config.readout == "cls":
                rows_TBJ = F.pad(keep_TBJ + 1, (1, 0))  # `[CLS]`, the first, is always computed
        x_TBLC, edge_TBLC = self._tokens(inputs, state, keep_TBJ)
        turn = self._turn(*frames_BTHWC.shape[2:4], keep_TBJ)
        kept = [layer.draw_kept(batch) for layer in self.layers]
        past, features = list(state[:3]), []
        part = self.checkpoint_frames if torch.is_grad_enabled() and watch is None else 0
        for start in range(0, num_frames, part or num_frames):
            frames = slice(start, start + (part or num_frames))
            tokens = x_TBLC[frames], None if edge_TBLC is None else edge_TBLC[frames]
            if part:
                features_TBF, *past = checkpoint(
                    self._layers, *tokens, turn, kept, rows_TBJ, *past, use_reentrant=False
                )
            else:
                features_TBF, *past = self._layers(*tokens, turn, kept, rows_TBJ, *past)
            features.append(features_TBF)
        features_TBF = torch.cat(features)
        if watch is not None and self.config.readout == "mean" and self.config.cell != "none":
            features_TBF = features_TBF / share_TB[..., None]  # the mean of those ever computed
        logits_BTK = self._classify(features_TBF).transpose(0, 1)
        votes_BK, seen_B = state.votes_BK, state.seen_B
        if self.config.cell == "none":
            total_BTK = votes_BK[:, None] + logits_BTK.cumsum(1)
            count_BT = seen_B[:, None] + torch.arange(1, num_frames + 1, device=seen_B.device)
            votes_BK, logits_BTK = total_BTK[:, -1], total_BTK / count_BT[..., None]
        return logits_BTK, LCRState(
            *past,
            frames_BTHWC[:, -1] if self.config.stem_frames == 2 else state.pixels_BHWC,
            state.keep_BK,
            watch,
            votes_BK,
            seen_B + num_frames,
        )

    def _layers(
        self,
        x_TBLC: Tensor,
        edge_TBLC: Tensor | None,
        turn: Turn | None,
        kept: Sequence[Tensor | None],
        rows_TBJ: Tensor | None,
        *past: Tensor,
    ) -> tuple[Tensor, ...]:
        """Some frames through all layers: pooled features [T, B, F], and h, c, input of each."""
        states = []
        slots: Sequence[Any] = [None] * len(kept)
        written: tuple[Tensor, ...] = ()
        compiled = self.layers[0].compiled
        if (
            self.config.cell == "gated"
            and rows_TBJ is None
            and _over(x_TBLC) is not None
            and not compiled
        ):
            # Written where it will stand: putting the layers together would be one more copy.
            written = torch.empty_like(past[0]), torch.empty_like(past[1])
            slots = list(zip(*written, strict=True))
        for layer, kept_B11, slot, *past_BLC in zip(self.layers, kept, slots, *past, strict=True):
            x_TBLC, hiddens, memories, last_BLC = layer(
                x_TBLC, edge_TBLC, turn, *past_BLC, kept_B11, rows_TBJ, slot
            )
            states.append((last_BLC,) if written else (hiddens[-1], memories[-1], last_BLC))
        sources = [hiddens, memories]
        if self.config.cell == "none":
            sources = [list(_wide(x_TBLC).unbind(0))]
        features_TBF = torch.cat([_pool(x, self.config.readout) for x in sources], dim=-1)
        return features_TBF, *written, *(torch.stack(x) for x in zip(*states, strict=True))

    def _tokens(
        self, inputs: Inputs, state: LCRState, keep_TBJ: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Patch and edge tokens of all frames, kept ones only, [T, B, J, C] each."""
        config = self.config
        keep_FJ = None if keep_TBJ is None else keep_TBJ.flatten(0, 1)
        frames_TBHWC, edges_TBHW = (x.transpose(0, 1) for x in inputs)
        shape = frames_TBHWC.shape[:2]
        # What the layers add to is float32 from the first on, whatever the products' type.
        x_TBLC = _wide(self.stem(self._pixels(frames_TBHWC, state), keep_FJ)).unflatten(0, shape)
        if config.position == "learned":
            table_1CHW: Tensor = self.position
            grid = [x // config.patch_size for x in frames_TBHWC.shape[2:4]]
            if list(table_1CHW.shape[2:]) != grid:
                table_1CHW = F.interpolate(table_1CHW, grid, mode="bicubic")
            table_LC = table_1CHW[0].flatten(1).T
            x_TBLC = x_TBLC + (table_LC if keep_TBJ is None else table_LC[keep_TBJ])
        edge_TBLC = None
        if config.edges != "none":
            edges_FHW1 = edges_TBHW.flatten(0, 1)[..., None].to(self.pixel_scale.dtype) / 255
            edge_FLC = self.zero_conv(self.edge_stem([edges_FHW1], keep_FJ))
            if self.edge_strength != 1:
                edge_FLC = edge_FLC * self.edge_strength
            edge_TBLC = edge_FLC.unflatten(0, shape)
        if config.readout == "cls":
            x_TBLC = _prepend(self.cls_token, x_TBLC)
            if edge_TBLC is not None:
                edge_TBLC = _prepend(self.cls_edge * config.edge_strength, edge_TBLC)
        return x_TBLC, edge_TBLC

    def _pixels(self, frames_TBHWC: Tensor, state: LCRState) -> list[Tensor]:
        """Normalised pixels [T * B, H, W, 3]; for a stem of two frames also their change."""
        dtype, width = self.pixel_scale.dtype, frames_TBHWC.shape[3]
        # Rows of W * 3 numbers with tables as long: three at a time would be slow.
        scale, shift = (x.expand(width, 3).flatten() for x in (self.pixel_scale, self.pixel_shift))
        raw_TBHX = frames_TBHWC.flatten(3).to(dtype)
        parts = [torch.addcmul(shift, raw_TBHX, scale)]
        if self.config.stem_frames == 2:
            before_TBHWC = state.pixels_BHWC[None]
            if len(frames_TBHWC) > 1:
                before_TBHWC = torch.cat([before_TBHWC, frames_TBHWC[:-1]])
            # Nothing has changed yet at a stream's first frame.
            time_T1 = torch.arange(len(frames_TBHWC), device=scale.device)[:, None]
            started_TB11 = (time_T1 + state.seen_B > 0)[..., None, None]
            change_TBHX = raw_TBHX.sub_(before_TBHWC.flatten(3).to(dtype))
            parts.append(change_TBHX.mul_(scale * started_TB11))
        return [x.flatten(0, 1).unflatten(2, (width, 3)) for x in parts]

    def _turn(self, height: int, width: int, keep_TBJ: Tensor | None) -> Turn | None:
        """Rotary encoding (arXiv 2104.09864); `[CLS]` stands at no place and does not turn."""
        if self.config.position != "rope":
            return None
        size, p = self.config.image_size, self.config.patch_size
        cos_LQ, sin_LQ = self.turn_cos, self.turn_sin
        if (height, width) != (size, size):
            cos_LQ, sin_LQ = _angles(self.config, height // p, width // p, cos_LQ.device)
        if keep_TBJ is None:
            cos, sin = cos_LQ[None, :, None], sin_LQ[None, :, None]
        else:
            keep = keep_TBJ[0] if len(keep_TBJ) == 1 else keep_TBJ
            cos, sin = cos_LQ[keep][..., None, :], sin_LQ[keep][..., None, :]
        if self.config.readout == "cls":
            cos, sin = F.pad(cos, (0, 0, 0, 0, 1, 0), value=1.0), F.pad(sin, (0, 0, 0, 0, 1, 0))
        return Turn(cos, sin, torch.complex(cos, sin) if self.pairs else None)

    def _classify(self, features_TBF: Tensor) -> Tensor:
        """logits = W_class LN(concat(O, C)) at every frame, float32 [T, B, K]."""
        features = self.norm_head(features_TBF.flatten(0, 1)).unflatten(0, features_TBF.shape[:2])
        return _wide(self.head(features))

    def _num_tokens(self, patches: int, keep_BK: Tensor | None) -> int:
        kept = patches if keep_BK is None else keep_BK.shape[1]
        return kept + (self.config.readout == "cls")

    def _zero_state(
        self,
        batch_size: int,
        height: int,
        width: int,
        keep_BK: Tensor | None = None,
        watch: Watch | None = None,
    ) -> LCRState:
        config, device = self.config, self.head.weight.device
        patches = (height // config.patch_size) * (width // config.patch_size)
        dtype = torch.promote_types(self.head.weight.dtype, torch.float32)
        shape = (config.depth, batch_size, self._num_tokens(patches, keep_BK), config.width)
        seen_pixels = (height, width) if config.stem_frames == 2 else (0, 0)
        return LCRState(
            # Not one tensor for all three: compiled programs would depend on that.
            *(torch.zeros(shape, device=device, dtype=dtype) for _ in range(3)),
            torch.zeros(batch_size, *seen_pixels, 3, device=device, dtype=torch.uint8),
            keep_BK,
            watch,
            torch.zeros(batch_size, config.num_classes, device=device, dtype=dtype),
            torch.zeros(batch_size, dtype=torch.int64, device=device),
        )


def _angles(
    config: LCRConfig, rows: int, columns: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary encoding, [L, D / 2]: along two axes, half of the pairs turn
    with the row, half with the column."""
    quarter = config.head_width // 4
    # Slowest pair: about a radian across 100 patches; a frame's grid is far smaller than text.
    rate = 100.0 ** (-torch.arange(quarter, device=device) / quarter)
    row = torch.arange(rows, device=device)[:, None, None] * rate
    column = torch.arange(columns, device=device)[None, :, None] * rate
    shape = (rows, columns, quarter)
    angle_LQ = torch.cat([row.expand(shape), column.expand(shape)], -1).flatten(0, 1)
    return angle_LQ.cos(), angle_LQ.sin()


def _pool(xs_BLC: Sequence[Tensor], readout: str) -> Tensor:
    """One vector a frame and clip, [T, B, C]."""
    return torch.stack([x[:, 0] if readout == "cls" else x.mean(1) for x in xs_BLC])


def _prepend(token_C: Tensor, x_TBLC: Tensor) -> Tensor:
    first = token_C.to(x_TBLC.dtype).expand(*x_TBLC.shape[:2], 1, -1)
    return torch.cat([first, x_TBLC], dim=2)


def _no_autocast(device_type: str) -> AbstractContextManager[Any]:
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()


def _over(x: Tensor, other: Tensor | None = None) -> Tensor | None:
    """Where a result may go: over an operand that is not read again, unless a gradient needs it or
    the result is wider. A layer's buffers then stay few enough for a CPU's cache."""
    wider = other is not None and other.dtype != x.dtype
    return None if wider or torch.is_grad_enabled() or is_compiling() else x


def _wide(x: Tensor) -> Tensor:
    """Float32 from bfloat16; float64 stays: memory and logits never live in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _not_none(edge_TBLC: Tensor | None) -> Tensor:
    assert edge_TBLC is not None  # LCRConfig refuses edges="none" with K and V from edges
    return edge_TBLC
