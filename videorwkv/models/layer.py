"""One layer of an LCR: CrossRWKV gate and LSTM-like cell.

    K, V ← edges, frame (and the frame before)      all frames at once
    R, G ← frame, h of the last frame               frame by frame; all at once of the layer below
    a = W_a (SiLU(G) * LN(R . BiWKV(K, V)))         the gate
    A = sigmoid(R') * V', V' from a squared ReLU    the channel mixing
    c ← f c + (1 - f) tanh A, f ← edges             the cell
    h = sigmoid(A) * tanh c

With memory_clock="change" 1 - f is scaled by how far the pixels have moved on, so that still frames
leave c as it is.

B batch, T frames, L tokens of a frame, C channels, H heads, D head width, M hidden width
of the channel mixing, J tokens of a frame that are computed (all, or those that a mask keeps).
Tensors of a clip are frame-major ([T, B, ...]), so that one frame is one contiguous slice.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.compiler import is_compiling

from videorwkv.models.cell import MemoryCell, at_least_float32, not_none
from videorwkv.models.config import LCRConfig
from videorwkv.models.masking import Share, put, take
from videorwkv.models.shift import PartedLinear, SpatialShift
from videorwkv.models.stems import RotaryEmbedding
from videorwkv.ops.wkv import (
    MIN_LOG_DECAY,
    Prepared,
    gated,
    is_gated_fused,
    no_autocast,
    prepare,
    read,
)

# One tensor: both side by side, as they are, for the scan that makes all of the gate.
KeyValue = Prepared | tuple[Tensor, Tensor] | Tensor
# A tensor of each frame, [B, L, C]: a list where they come one after the other, else one tensor.
Frames = Sequence[Tensor] | Tensor
# What has an input of its own under a spatial shift.
NEAR = ("receptance", "gate", "key", "value", "mix_receptance", "mix_key")


class _Ready(NamedTuple):
    """What of all frames needs no hidden state, and what is the same for all; as in `run`."""

    x_TBLC: Tensor
    normed_TBLC: Tensor
    key_value: Any  # KeyValue, or both as they are: `little` makes the rest
    edge_TBLC: Tensor | None
    moved_TBL2: Tensor | None
    rotary: RotaryEmbedding | None
    kept_B11: Tensor | None
    rows_TBJ: Tensor | None
    shift: SpatialShift | None
    little: Any


class CrossRWKVLayer(MemoryCell):
    """CrossRWKV gate and LSTM-like cell of one layer.

    Args:
        config: the model's configuration.
        drop: probability of dropping the layer's branches for a clip in training (drop-path).
        is_first: there is no layer below, whose past it could ask.
        is_last: nothing reads its tokens, only its memory.
    """

    one_D: Tensor

    def __init__(
        self,
        config: LCRConfig,
        drop: float = 0.0,
        *,
        is_first: bool = False,
        is_last: bool = False,
    ) -> None:
        super().__init__(config)
        width, heads, head_width = config.width, config.num_heads, config.head_width
        self.drop = drop
        self.is_last = is_last
        self.compiled = ""  # torch.compile's mode; empty: not compiled
        self.norm_gate = nn.LayerNorm(width)
        if config.is_frame_by_frame or (config.asks_below and not is_first):
            # h starts near zero: without a norm the past would hardly change the queries.
            self.norm_past = nn.LayerNorm(width)
            if config.cell_scale:
                nn.init.zeros_(self.norm_past.weight)
        if config.cell_scale and not is_last:
            self.cell_scale = nn.Parameter(torch.zeros(width))
        self.receptance_gate = self._joint(width, width, bias=False)
        # With a bias: K and V of zero-initialised edges would both be zero, and stay so.
        self.key_value = self._joint(width, width, bias=True)
        if config.time_shift:
            # Half of the channels start as themselves, half as mostly what changed.
            self.shift = nn.Parameter(torch.tensor([0.0, 2.0]).repeat(width)[:width].clone())
        self.output = nn.Linear(width, width, bias=False)
        self.norm_mix = nn.LayerNorm(width)
        self.mix_in = self._joint(width, config.mix_width, bias=False)
        self.mix_out = nn.Linear(config.mix_width, width, bias=False)
        if config.mixer == "wkv":
            # Half-lives from a token to about the frame, spread over the channels of each head.
            rate = torch.logspace(math.log10(1.5), math.log10(0.01), head_width)
            self.decay = nn.Parameter(torch.logit(rate.repeat(heads, 1) / -MIN_LOG_DECAY))
            self.bonus = nn.Parameter(torch.ones(heads, head_width))
        if config.scan_affine:
            self.scan_weight = nn.Parameter(torch.ones(width))
            self.scan_bias = nn.Parameter(torch.zeros(width))
        if config.spatial_shift == "q_shift":
            # Weights of the neighbours, from all to nearly none over the channels, as in RWKV.
            for name in NEAR:
                weight_C = 1 - torch.arange(width) / width
                setattr(self, f"near_{name}", nn.Parameter(weight_C))
        # A norm without weights runs slower than one with ones.
        self.register_buffer("one_D", torch.ones(head_width), persistent=False)
        self._add_cell()
        if config.learn_edge_strength and config.edges != "none":
            self.edge_strength = nn.Parameter(torch.tensor(float(config.edge_strength)))

    def _joint(self, *sizes: int, bias: bool) -> nn.Linear:
        """Linear maps side by side, of one input or, under a spatial shift, each of its own."""
        width = self.config.width
        if self.config.spatial_shift == "q_shift":
            return PartedLinear(width, sizes, bias=bias)
        return nn.Linear(width, sum(sizes), bias=bias)

    def forward(self, x_TBLC: Tensor, *args: Any) -> tuple[Tensor, Frames, Frames, Tensor]:
        """`run`; a single frame of a stream as one program where compiling is enabled."""
        if self.compiled and len(x_TBLC) == 1 and not torch.is_grad_enabled():
            return compiled_method("run", self.compiled)(self, x_TBLC, *args)
        return self.run(x_TBLC, *args)

    def run(
        self,
        x_TBLC: Tensor,
        edge_TBLC: Tensor | None,
        rotary: RotaryEmbedding | None,
        hidden_BLC: Tensor,
        memory_BLC: Tensor,
        input_BLC: Tensor,
        kept_B11: Tensor | None = None,
        rows_TBJ: Tensor | None = None,
        moved_TBL2: Tensor | None = None,
        shift: SpatialShift | None = None,
        below_TBLC: Tensor | None = None,
        little: Any = None,
    ) -> tuple[Tensor, Frames, Frames, Tensor]:
        """All frames through this layer.

        Args:
            x_TBLC: tokens of the layer below.
            edge_TBLC: edge tokens times the edge strength; None without edges.
            rotary: rotary position embedding of R and K; None without.
            hidden_BLC: h of the frame before the first.
            memory_BLC: c of the frame before the first.
            input_BLC: normed tokens of the frame before the first.
            kept_B11: factor on the branches (drop-path); None: one.
            rows_TBJ: under motion masking, the rows of h, c and the normed tokens that each frame
                updates; all other rows keep their values. None: all rows.
            moved_TBL2: how far each token's patch and the whole frame have moved on, in [0, 1]; for
                a memory that counts change.
            shift: finds each token's neighbours; for a spatial shift.
            below_TBLC: with `past='below'`, h of the layer below at the frame before each; None:
                there is none.
            little: what stands in for parts of it that would keep more (recompute.py); None:
                nothing does.

        Returns:
            tokens for the next layer [T, B, L, C]; the output O = h and the memory after each
            frame (T of [B, L, C] each, or one tensor; of the memory the last alone where nobody
            reads the others); and the last normed tokens [B, L, C].
        """
        if self.config.learn_edge_strength and edge_TBLC is not None:
            edge_TBLC = edge_TBLC * self.edge_strength.to(edge_TBLC.dtype)
        # K, V and the forget gate need no hidden state: computed for all frames at once.
        if rows_TBJ is not None:
            little = None
        if little is not None:
            both_TBLX, normed_TBLC = little.keys_and_values(x_TBLC, input_BLC, edge_TBLC)
            input_BLC = at_least_float32(normed_TBLC[-1]).clone()
            key_value: Any = both_TBLX
            if self.config.is_frame_by_frame:
                key_value = self._prepared(both_TBLX, rotary)
        else:
            normed_TBLC = self.norm_gate(x_TBLC)
            before_TBLC, input_BLC = _before(normed_TBLC, input_BLC, rows_TBJ)
            both_TBLX = self._both(normed_TBLC, before_TBLC, edge_TBLC, shift)
            is_fused = self._is_fused(both_TBLX, rotary)
            key_value = both_TBLX if is_fused else self._prepared(both_TBLX, rotary)
        run = self._frame_by_frame if self.config.is_frame_by_frame else self._at_once
        ready = _Ready(
            x_TBLC, normed_TBLC, key_value, edge_TBLC, moved_TBL2, rotary, kept_B11, rows_TBJ,
            shift, little,
        )  # fmt: skip
        y_TBLC, hiddens, memories = run(ready, hidden_BLC, memory_BLC, below_TBLC)
        return y_TBLC, hiddens, memories, input_BLC

    def _frame_by_frame(
        self, ready: _Ready, hidden_BLC: Tensor, memory_BLC: Tensor, _: Tensor | None
    ) -> tuple[Tensor, Frames, Frames]:
        """All of `run` that waits for this layer's own output at the frame before."""
        num_frames = len(ready.x_TBLC)
        keys_values = _by_frame(ready.key_value, num_frames)
        forgets = self._forget_gate(ready.edge_TBLC, ready.moved_TBL2, num_frames).unbind(0)
        # Unbound once: the gradient of x[t] would be as large as x, for every t anew.
        xs = ready.x_TBLC.unbind(0)
        normeds: Sequence[Sequence[Tensor]] = [(x,) for x in ready.normed_TBLC.unbind(0)]
        shifts: Sequence[SpatialShift | None] = [None] * num_frames
        if ready.shift is not None:
            queries = self._near(ready.normed_TBLC, ready.shift, "receptance", "gate")
            normeds = list(zip(*(x.unbind(0) for x in queries), strict=True))
            shifts = ready.shift.frames(num_frames)
        rotary, rows_TBJ = ready.rotary, ready.rows_TBJ
        rotaries = [None] * num_frames if rotary is None else rotary.frames(num_frames)
        frame: Callable[..., tuple[Tensor, Tensor, Tensor]] = (
            self._maybe_compiled("frame") if ready.little is None else ready.little.frame
        )
        kept_B11 = ready.kept_B11
        outputs, hiddens, memories = [], [], []
        for t in range(num_frames):
            now = xs[t], normeds[t], keys_values[t], forgets[t], rotaries[t], kept_B11, shifts[t]
            if rows_TBJ is None:
                y_BLC, hidden_BLC, memory_BLC = frame(self, *now, hidden_BLC, memory_BLC)
            else:
                rows_BJ = rows_TBJ[t]
                past = take(hidden_BLC, rows_BJ), take(memory_BLC, rows_BJ)
                y_BLC, new_hidden_BJC, new_memory_BJC = frame(self, *now, *past)
                hidden_BLC = put(hidden_BLC, rows_BJ, new_hidden_BJC)
                memory_BLC = put(memory_BLC, rows_BJ, new_memory_BJC)
            outputs.append(y_BLC)
            hiddens.append(hidden_BLC)
            memories.append(memory_BLC)
        y_TBLC = torch.stack(outputs) if num_frames > 1 else outputs[0][None]
        return y_TBLC, hiddens, memories

    def _at_once(
        self, ready: _Ready, hidden_BLC: Tensor, memory_BLC: Tensor, below_TBLC: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same where nothing but the cell waits for the frame before."""
        rows_TBJ = ready.rows_TBJ
        if below_TBLC is not None and rows_TBJ is not None:
            pairs = zip(below_TBLC, rows_TBJ, strict=True)
            below_TBLC = torch.stack([take(h_BLC, rows_BJ) for h_BLC, rows_BJ in pairs])
        normeds_TBLC = self._near(ready.normed_TBLC, ready.shift, "receptance", "gate")
        branches: Callable[..., tuple[Tensor, Tensor, Tensor]] = (
            self._maybe_compiled("branches") if ready.little is None else ready.little.branches
        )
        a_TBLC, z_TBLC, branch_TBLC = branches(
            self, ready.x_TBLC, normeds_TBLC, ready.key_value, ready.rotary, ready.shift, below_TBLC
        )
        out_TBLC, hidden_TBLC, memory_TBLC = self._cells(
            branch_TBLC, ready.edge_TBLC, ready.moved_TBL2, rows_TBJ, hidden_BLC, memory_BLC,
            every=self.is_last,
        )  # fmt: skip
        y_TBLC = self._joined(ready.x_TBLC, a_TBLC, z_TBLC, branch_TBLC, out_TBLC, ready.kept_B11)
        return y_TBLC, hidden_TBLC, memory_TBLC

    def _maybe_compiled(self, name: str) -> Callable[..., Any]:
        if self.compiled and not is_compiling():
            return compiled_method(name, self.compiled)
        method: Callable[..., Any] = getattr(CrossRWKVLayer, name)
        return method

    def frame(
        self,
        x_BLC: Tensor,
        normeds_BLC: Sequence[Tensor],
        key_value: KeyValue,
        forget_BLC: Tensor,
        rotary: RotaryEmbedding | None,
        kept_B11: Tensor | None,
        shift: SpatialShift | None,
        hidden_BLC: Tensor,
        memory_BLC: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One frame: tokens for the next layer, h and c (paper, gate and cell equations).

        `normeds_BLC` is what the queries see of the frame: one tensor for receptance and gate or,
        under a spatial shift, one for each; the other arguments are as in `run`.
        """
        config = self.config
        past_BLC = hidden_BLC if config.cell != "none" else None
        a_BLC, z_BLC, branch_BLC = self.branches(
            x_BLC, normeds_BLC, key_value, rotary, shift, past_BLC
        )
        # The cell computes in float32.
        out_BLC = branch_BLC = at_least_float32(branch_BLC)
        if config.cell != "none":
            memory_BLC, out_BLC = self._cell(branch_BLC, forget_BLC, hidden_BLC, memory_BLC)
            hidden_BLC = out_BLC
        y_BLC = self._joined(x_BLC, a_BLC, z_BLC, branch_BLC, out_BLC, kept_B11)
        return y_BLC, hidden_BLC, memory_BLC

    def branches(
        self,
        x_BLC: Tensor,
        normeds_BLC: Sequence[Tensor],
        key_value: KeyValue,
        rotary: RotaryEmbedding | None,
        shift: SpatialShift | None,
        past_BLC: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the gate gives, a; the residual path after it; and the channel mixing, A. Of all
        frames at once, too ([T, B, L, C]), where the past of all is known."""
        a_BLC = self._gate(normeds_BLC, past_BLC, key_value, rotary)
        z_BLC = x_BLC + a_BLC if self.config.residual else a_BLC
        return a_BLC, z_BLC, self._channel_mixing(z_BLC, shift)

    def _joined(
        self,
        x_BLC: Tensor,
        a_BLC: Tensor,
        z_BLC: Tensor,
        branch_BLC: Tensor,
        out_BLC: Tensor,
        kept_B11: Tensor | None,
    ) -> Tensor:
        """Tokens for the next layer."""
        config = self.config
        if not config.residual:
            return out_BLC
        if kept_B11 is None:
            y_BLC = z_BLC + branch_BLC
        else:
            y_BLC = x_BLC + (a_BLC + at_least_float32(branch_BLC)) * kept_B11
            out_BLC = out_BLC * kept_B11
        if hasattr(self, "cell_scale"):
            y_BLC = y_BLC + out_BLC * self.cell_scale
        elif config.cell != "none" and not config.cell_scale:
            y_BLC = y_BLC + out_BLC
        return y_BLC

    def _gate(
        self,
        normeds_BLC: Sequence[Tensor],
        past_BLC: Tensor | None,
        key_value: KeyValue,
        rotary: RotaryEmbedding | None,
    ) -> Tensor:
        """a = concat_heads(SiLU(G) * LN(R . BiWKV(K, V))) W_a."""
        # Queries (receptance R, gate G) come from the current frame and the last hidden state.
        queries_BLC = normeds_BLC
        if past_BLC is not None:
            past_BLC = self.norm_past(past_BLC)
            queries_BLC = [past_BLC + x for x in normeds_BLC]
        both_BLX = self.receptance_gate(*queries_BLC)
        if isinstance(key_value, Tensor):
            gated_BLC = self._gated(both_BLX, key_value, rotary)
        else:
            receptance_BLC, gate_BLC = both_BLX.chunk(2, dim=-1)
            gated_BLC = F.silu(gate_BLC) * self._read(receptance_BLC, key_value, rotary)
        a_BLC: Tensor = self.output(gated_BLC)
        return a_BLC

    def _is_fused(self, both_TBLX: Tensor, rotary: RotaryEmbedding | None) -> bool:
        """Whether `_gated` can read keys and values, side by side."""
        config = self.config
        if config.is_frame_by_frame or config.mixer != "wkv" or config.scan_affine:
            return False
        # Tables of each clip or frame, or of complex numbers, are none of its.
        if rotary is not None and rotary.rotation is not None:
            return False
        if rotary is not None and (rotary.cos.ndim > 4 or len(rotary.cos) > 1):
            return False
        device, length = both_TBLX.device.type, both_TBLX.shape[-2]
        return is_gated_fused(device, both_TBLX.dtype, length, config.head_width)

    def _gated(
        self, queries_BLX: Tensor, both_BLX: Tensor, rotary: RotaryEmbedding | None
    ) -> Tensor:
        """concat_heads(SiLU(G) * LN(R . BiWKV(K, V))) from R and G, and K and V, side by side."""
        tables_LD = None
        if rotary is not None:
            length, _, width = rotary.cos.shape[-3:]
            tables_LD = rotary.cos.view(length, width), rotary.sin.view(length, width)
        rg_BLX, kv_BLX = queries_BLX.flatten(0, -3), both_BLX.flatten(0, -3)
        scan = self.config.scan
        gated_BLC = gated(rg_BLX, kv_BLX, self._log_decay(), self.bonus, tables_LD, scan=scan)
        return gated_BLC.view(*queries_BLX.shape[:-1], self.config.width)

    def _channel_mixing(self, z_BLC: Tensor, shift: SpatialShift | None) -> Tensor:
        """A = sigmoid(R') * V', with V' from a squared-ReLU key."""
        normed_BLC = self.norm_mix(z_BLC)
        mixed = self.mix_in(*self._near(normed_BLC, shift, "mix_receptance", "mix_key"))
        receptance_BLC, key_BLM = mixed.split_with_sizes(
            [self.config.width, self.config.mix_width], -1
        )
        value_BLC: Tensor = self.mix_out(torch.square(F.relu(key_BLM)))
        return value_BLC * torch.sigmoid(receptance_BLC)

    def _both(
        self,
        normed_TBLC: Tensor,
        before_TBLC: Tensor,
        edge_TBLC: Tensor | None,
        shift: SpatialShift | None = None,
    ) -> Tensor:
        """K and V of all frames side by side, [T, B, L, 2 C]."""
        config = self.config
        source_TBLC = normed_TBLC
        if config.key_value_source == "edges":
            source_TBLC = not_none(edge_TBLC)
        elif config.time_shift:
            weight_C = self._frame_weight().to(normed_TBLC.dtype)
            source_TBLC = torch.lerp(before_TBLC, normed_TBLC, weight_C)
        sources_TBLC = self._near(source_TBLC, shift, "key", "value")
        if config.key_value_source == "edges+frame":
            sources_TBLC = [x + not_none(edge_TBLC) for x in sources_TBLC]
        both_TBLX: Tensor = self.key_value(*sources_TBLC)
        return both_TBLX

    def _prepared(self, both_TBLX: Tensor, rotary: RotaryEmbedding | None) -> KeyValue:
        """K and V, side by side, in the form that the mixer reads."""
        config = self.config
        key, value = (
            x.view(*x.shape[:-1], config.num_heads, config.head_width)
            for x in both_TBLX.chunk(2, dim=-1)
        )
        if rotary is not None:
            key = rotary(key)
        if config.mixer != "wkv":
            return key, value
        with no_autocast(key.device.type):
            return prepare(
                key.flatten(0, 1),
                value.flatten(0, 1),
                self._log_decay(),
                self.bonus,
                scan=config.scan,
            )

    def _near(self, x_TBLC: Tensor, shift: SpatialShift | None, *names: str) -> Sequence[Tensor]:
        """Tokens mixed with their neighbours, once for each name of `NEAR`; without a spatial shift
        the tokens themselves, once for all."""
        if shift is None:
            return (x_TBLC,)
        near_TBLC = shift(x_TBLC)
        weights_C: list[Tensor] = [getattr(self, f"near_{name}") for name in names]
        return [torch.lerp(x_TBLC, near_TBLC, w.to(x_TBLC.dtype)) for w in weights_C]

    def _frame_weight(self) -> Tensor:
        """Weight of a frame against the one before in the time shift, [C]."""
        return 1 + self.shift

    def _log_decay(self) -> Tensor:
        """Log of the scan's decay, [H, D]."""
        return MIN_LOG_DECAY * torch.sigmoid(self.decay)

    def _read(
        self, receptance_BLC: Tensor, key_value: KeyValue, rotary: RotaryEmbedding | None
    ) -> Tensor:
        """LN(R . BiWKV) of each head, [B, L, C]."""
        config = self.config
        r_BLHD = receptance_BLC.view(
            *receptance_BLC.shape[:-1], config.num_heads, config.head_width
        )
        if rotary is not None:
            r_BLHD = rotary(r_BLHD)
        if isinstance(key_value, Prepared):
            with no_autocast(r_BLHD.device.type):
                # Frames stand in a batch of their own where all of them are read at once.
                out_BLHD = read(r_BLHD.flatten(0, -4), key_value).view(r_BLHD.shape)
        else:
            k_BLHD, v_BLHD = key_value
            if config.mixer == "softmax":
                out_BLHD = F.scaled_dot_product_attention(
                    r_BLHD.transpose(-3, -2).to(v_BLHD.dtype),
                    k_BLHD.transpose(-3, -2).to(v_BLHD.dtype),
                    v_BLHD.transpose(-3, -2),
                    is_causal=config.scan == "forward",
                ).transpose(-3, -2)
            else:
                out_BLHD = r_BLHD * v_BLHD
        read_BLC = F.layer_norm(out_BLHD, (config.head_width,), self.one_D).flatten(-2)
        if config.scan_affine:
            read_BLC = read_BLC * self.scan_weight + self.scan_bias
        return read_BLC

    def draw_kept(self, batch: int, share: Share | None = None) -> Tensor | None:
        """Drop-path: one draw a clip, the same in all its frames; None where nothing is dropped."""
        if not self.training or self.drop == 0:
            return None
        keep = 1 - self.drop
        total = batch if share is None else share.total
        kept_B11 = (torch.rand(total, 1, 1, device=self.output.weight.device) < keep) / keep
        return kept_B11 if share is None else share.of(kept_B11, batch)


@functools.cache
def compiled_method(name: str, mode: str) -> Callable[..., Any]:
    """A method of the layer compiled: one program for all layers, kept out of their pickles."""
    return torch.compile(getattr(CrossRWKVLayer, name), dynamic=False, mode=mode)


def _by_frame(key_value: KeyValue, num_frames: int) -> Sequence[KeyValue]:
    """K and V of all frames -> those of each."""
    if not isinstance(key_value, Prepared):
        return list(zip(*(x.unbind(0) for x in key_value), strict=True))
    return key_value.frames(num_frames) if num_frames > 1 else [key_value]


def _before(
    normed_TBLC: Tensor, input_BLC: Tensor, rows_TBJ: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Each token's normed input when it was last computed [T, B, L, C], and the last of all."""
    dtype = normed_TBLC.dtype
    if rows_TBJ is None:
        before_TBLC = input_BLC[None].to(dtype)
        if len(normed_TBLC) > 1:
            before_TBLC = torch.cat([before_TBLC, normed_TBLC[:-1]])
        return before_TBLC, at_least_float32(normed_TBLC[-1])
    befores = []
    for normed_BJC, rows_BJ in zip(normed_TBLC, rows_TBJ, strict=True):
        befores.append(take(input_BLC, rows_BJ).to(dtype))
        input_BLC = put(input_BLC, rows_BJ, at_least_float32(normed_BJC))
    return torch.stack(befores) if len(befores) > 1 else befores[0][None], input_BLC
