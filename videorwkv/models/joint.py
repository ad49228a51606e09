"""Joint space-time attention in LCR's own body: `mixer="joint"`, which asks for `cell="none"`.

Each token of a frame attends to every token of its own and of all earlier frames (ViViT's model 1,
arXiv 2103.15691, causal in time as LCR is). Stems, gate, channel mixing, head and the mean of the
logits over frames are those of an LCR without memory, so that against `cell="none"` attention to
earlier frames is all that differs. Nothing encodes the time of a frame but the stem of two frames
and the time shift, so clips of any length run.

B batch, T frames, L tokens of a frame, C channels, H heads, D head width, N layers, S frames seen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from videorwkv.errors import ConfigError, UsageError
from videorwkv.models.config import LCRConfig
from videorwkv.models.layer import CrossRWKVLayer, Frames
from videorwkv.models.lcr import LCR
from videorwkv.models.masking import MotionMask
from videorwkv.models.shift import SpatialShift
from videorwkv.models.state import LCRState
from videorwkv.models.stems import RotaryEmbedding


class JointLCR(LCR):
    """An LCR whose tokens attend to those of all frames so far, in place of scan and memory.

    A state's `hidden_NBLC` and `memory_NBLC` are the keys and values of all frames seen,
    [N, B, L, S * C]: they grow with the clip, and a frame costs more than the one before. A single
    stream of a batch can't be reset; take a new state.

    Args:
        config: with `mixer="joint"` and `cell="none"`.

    Raises:
        ConfigError: another cell, a scan in one direction, or a spatial shift.
    """

    def __init__(self, config: LCRConfig) -> None:
        for name, needed in (
            ("cell", "none"), ("scan", "bidirectional"), ("spatial_shift", "none")
        ):  # fmt: skip
            if getattr(config, name) != needed:
                raise ConfigError(
                    f"LCRConfig: mixer='joint' looks back by attention alone; {name}="
                    f"{getattr(config, name)!r} does not go with it, choose {name}={needed!r}."
                )
        super().__init__(config)
        last = max(1, config.depth - 1)
        self.layers = nn.ModuleList(
            JointLayer(config, config.drop_path * i / last) for i in range(config.depth)
        )

    def enable_compile(self, mode: str = "default") -> None:
        """Refused: every frame would be another program."""
        raise UsageError("mixer='joint' can't be compiled: its shapes grow with every frame.")

    def for_inference(self, *, half: bool = False, compiled: bool = False) -> LCR:
        """Refused: this model exists for comparison only."""
        raise UsageError(
            "mixer='joint' exists for comparison only and has no inference form; use the model "
            "itself."
        )

    def _start(
        self,
        batch: int,
        height: int,
        width: int,
        keep_BK: Tensor | None,
        motion: MotionMask | None = None,
    ) -> LCRState:
        if motion is not None:
            raise UsageError(
                "mixer='joint' has no memory that a frame could leave as it is, so "
                "motion_mask_ratio must be 0; tube_mask_ratio works."
            )
        state = super()._start(batch, height, width, keep_BK)
        nothing = state.hidden_NBLC[..., :0]
        return JointState(*state._replace(hidden_NBLC=nothing, memory_NBLC=nothing))


class JointState(LCRState):
    """Keys and values of all frames so far, and what else an `LCRState` holds."""

    __slots__ = ()

    def reset(self, stream: int) -> LCRState:
        """Refused: its keys could be blanked, but every later frame would still attend to them."""
        raise UsageError(
            f"mixer='joint': stream {stream} of a batch can't be reset, as all its streams have "
            "seen equally many frames; take a new init_state for each stream."
        )


class JointLayer(CrossRWKVLayer):
    """A layer whose queries attend to the keys of all frames so far."""

    def __init__(self, config: LCRConfig, drop: float = 0.0) -> None:
        # To the layer it is softmax attention: only the keys and values are more.
        super().__init__(replace(config, mixer="softmax"), drop)

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
        little: None = None,
    ) -> tuple[Tensor, Frames, Frames, Tensor]:
        """As `CrossRWKVLayer.run`, with keys for h and values for c: [B, L, S * C] each."""
        num_frames = len(x_TBLC)
        if self.config.learn_edge_strength and edge_TBLC is not None:
            edge_TBLC = edge_TBLC * self.edge_strength.to(edge_TBLC.dtype)
        normed_TBLC = self.norm_gate(x_TBLC)
        before_TBLC = torch.cat([input_BLC[None].to(normed_TBLC.dtype), normed_TBLC[:-1]])
        key_value = cast(
            tuple[Tensor, Tensor],
            self._prepared(self._both(normed_TBLC, before_TBLC, edge_TBLC), rotary),
        )
        keys_BSLHD, values_BSLHD = (
            torch.cat([_by_frame(past_BLX, *new_TBLHD.shape[3:]), new_TBLHD.transpose(0, 1)], 1)
            for past_BLX, new_TBLHD in zip((hidden_BLC, memory_BLC), key_value, strict=True)
        )
        before = keys_BSLHD.shape[1] - num_frames
        rotaries = [None] * num_frames if rotary is None else rotary.frames(num_frames)
        outputs = []
        for t in range(num_frames):
            seen = slice(0, before + t + 1)
            key_value = keys_BSLHD[:, seen].flatten(1, 2), values_BSLHD[:, seen].flatten(1, 2)
            y_BLC, _, _ = self.frame(
                x_TBLC[t],
                (normed_TBLC[t],),
                key_value,
                hidden_BLC,  # no cell: neither forget gate nor past is read
                rotaries[t],
                kept_B11,
                None,
                hidden_BLC,
                memory_BLC,
            )
            outputs.append(y_BLC)
        keys_BLX, values_BLX = (x.transpose(1, 2).flatten(2) for x in (keys_BSLHD, values_BSLHD))
        return torch.stack(outputs), [keys_BLX], [values_BLX], normed_TBLC[-1]


def _by_frame(past_BLX: Tensor, heads: int, head_width: int) -> Tensor:
    """Keys or values of the frames seen: [B, L, S * C] -> [B, S, L, H, D]."""
    return past_BLX.unflatten(-1, (-1, heads, head_width)).transpose(1, 2)
