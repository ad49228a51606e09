"""What a stream remembers between two frames.

B batch, L tokens of a frame, C channels, N layers, K classes; in `keep_BK`, K patches kept.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from videorwkv.models.masking import Watch


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
