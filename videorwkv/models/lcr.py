"""LSTM-CrossRWKV (LCR), arXiv 2411.05636, from pixels to logits, top to bottom.

    frames ─ stem ──────────── x ─┐
                                  ├─ [CrossRWKV gate → cell] x depth, frame by frame ─ head ─ logits
    edges ── stem ─ zero conv ─ e ┘          ↑        ↓
                                       h, c of the last frame

B batch, T frames, L tokens of a frame, C channels, H heads, D head width, N layers, K classes,
F = T * B frames of a batch, I image channels, P patch size, M hidden width of the channel mixing.
Tensors of a clip are frame-major ([T, B, ...]), so that one frame is one contiguous slice.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from videorwkv.errors import ConfigError, UsageError
from videorwkv.models.config import LCRConfig
from videorwkv.models.inputs import Inputs, fit, make_inputs
from videorwkv.models.masking import keep_tokens, tube_mask
from videorwkv.ops.wkv import MIN_LOG_DECAY, Prepared, prepare, read
from videorwkv.video.clip import Clip, Frame

# ImageNet's statistics, as Vision-RWKV's weights expect them.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


class LCRState(NamedTuple):
    """All that a stream remembers. A value: passed in, returned, stored nowhere. Zero at the start.

    Args:
        hidden_NBLC: h of each layer, float32.
        memory_NBLC: c of each layer, float32.
        input_NBLC: normed input of each layer at the last frame, float32, for the time shift.
        pixels_BHWC: the last frame, uint8, for a stem of two frames; no pixel for one of one.
        keep_BK: patches that stay under tube masking, the same in every frame; None: all.
        votes_BK: sum of the logits so far, float32; only `cell="none"` averages over frames.
        seen_B: frames seen, int64.
    """

    hidden_NBLC: Tensor
    memory_NBLC: Tensor
    input_NBLC: Tensor
    pixels_BHWC: Tensor
    keep_BK: Tensor | None
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
            self.votes_BK.index_fill(0, index, 0.0),
            self.seen_B.index_fill(0, index, 0),
        )


class PatchStem(nn.Module):
    """One cut: a 1 x P x P convolution of stride P, written as a linear map of each patch."""

    def __init__(self, channels: int, patch_size: int, width: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.embed = nn.Linear(channels * patch_size**2, width)

    def forward(self, x_FHWI: Tensor) -> Tensor:
        """[F, H, W, I] -> [F, H/P, W/P, C]."""
        p = self.patch_size
        num, height, width, channels = x_FHWI.shape
        patches = x_FHWI.reshape(num, height // p, p, width // p, p, channels).transpose(2, 3)
        return self.embed(patches.flatten(3))


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
                nn.ReLU(),
            ]
            source = target
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x_FHWI: Tensor) -> Tensor:
        """[F, H, W, I] -> [F, H/P, W/P, C]."""
        # Frames lie channels-last, so this permutation is a channels-last image without a copy.
        return self.layers(x_FHWI.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


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
    """Rotary position encoding of a frame's tokens: cosine and sine, each [1 or B, L, 1, D/2]."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x_BLHD: Tensor) -> Tensor:
        """Turn the channels (d, d + D/2) of each head by their token's angle: [..., L, H, D]."""
        first, second = x_BLHD.chunk(2, dim=-1)
        return torch.cat(
            [first * self.cos - second * self.sin, second * self.cos + first * self.sin], dim=-1
        )


