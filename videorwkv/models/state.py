"""What a stream remembers between two frames.

B batch, L tokens of a frame, C channels, N layers, K classes; in `keep_BK`, K patches kept; in
`features_BLI`, L patches and I channels of the stem.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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

    @classmethod
    def join(cls, states: Sequence[LCRState]) -> LCRState:
        """The streams of several states side by side, in order; all under one kind of mask.

        Raises:
            UsageError: no state, or states of different models, sizes or masks.
        """
        if len({_kind(state) for state in states}) != 1:
            raise UsageError(
                f"LCRState.join: got {len(states)} states of different models, sizes or masks; "
                "wanted: one or more that one model made for frames of one size."
            )
        dicts = [state.to_dict() for state in states]
        return states[0]._with(
            {name: torch.cat([one[name] for one in dicts], _AXES.get(name, 0)) for name in dicts[0]}
        )

    def select(self, streams: Sequence[int]) -> LCRState:
        """The state of some of the streams, in that order; one may come twice."""
        index = torch.tensor(streams, device=self.seen_B.device)
        tensors = self.to_dict().items()
        return self._with({name: x.index_select(_AXES.get(name, 0), index) for name, x in tensors})

    def put(self, streams: Sequence[int], part: LCRState) -> LCRState:
        """The same state with those of `part` in the place of some streams, each named once."""
        index = torch.tensor(streams, device=self.seen_B.device)
        others = part.to_dict()
        return self._with(
            {
                name: x.index_copy(_AXES.get(name, 0), index, others[name])
                for name, x in self.to_dict().items()
            }
        )

    def to_dict(self) -> dict[str, Tensor]:
        """Its tensors by name: all that `from_dict` needs to make it again."""
        named = {name: x for name, x in zip(self._fields, self, strict=True) if name != "motion"}
        if self.motion is not None:
            named |= {f"motion.{name}": getattr(self.motion, name) for name in _MOTION}
        return {name: x for name, x in named.items() if isinstance(x, Tensor)}

    def from_dict(self, tensors: Mapping[str, Tensor]) -> LCRState:
        """The state that `to_dict` of one like this one gave; this one is that before a stream's
        first frame, from the same model and under the same masks (`init_state`).

        Raises:
            UsageError: tensors of a state of another kind, or values that are not finite.
        """
        own = self.to_dict()
        kinds = [
            {name: (tuple(x.shape), x.dtype) for name, x in named.items()}
            for named in (own, tensors)
        ]
        if kinds[0] != kinds[1]:
            names = sorted(
                name for name in kinds[0].keys() | kinds[1].keys()
                if kinds[0].get(name) != kinds[1].get(name)
            )  # fmt: skip
            raise UsageError(
                f"LCRState.from_dict: {names[0]!r} is {kinds[1].get(names[0], 'missing')}; the "
                f"model's is {kinds[0].get(names[0], 'not there')}. A state fits the model and the "
                "masks that it was made with."
            )
        bad = [name for name, x in tensors.items() if not torch.isfinite(x).all()]
        if bad:
            raise UsageError(f"LCRState.from_dict: {bad[0]!r} holds NaN or infinity.")
        return self._with({name: x.to(own[name].device) for name, x in tensors.items()})

    def _with(self, tensors: Mapping[str, Tensor]) -> LCRState:
        """The same with other tensors of the same names."""
        own = {name: x for name, x in tensors.items() if "." not in name}
        motion = self.motion
        if motion is not None:
            own_motion: dict[str, Any] = {name: tensors[f"motion.{name}"] for name in _MOTION}
            motion = motion._replace(**own_motion)
        return self._replace(motion=motion, **own)


# Where the streams of a tensor lie; elsewhere first.
_AXES = {"hidden_NBLC": 1, "memory_NBLC": 1, "input_NBLC": 1}
# What a motion mask remembers of each stream; the rest of it is the same for all.
_MOTION = ("pixels_BLX", "edges_BLX", "motion_BL", "count_BL")


def _kind(state: LCRState) -> tuple[object, ...]:
    """The same for states that may lie side by side."""
    shapes = []
    for name, x in state.to_dict().items():
        shape = list(x.shape)
        shape.pop(_AXES.get(name, 0))
        shapes.append((name, tuple(shape), x.dtype, x.device))
    return (*shapes, None if state.motion is None else state.motion.budget)


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
