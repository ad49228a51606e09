"""The LSTM-like cell of a layer, which a `CrossRWKVLayer` is also.

    c ← f c + (1 - f) tanh A, f ← edges
    h = sigmoid(A) * tanh c

`cell="rglru"`: c ← a c + sqrt(1 - a^2) sigmoid(W A) A, a = exp(-8 softplus(b) sigmoid(W' A)).

Where all A are known before the first frame, as with past="below" and "none", the whole clip is one
operation (ops/cell.py); elsewhere, and where no fast form of it is there, a loop over the frames.

B batch, T frames, L tokens of a frame, C channels, J tokens of a frame that are computed.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videorwkv.models.config import LCRConfig
from videorwkv.models.masking import put, take
from videorwkv.ops.cell import Kind, cell, cell_backend

# How strongly the gate of an RG-LRU acts, as published.
RGLRU_SCALE = 8.0
# What ops/cell.py calls the cells that need no output of the frame before.
KINDS: dict[str, Kind] = {"gated": "gated", "paper": "paper", "rglru": "linear"}


class MemoryCell(nn.Module):
    """Forget gate, memory c and output h of a layer.

    Args:
        config: the model's configuration.
    """

    one_D: Tensor
    norm_gate: nn.LayerNorm

    def __init__(self, config: LCRConfig) -> None:
        super().__init__()
        self.config = config

    def _add_cell(self) -> None:
        """Make its weights: a step of the layer's `__init__`, so that seeds keep their meaning."""
        config, width = self.config, self.config.width
        # Memories of 1 to T frames, spread over the channels (Tallec & Ollivier 2018).
        rate_C = torch.linspace(1.0, max(2.0, config.num_frames - 1.0), width).log()
        if config.cell == "gated":
            self.forget_rate = nn.Parameter(rate_C)
            if config.edges != "none" and config.forget_source == "edges":
                self.forget = nn.Linear(width, width, bias=False)
            if config.memory_clock == "change":
                # Half of the channels start with the change at their own patch, half with that of
                # the whole frame, of which a moving subject is a small part.
                self.clock_own, self.clock_frame = (
                    nn.Parameter(torch.tensor(start).repeat(width)[:width].expm1().log())
                    for start in ((3.0, 0.05), (0.05, 20.0))
                )
        if config.cell == "rglru":
            self.cell_gates = nn.Linear(width, 2 * width)
            # So that a half-open gate forgets as `rate_C` says.
            rate_C = -2 / RGLRU_SCALE * F.logsigmoid(rate_C)
            self.recurrence = nn.Parameter(rate_C.expm1().log())
        if config.is_lstm:
            self.cell_new = nn.Linear(width, 4 * width)
            self.cell_past = nn.Linear(width, 4 * width, bias=False)
            with torch.no_grad():
                self.cell_new.bias[: 2 * width] = torch.cat([-rate_C, rate_C])
        if config.cell == "convlstm":
            # A channel each, then `cell_past`: a full convolution would have nine times as many
            # weights as the plain LSTM that it is compared with.
            self.cell_near = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)

    def _forget_logits(self, edge_TBLC: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """What f of a gated cell is the sigmoid of: of the tokens, and of the channels; their sum
        where both are there."""
        if edge_TBLC is None or self.config.forget_source == "rate":
            return None, self.forget_rate
        return self.forget(edge_TBLC), self.forget_rate

    def _forget_gate(
        self, edge_TBLC: Tensor | None, moved_TBL2: Tensor | None, num_frames: int
    ) -> Tensor:
        """The forget gate f of all frames, float32, broadcastable to [T, B, L, C]."""
        if self.config.cell == "paper":
            return at_least_float32(not_none(edge_TBLC))
        if self.config.cell != "gated":
            return self.norm_gate.weight.new_zeros(num_frames, 1, 1, 1)
        logit_TBLC, rate_C = self._forget_logits(edge_TBLC)
        if logit_TBLC is None:
            forget_TBLC = torch.sigmoid(not_none(rate_C)).expand(num_frames, 1, 1, -1)
        else:
            logit_TBLC = at_least_float32(logit_TBLC)
            forget_TBLC = torch.sigmoid(logit_TBLC if rate_C is None else logit_TBLC + rate_C)
        if moved_TBL2 is None:
            return forget_TBLC
        held_TBLC = torch.exp(at_least_float32(self._held(moved_TBL2)))
        return torch.lerp(forget_TBLC, self.one_D[0], held_TBLC)

    def _held(self, moved_TBL2: Tensor) -> Tensor:
        """Log of how far the memory is held: under autocast the product is in bfloat16, which has
        an exact zero, too, and `exp` is not."""
        return moved_TBL2 @ self._clock()

    def _clock(self) -> Tensor:
        """Log of what change at the own patch and in the whole frame lets the memory hold, [2, C]:
        where nothing moves it holds all."""
        return -F.softplus(torch.stack([self.clock_own, self.clock_frame]))

    def _cell(
        self, branch_BLC: Tensor, forget_BLC: Tensor, hidden_BLC: Tensor, memory_BLC: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The memory c and the output h after a frame."""
        if self.config.is_lstm:
            past_BLC = self.cell_past(self._neighbours(hidden_BLC))
            gates_BLX = at_least_float32(self.cell_new(branch_BLC) + past_BLC)
            in_BLC, keep_BLC, out_BLC, new_BLC = gates_BLX.chunk(4, dim=-1)
            kept_BLC = torch.sigmoid(keep_BLC) * memory_BLC
            memory_BLC = kept_BLC + torch.sigmoid(in_BLC) * torch.tanh(new_BLC)
            return memory_BLC, torch.sigmoid(out_BLC) * torch.tanh(memory_BLC)
        memory_BLC = self._updated(memory_BLC, *self._offered(branch_BLC, forget_BLC))
        return memory_BLC, self._shown(memory_BLC, branch_BLC)

    def _shown(self, memory_BLC: Tensor, branch_BLC: Tensor) -> Tensor:
        """h of a memory."""
        return torch.tanh(memory_BLC) * torch.sigmoid(branch_BLC)

    def _offered(self, branch_BLC: Tensor, forget_BLC: Tensor) -> tuple[Tensor, Tensor]:
        """What the memory may take in, and how much of it stays; none of it needs the past."""
        if self.config.cell != "rglru":
            return torch.tanh(branch_BLC), forget_BLC
        gates_BLX = torch.sigmoid(at_least_float32(self.cell_gates(branch_BLC)))
        recurrence_BLC, in_BLC = gates_BLX.chunk(2, dim=-1)
        log_kept_BLC = -RGLRU_SCALE * F.softplus(self.recurrence) * recurrence_BLC
        new_BLC = torch.sqrt(-torch.expm1(2 * log_kept_BLC)) * in_BLC * branch_BLC
        return new_BLC, torch.exp(log_kept_BLC)

    def _updated(self, memory_BLC: Tensor, new_BLC: Tensor, kept_BLC: Tensor) -> Tensor:
        if self.config.cell == "paper":
            return kept_BLC * (new_BLC + memory_BLC) + memory_BLC
        if self.config.cell == "rglru":
            return torch.addcmul(new_BLC, kept_BLC, memory_BLC)
        return torch.lerp(new_BLC, memory_BLC, kept_BLC)

    def _cells(
        self,
        branch_TBLC: Tensor,
        edge_TBLC: Tensor | None,
        moved_TBL2: Tensor | None,
        rows_TBJ: Tensor | None,
        hidden_BLC: Tensor,
        memory_BLC: Tensor,
        every: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The cell over all frames: h of the tokens that are computed [T, B, J, C], h of all
        tokens after each frame [T, B, L, C], and c, of which `every=False` may leave out all but
        the last [1, B, L, C]."""
        num_frames, config = len(branch_TBLC), self.config
        if config.cell == "none":
            shape = num_frames, *hidden_BLC.shape
            return branch_TBLC, hidden_BLC.expand(shape), memory_BLC.expand(shape)
        is_alone = config.cell in KINDS and rows_TBJ is None
        backend = cell_backend(branch_TBLC, num_frames) if is_alone else None
        if backend is not None:
            gates = self._cell_inputs(branch_TBLC, edge_TBLC, moved_TBL2)
            out_TBLC, memories_TBLC = cell(
                branch_TBLC, *gates, memory_BLC,
                kind=KINDS[config.cell], every=every, backend=backend,
            )  # fmt: skip
            return out_TBLC, out_TBLC, memories_TBLC
        branch_TBLC = at_least_float32(branch_TBLC)
        forget_TBLC = self._forget_gate(edge_TBLC, moved_TBL2, num_frames)
        if is_alone:
            # As `_cell`, but only what needs the past is done frame by frame.
            memories = []
            offered = (x.unbind(0) for x in self._offered(branch_TBLC, forget_TBLC))
            for new_BLC, kept_BLC in zip(*offered, strict=True):
                memory_BLC = self._updated(memory_BLC, new_BLC, kept_BLC)
                memories.append(memory_BLC)
            memories_TBLC = torch.stack(memories)
            out_TBLC = self._shown(memories_TBLC, branch_TBLC)
            return out_TBLC, out_TBLC, memories_TBLC
        return self._frame_after_frame(branch_TBLC, forget_TBLC, rows_TBJ, hidden_BLC, memory_BLC)

    def _frame_after_frame(
        self,
        branch_TBLC: Tensor,
        forget_TBLC: Tensor,
        rows_TBJ: Tensor | None,
        hidden_BLC: Tensor,
        memory_BLC: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`_cells` where a frame needs h of the one before, or some of the tokens alone are
        computed."""
        outs, hiddens, memories = [], [], []
        forgets = forget_TBLC.expand(len(branch_TBLC), *forget_TBLC.shape[1:]).unbind(0)
        for t, now in enumerate(zip(branch_TBLC.unbind(0), forgets, strict=True)):
            past = hidden_BLC, memory_BLC
            if rows_TBJ is None:
                memory_BLC, hidden_BLC = self._cell(*now, *past)
                outs.append(hidden_BLC)
            else:
                rows_BJ = rows_TBJ[t]
                memory_BJC, out_BJC = self._cell(*now, *(take(x, rows_BJ) for x in past))
                hidden_BLC, memory_BLC = (
                    put(x, rows_BJ, new) for x, new in zip(past, (out_BJC, memory_BJC), strict=True)
                )
                outs.append(out_BJC)
            hiddens.append(hidden_BLC)
            memories.append(memory_BLC)
        return torch.stack(outs), torch.stack(hiddens), torch.stack(memories)

    def _cell_inputs(
        self, branch_TBLC: Tensor, edge_TBLC: Tensor | None, moved_TBL2: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """What `videorwkv.ops.cell.cell` takes beside A: gate, rate and aside."""
        if self.config.cell == "paper":
            return not_none(edge_TBLC), None, None
        if self.config.cell == "rglru":
            branch_TBLC = at_least_float32(branch_TBLC)
            new_TBLC, kept_TBLC = self._offered(branch_TBLC, branch_TBLC)
            return kept_TBLC, None, new_TBLC
        aside_TBLC = None if moved_TBL2 is None else self._held(moved_TBL2)
        return *self._forget_logits(edge_TBLC), aside_TBLC

    def _neighbours(self, hidden_BLC: Tensor) -> Tensor:
        """What the gates see of the past: h, in a ConvLSTM that of a token's 3 x 3 neighbourhood
        (arXiv 1506.04214)."""
        if self.config.cell != "convlstm":
            return hidden_BLC
        side = math.isqrt(hidden_BLC.shape[1])
        grid_BCHW = hidden_BLC.transpose(1, 2).unflatten(2, (side, side))
        near_BCHW: Tensor = self.cell_near(grid_BCHW.to(self.cell_near.weight.dtype))
        return near_BCHW.flatten(2).transpose(1, 2)


def at_least_float32(x: Tensor) -> Tensor:
    """Float32 from bfloat16; float64 stays: memory and logits never live in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def not_none(x: Tensor | None) -> Tensor:
    """What a configuration that LCRConfig accepts has."""
    assert x is not None  # it refuses edges="none" where edges are needed
    return x