class CrossRWKVLayer(nn.Module):
    """CrossRWKV gate and LSTM-like cell of one layer.

    Args:
        config: the model's configuration.
        drop: chance of leaving the layer's branches out of a clip in training.
    """

    def __init__(self, config: LCRConfig, drop: float = 0.0) -> None:
        super().__init__()
        width, heads, head_width = config.width, config.num_heads, config.head_width
        self.config = config
        self.drop = drop
        self.compiled = False
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
        if config.cell == "gated":
            # Memories of 1 to T frames, spread over the channels (Tallec & Ollivier 2018). Without
            # edges this rate is all of the forget signal.
            span = torch.linspace(1.0, max(2.0, config.num_frames - 1.0), width)
            self.forget_rate = nn.Parameter(span.log())
            if config.edges != "none":
                self.forget = nn.Linear(width, width, bias=False)

    def forward(
        self,
        x_TBLC: Tensor,
        edge_TBLC: Tensor | None,
        turn: Turn | None,
        hidden_BLC: Tensor,
        memory_BLC: Tensor,
        input_BLC: Tensor,
    ) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
        """All frames through this layer.

        Args:
            x_TBLC: tokens of the layer below.
            edge_TBLC: edge tokens times the edge strength; None without edges.
            turn: rotary encoding for R and K; None without.
            hidden_BLC: h of the frame before the first.
            memory_BLC: c of the frame before the first.
            input_BLC: normed tokens of the frame before the first.

        Returns:
            tokens for the next layer [T, B, L, C], the output O = h and the memory after each
            frame (T of [B, L, C] each), and the last frame's normed tokens [B, L, C].
        """
        normed_TBLC = self.norm_gate(x_TBLC)
        # What asks no hidden state runs for all frames at once: K, V and the forget signal.
        frames = self._keys_and_values(normed_TBLC, edge_TBLC, turn, input_BLC)
        forget_TBLC = self._forget(edge_TBLC, len(x_TBLC))
        kept = self._kept_branches(x_TBLC)
        # Unbound once: the gradient of x[t] would be as large as x, for every t anew.
        xs, normeds = x_TBLC.unbind(0), normed_TBLC.unbind(0)
        forgets = forget_TBLC.unbind(0)
        frame = _compiled_frame() if self.compiled else CrossRWKVLayer.frame
        outputs, hiddens, memories = [], [], []
        for x_BLC, normed_BLC, key_value, forget_BLC in zip(
            xs, normeds, frames, forgets, strict=True
        ):
            y_BLC, hidden_BLC, memory_BLC = frame(
                self, x_BLC, normed_BLC, key_value, forget_BLC, turn, kept, hidden_BLC, memory_BLC
            )
            outputs.append(y_BLC)
            hiddens.append(hidden_BLC)
            memories.append(memory_BLC)
        return torch.stack(outputs), hiddens, memories, normed_TBLC[-1]

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
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One frame: tokens for the next layer, h and c (paper, gate and cell equations)."""
        config = self.config
        # R and G: the current frame and the past ask.
        asked_BLC = normed_BLC
        if config.cell != "none":
            asked_BLC = asked_BLC + self.norm_past(hidden_BLC)
        receptance_BLC, gate_BLC = self.receptance_gate(asked_BLC).chunk(2, dim=-1)
        # a = concat_heads(SiLU(G) * LN(R . BiWKV)) W_a
        read_BLC = self._read(receptance_BLC, key_value, turn)
        a_BLC = self.output(F.silu(gate_BLC) * read_BLC)
        z_BLC = x_BLC + a_BLC if config.residual else a_BLC
        # A = sigmoid(R') * V', with V' from a squared-ReLU key
        mixed = self.mix_in(self.norm_mix(z_BLC))
        mix_receptance_BLC, mix_key_BLM = mixed.split([config.width, config.mix_width], dim=-1)
        value_BLC = self.mix_out(F.relu(mix_key_BLM).square())
        branch_BLC = _wide(torch.sigmoid(mix_receptance_BLC) * value_BLC)
        # The cell, in float32.
        if config.cell == "none":
            out_BLC = branch_BLC
        else:
            new_BLC = torch.tanh(branch_BLC)
            if config.cell == "paper":
                memory_BLC = forget_BLC * (new_BLC + memory_BLC) + memory_BLC
            else:
                memory_BLC = torch.lerp(new_BLC, memory_BLC, forget_BLC)
            hidden_BLC = torch.tanh(memory_BLC) * torch.sigmoid(branch_BLC)
            out_BLC = hidden_BLC
        if not config.residual:
            return out_BLC, hidden_BLC, memory_BLC
        added_BLC = a_BLC + branch_BLC
        if config.cell != "none":
            added_BLC = added_BLC + out_BLC
        if kept_B11 is not None:
            added_BLC = added_BLC * kept_B11
        return x_BLC + added_BLC, hidden_BLC, memory_BLC

    def _keys_and_values(
        self,
        normed_TBLC: Tensor,
        edge_TBLC: Tensor | None,
        turn: Turn | None,
        input_BLC: Tensor,
    ) -> Sequence[Prepared | tuple[Tensor, Tensor]]:
        """K and V of each frame, in the form that the mixer reads."""
        config = self.config
        if config.key_value_source == "edges":
            source_TBLC = _not_none(edge_TBLC)
        else:
            source_TBLC = normed_TBLC
            if config.time_shift:
                before_TBLC = torch.cat([input_BLC[None].to(normed_TBLC.dtype), normed_TBLC[:-1]])
                source_TBLC = torch.addcmul(normed_TBLC, self.shift, normed_TBLC - before_TBLC)
            if config.key_value_source == "edges+frame":
                source_TBLC = source_TBLC + _not_none(edge_TBLC)
        key, value = (
            x.unflatten(-1, (config.num_heads, config.head_width))
            for x in self.key_value(source_TBLC).chunk(2, dim=-1)
        )
        if turn is not None:
            key = turn(key)
        if config.mixer != "wkv":
            return list(zip(key.unbind(0), value.unbind(0), strict=True))
        log_decay_HD = MIN_LOG_DECAY * torch.sigmoid(self.decay)
        with torch.autocast(key.device.type, enabled=False):
            prepared = prepare(
                key.flatten(0, 1), value.flatten(0, 1), log_decay_HD, self.bonus, scan=config.scan
            )
        return prepared.frames(len(normed_TBLC))

    def _read(
        self,
        receptance_BLC: Tensor,
        key_value: Prepared | tuple[Tensor, Tensor],
        turn: Turn | None,
    ) -> Tensor:
        """LN(R . BiWKV) of each head, [B, L, C]."""
        config = self.config
        r_BLHD = receptance_BLC.unflatten(-1, (config.num_heads, config.head_width))
        if turn is not None:
            r_BLHD = turn(r_BLHD)
        if isinstance(key_value, Prepared):
            with torch.autocast(r_BLHD.device.type, enabled=False):
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
        return F.layer_norm(out_BLHD, (config.head_width,)).flatten(-2)

    def _forget(self, edge_TBLC: Tensor | None, num_frames: int) -> Tensor:
        """The forget signal of all frames, float32, broadcastable to [T, B, L, C]."""
        if self.config.cell == "gated":
            rate_C = self.forget_rate
            if edge_TBLC is None:
                return torch.sigmoid(rate_C).expand(num_frames, 1, 1, -1)
            return torch.sigmoid(_wide(self.forget(edge_TBLC)) + rate_C)
        if edge_TBLC is None:
            assert self.config.cell == "none"  # LCRConfig refuses the paper's cell without edges
            return self.norm_gate.weight.new_zeros(num_frames, 1, 1, 1)
        return _wide(edge_TBLC)

    def _kept_branches(self, x_TBLC: Tensor) -> Tensor | None:
        """Drop-path: one draw a clip, the same in all its frames; None where nothing is dropped."""
        if not self.training or self.drop == 0:
            return None
        keep = 1 - self.drop
        draw = torch.rand(x_TBLC.shape[1], 1, 1, device=x_TBLC.device) < keep
        return draw.to(x_TBLC.dtype) / keep


@functools.cache
def _compiled_frame() -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """`CrossRWKVLayer.frame` compiled: one program for all layers, kept out of their pickles."""
    return torch.compile(CrossRWKVLayer.frame, dynamic=False)


class LCR(nn.Module):
    """The whole model. `forward`, `scan` and `step` give the same numbers.

    Args:
        config: every choice; see `LCRConfig`.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: LCRConfig) -> None:
        super().__init__()
        self.config = config
        width, grid = config.width, config.image_size // config.patch_size
        stem = ConvStem if config.stem == "conv" else PatchStem
        self.stem = stem(3 * config.stem_frames, config.patch_size, width)
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
        last = max(1, config.depth - 1)
        self.layers = nn.ModuleList(
            CrossRWKVLayer(config, config.drop_path * i / last) for i in range(config.depth)
        )
        features = width if config.cell == "none" else 2 * width
        self.norm_head = (
            nn.BatchNorm1d(features) if config.head_norm == "batch" else nn.LayerNorm(features)
        )
        self.head = nn.Linear(features, config.num_classes)
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN) * 255, persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD) * 255, persistent=False)

    def enable_compile(self) -> None:
        """Run each layer's frame through torch.compile (C++ compiler or Triton needed).

        Compiled at the first use; weights, copies and pickles stay as they are.
        """
        for layer in self.layers:
            assert isinstance(layer, CrossRWKVLayer)
            layer.compiled = True

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
        generator: torch.Generator | None = None,
    ) -> LCRState:
        """The state before the first frame.

        Args:
            batch_size: streams side by side.
            image_size: side, or height and width, of the frames to come; the configuration's side
                if None.
            tube_mask_ratio: share of the patches to leave out of every frame (saves their cost).
            generator: source of the mask's randomness.
        """
        size = self.config.image_size if image_size is None else image_size
        height, width = (size, size) if isinstance(size, int) else size
        keep = None
        if tube_mask_ratio > 0:
            keep = tube_mask(
                (height // self.config.patch_size) * (width // self.config.patch_size),
                tube_mask_ratio,
                batch_size,
                generator=generator,
                device=self.pixel_mean.device,
            )
        return self._zero_state(batch_size, height, width, keep)

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
        x_TBLC, edge_TBLC = self._tokens(inputs, state)
        keep_BK = state.keep_BK
        turn = self._turn(rows, columns, keep_BK)
        if keep_BK is not None:
            x_TBLC = keep_tokens(x_TBLC, keep_BK)
            edge_TBLC = None if edge_TBLC is None else keep_tokens(edge_TBLC, keep_BK)
        if self.config.readout == "cls":
            x_TBLC = _prepend(self.cls_token, x_TBLC)
            if edge_TBLC is not None:
                edge_TBLC = _prepend(self.cls_edge * self.config.edge_strength, edge_TBLC)
        last_hiddens, last_memories, last_inputs = [], [], []
        for i, layer in enumerate(self.layers):
            x_TBLC, hiddens, memories, last_input = layer(
                x_TBLC,
                edge_TBLC,
                turn,
                state.hidden_NBLC[i],
                state.memory_NBLC[i],
                state.input_NBLC[i],
            )
            last_inputs.append(_wide(last_input))
            last_hiddens.append(hiddens[-1])
            last_memories.append(memories[-1])
        logits_BTK = self._classify(x_TBLC, hiddens, memories).transpose(0, 1)
        votes_BK, seen_B = state.votes_BK, state.seen_B
        if self.config.cell == "none":
            total_BTK = votes_BK[:, None] + logits_BTK.cumsum(1)
            count_BT = seen_B[:, None] + torch.arange(1, num_frames + 1, device=seen_B.device)
            votes_BK, logits_BTK = total_BTK[:, -1], total_BTK / count_BT[..., None]
        return logits_BTK, LCRState(
            torch.stack(last_hiddens),
            torch.stack(last_memories),
            torch.stack(last_inputs),
            frames_BTHWC[:, -1] if self.config.stem_frames == 2 else state.pixels_BHWC,
            keep_BK,
            votes_BK,
            seen_B + num_frames,
        )

    def _tokens(self, inputs: Inputs, state: LCRState) -> tuple[Tensor, Tensor | None]:
        """Patch and edge tokens of all frames, [T, B, L, C] each."""
        frames_TBHWC, edges_TBHW = (x.transpose(0, 1) for x in inputs)
        num_frames, batch = frames_TBHWC.shape[:2]
        dtype = self.head.weight.dtype

        def grid_to_tokens(x_FHWC: Tensor) -> Tensor:
            return x_FHWC.flatten(1, 2).unflatten(0, (num_frames, batch))

        pixels_TBHWC = (frames_TBHWC.to(dtype) - self.pixel_mean) / self.pixel_std
        if self.config.stem_frames == 2:
            before_BHWC = (state.pixels_BHWC.to(dtype) - self.pixel_mean) / self.pixel_std
            # Nothing has changed yet at a stream's first frame.
            first_B111 = (state.seen_B == 0)[:, None, None, None]
            before_BHWC = torch.where(first_B111, pixels_TBHWC[0], before_BHWC)
            change = pixels_TBHWC - torch.cat([before_BHWC[None], pixels_TBHWC[:-1]])
            pixels_TBHWC = torch.cat([pixels_TBHWC, change], dim=-1)
        x_FHWC = self.stem(pixels_TBHWC.flatten(0, 1))
        x_TBLC = grid_to_tokens(x_FHWC)
        if self.config.position == "learned":
            table: Tensor = self.position
            if table.shape[-2:] != x_FHWC.shape[1:3]:
                table = F.interpolate(table, x_FHWC.shape[1:3], mode="bicubic")
            x_TBLC = x_TBLC + table[0].flatten(1).T
        if self.config.edges == "none":
            return x_TBLC, None
        edges_FHW1 = edges_TBHW.flatten(0, 1)[..., None].to(dtype) / 255
        edge_FHWC = self.zero_conv(self.edge_stem(edges_FHW1)) * self.config.edge_strength
        return x_TBLC, grid_to_tokens(edge_FHWC)

    def _turn(self, rows: int, columns: int, keep_BK: Tensor | None) -> Turn | None:
        """Rotary encoding (arXiv 2104.09864) along two axes: half of the pairs turn with the row,
        half with the column. `[CLS]` stands at no place and does not turn."""
        if self.config.position != "rope":
            return None
        device = self.pixel_mean.device
        quarter = self.config.head_width // 4
        # Slowest pair: about a radian across 100 patches; a frame's grid is far smaller than text.
        rate = 100.0 ** (-torch.arange(quarter, device=device) / quarter)
        row = torch.arange(rows, device=device)[:, None, None] * rate
        column = torch.arange(columns, device=device)[None, :, None] * rate
        shape = (rows, columns, quarter)
        angle_1LQ = torch.cat([row.expand(shape), column.expand(shape)], -1).flatten(0, 1)[None]
        if keep_BK is not None:
            angle_1LQ = angle_1LQ[0, keep_BK]
        if self.config.readout == "cls":
            angle_1LQ = F.pad(angle_1LQ, (0, 0, 1, 0))
        angle = angle_1LQ[:, :, None]
        return Turn(angle.cos(), angle.sin())

    def _classify(self, x_TBLC: Tensor, hiddens: list[Tensor], memories: list[Tensor]) -> Tensor:
        """logits = W_class LN(concat(O, C)) at every frame, float32 [T, B, K]."""

        def pool(x_BLC: Tensor) -> Tensor:
            return x_BLC[:, 0] if self.config.readout == "cls" else x_BLC.mean(1)

        if self.config.cell == "none":
            features_TBF = torch.stack([pool(_wide(x_BLC)) for x_BLC in x_TBLC.unbind(0)])
        else:
            features_TBF = torch.stack(
                [torch.cat([pool(h), pool(c)], -1) for h, c in zip(hiddens, memories, strict=True)]
            )
        features = self.norm_head(features_TBF.flatten(0, 1)).unflatten(0, features_TBF.shape[:2])
        return _wide(self.head(features))

    def _num_tokens(self, patches: int, keep_BK: Tensor | None) -> int:
        kept = patches if keep_BK is None else keep_BK.shape[1]
        return kept + (self.config.readout == "cls")

    def _zero_state(
        self, batch_size: int, height: int, width: int, keep_BK: Tensor | None
    ) -> LCRState:
        config, device = self.config, self.pixel_mean.device
        patches = (height // config.patch_size) * (width // config.patch_size)
        dtype = torch.promote_types(self.head.weight.dtype, torch.float32)
        shape = (config.depth, batch_size, self._num_tokens(patches, keep_BK), config.width)
        zeros = torch.zeros(shape, device=device, dtype=dtype)
        seen_pixels = (height, width) if config.stem_frames == 2 else (0, 0)
        return LCRState(
            zeros,
            zeros,
            zeros,
            torch.zeros(batch_size, *seen_pixels, 3, device=device, dtype=torch.uint8),
            keep_BK,
            torch.zeros(batch_size, config.num_classes, device=device, dtype=dtype),
            torch.zeros(batch_size, dtype=torch.int64, device=device),
        )


def _prepend(token_C: Tensor, x_TBLC: Tensor) -> Tensor:
    first = token_C.to(x_TBLC.dtype).expand(*x_TBLC.shape[:2], 1, -1)
    return torch.cat([first, x_TBLC], dim=2)


def _wide(x: Tensor) -> Tensor:
    """Float32 from bfloat16; float64 stays: memory and logits never live in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _not_none(edge_TBLC: Tensor | None) -> Tensor:
    assert edge_TBLC is not None  # LCRConfig refuses edges="none" with K and V from edges
    return edge_TBLC
