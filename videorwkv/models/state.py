"""What a stream remembers between two frames.

B batch, L tokens of a frame, C channels, N layers, K classes; in `keep_BK`, K patches kept; in
`features_BLI`, L patches and I channels of the stem.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from videorwkv.errors import UsageError
from videorwkv.models.config import LCRConfig
from videorwkv.models.masking import MotionMask
from videorwkv.preprocess.inputs import check_size


class LCRState(NamedTuple):
    """All that a stream remembers. A value: passed in, returned, stored nowhere. Zero at the start.

    Args:
        hidden_NBLC: h of each layer, float32.
        memory_NBLC: c of each layer, float32.
        input_NBLC: normed input of each layer at the last frame, float32, for the time shift.
        pixels_BHWC: the last frame, uint8, for a stem of two frames; for one of one, an image
            without colours, C = 0.
        features_BLI: features of a pretrained stem at the last frame, all patches, float32, for one
            of two frames; else without channels, I = 0.
        keep_BK: patches that tube masking keeps, the same in every frame; None: all.
        motion: under motion masking, what a frame is compared with; None without.
        votes_BK: sum of the logits so far, float32; only `cell="none"` averages over frames.
        seen_B: frames seen, int64.
    """

    hidden_NBLC: Tensor
    memory_NBLC: Tensor
    input_NBLC: Tensor
    pixels_BHWC: Tensor
    features_BLI: Tensor
    keep_BK: Tensor | None
    motion: MotionMask | None
    votes_BK: Tensor
    seen_B: Tensor

    @classmethod
    def start(
        cls,
        config: LCRConfig,
        batch_size: int,
        height: int,
        width: int,
        keep_BK: Tensor | None,
        motion: MotionMask | None,
        *,
        like: Tensor,
        stem_channels: int = 0,
    ) -> LCRState:
        """The state before the first frame.

        Args:
            config: of the model.
            batch_size: streams side by side.
            height: of the frames to come, in pixels.
            width: of the frames to come, in pixels.
            keep_BK: see the class.
            motion: see the class.
            like: a weight of the model, for device and type.
            stem_channels: of the features of a pretrained stem that are remembered.

        Raises:
            UsageError: a mask or frames that the cell can't be used with; a size that patches don't
                divide; weights in half precision.
        """
        check_size(height, width, config.patch_size)
        if like.dtype not in (torch.float32, torch.float64):
            raise UsageError(
                f"LCR: the weights are {like.dtype}; float32 or float64 is wanted. Half precision "
                "comes from model.float().for_inference(half=True), or from torch.autocast."
            )
        rows, columns = height // config.patch_size, width // config.patch_size
        masked = keep_BK is not None or motion is not None
        require_grid(config, rows, columns, masked=masked)
        num_patches = rows * columns
        tokens = state_tokens(config, num_patches, keep_BK)
        dtype = like.dtype
        shape = (config.depth, batch_size, tokens, config.width)
        colours = 3 if config.stem_frames == 2 else 0
        return cls(
            # Not one tensor for all three: compiled programs would depend on that.
            torch.zeros(shape, device=like.device, dtype=dtype),
            torch.zeros(shape, device=like.device, dtype=dtype),
            torch.zeros(shape, device=like.device, dtype=dtype),
            torch.zeros(batch_size, height, width, colours, device=like.device, dtype=torch.uint8),
            torch.zeros(batch_size, num_patches, stem_channels, device=like.device, dtype=dtype),
            keep_BK,
            motion,
            torch.zeros(batch_size, config.num_classes, device=like.device, dtype=dtype),
            torch.zeros(batch_size, dtype=torch.int64, device=like.device),
        )

    def reset(self, stream: int) -> LCRState:
        """The same state with one stream of the batch at its start again."""
        index = torch.tensor([stream], device=self.seen_B.device)
        return LCRState(
            # Filled, not multiplied by zero: a stream is also reset because it went bad (NaN).
            self.hidden_NBLC.index_fill(1, index, 0.0),
            self.memory_NBLC.index_fill(1, index, 0.0),
            self.input_NBLC.index_fill(1, index, 0.0),
            self.pixels_BHWC,  # not read before a stream's second frame
            self.features_BLI.index_fill(0, index, 0.0),
            self.keep_BK,
            None if self.motion is None else self.motion.reset(index),
            self.votes_BK.index_fill(0, index, 0.0),
            self.seen_B.index_fill(0, index, 0),
        )


def check_state(state: LCRState, batch: int, tokens: int, height: int, width: int) -> None:
    """`UsageError` unless the state is for that many streams and tokens, of frames of that size."""
    own = state.hidden_NBLC.shape[1:3], state.pixels_BHWC.shape[1:3]
    if own != ((batch, tokens), (height, width)):
        raise UsageError(
            f"LCR.scan: the state is for {list(own[0])} (streams, tokens) of frames of "
            f"{own[1][0]}x{own[1][1]}, the frames give {[batch, tokens]} of {height}x{width}: take "
            "init_state with their batch_size and image_size."
        )


def require_grid(config: LCRConfig, rows: int, columns: int, *, masked: bool) -> None:
    """`UsageError` if the cell looks at neighbours and there is no whole, square grid of them."""
    if config.cell == "convlstm" and (masked or rows != columns):
        what = "a mask was asked for" if masked else f"the frames have {rows}x{columns} patches"
        raise UsageError(
            f"cell='convlstm' looks at neighbours on a whole, square grid of patches; {what}: give "
            "square frames without a mask, or train with cell='lstm'."
        )


def state_tokens(config: LCRConfig, num_patches: int, keep_BK: Tensor | None) -> int:
    """L: the patches, or those that a tube mask keeps, and `[CLS]`, if there is one."""
    kept = num_patches if keep_BK is None else keep_BK.shape[1]
    return kept + (config.readout == "cls")
