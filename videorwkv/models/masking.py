"""Which tokens of a frame are computed: tube masking and motion masking.

Tube masking drops the same patches in every frame of a clip (VideoMAE's tube). Motion masking
computes, in each frame, the patches that changed most over the last frames; the others keep their
memory.

B batch, T frames, F = T * B, L patches, J those that are computed, P patch size, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from videorwkv.errors import UsageError
from videorwkv.preprocess.inputs import Inputs

# Chosen on the validation clips of `motion` and on HandWash's training sessions (LOG.md).
# Fraction of motion masking's budget that is the same in all frames, evenly spread over them.
TUBE_SHARE = 0.25
# What is left after a frame of the smoothed change, and of the count of a patch's computations.
MOTION_DECAY = 0.8
COUNT_DECAY = 0.9


@dataclass(frozen=True, kw_only=True)
class Masks:
    """Mask ratios, each in [0, 1); at most one is above 0.

    Args:
        tube_mask_ratio: random patches, dropped in all frames of a clip.
        motion_mask_ratio: the patches whose pixels changed least over the last frames; each frame
            skips its own.

    Raises:
        UsageError: a ratio outside its range, or both.
    """

    tube_mask_ratio: float = 0.0
    motion_mask_ratio: float = 0.0

    def __post_init__(self) -> None:
        for name, ratio in self.ratios.items():
            if not 0 <= ratio < 1:
                raise UsageError(
                    f"{name} is {ratio}; it must lie in [0, 1): the fraction of the patches to "
                    "mask, such as 0.5."
                )
        if self.tube_mask_ratio and self.motion_mask_ratio:
            raise UsageError(
                f"tube_mask_ratio ({self.tube_mask_ratio}) and motion_mask_ratio "
                f"({self.motion_mask_ratio}) exclude each other; give one of them."
            )

    @property
    def ratios(self) -> dict[str, float]:
        """Both ratios by name."""
        return {
            "tube_mask_ratio": self.tube_mask_ratio,
            "motion_mask_ratio": self.motion_mask_ratio,
        }

    @property
    def given(self) -> dict[str, Any]:
        """Those above 0, as arguments of `init_state`; an exported file's takes no motion mask."""
        return {name: ratio for name, ratio in self.ratios.items() if ratio}

    def start(self, model: Any, inputs: Inputs, generator: torch.Generator) -> Any:
        """The state before the first frame of `inputs`; None where nothing is masked.

        Args:
            model: one whose `resolve_masks` has seen these masks.
            inputs: clips, frames [B, T, H, W, 3].
            generator: source of the tube masks.
        """
        if not self.given:
            return None
        batch, _, *size = inputs.frames_BTHWC.shape[:4]
        return model.init_state(batch, image_size=tuple(size), generator=generator, **self.given)


NO_MASKS = Masks()


class Share(NamedTuple):
    """Which clips of a larger batch these are, in training on several processes: what is drawn at
    random is drawn for all of its clips, so that it does not depend on who computes them.

    Args:
        first: clips of the batch before these.
        total: clips of the batch.
    """

    first: int
    total: int

    def of(self, drawn_B: Tensor, count: int) -> Tensor:
        """The rows of these `count` clips."""
        return drawn_B[self.first : self.first + count]


def tube_mask(
    num_patches: int,
    ratio: float,
    batch_size: int,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Which patches stay: sorted indices, int64 [batch_size, kept], one draw a clip.

    One patch of each of `kept` even runs in raster order: no part of the frame goes unseen, and
    more accuracy stays than with a draw from all patches alike (LOG.md).

    Args:
        num_patches: patches of a frame, without `[CLS]`.
        ratio: fraction of the patches to drop, in [0, 1); at least one patch stays.
        batch_size: number of clips.
        generator: source of randomness; PyTorch's own if None.
    """
    kept = max(1, round(num_patches * (1 - ratio)))
    # In raster order, because the scan's decay goes by distance in it.
    place_BK = torch.rand(batch_size, kept, generator=generator)
    return _one_of_each_run(num_patches, place_BK).to(device)


def check_kept(keep_BK: Tensor, num_patches: int, batch_size: int) -> None:
    """`UsageError` unless these are the patches that stay, as `tube_mask` would give them."""
    fits = keep_BK.dtype == torch.int64 and keep_BK.ndim == 2 and len(keep_BK) == batch_size
    if not fits or not keep_BK.shape[1]:
        raise UsageError(
            f"keep_BK: got {keep_BK.dtype} {list(keep_BK.shape)}; int64 [{batch_size}, kept] is "
            "wanted, numbers of one patch or more for each clip."
        )
    low, high = int(keep_BK.min()), int(keep_BK.max())
    if low < 0 or high >= num_patches or not bool((keep_BK.diff(dim=1) > 0).all()):
        raise UsageError(
            f"keep_BK: numbers {low} to {high}; they must rise from patch to patch and lie in 0 to "
            f"{num_patches - 1}: keep_BK.sort(1).values, each of them once."
        )


def take(x_FLC: Tensor, index_FJ: Tensor) -> Tensor:
    """Gather tokens, [F, L, C] -> [F, J, C]; one list of B serves F = T * B frames alike."""
    num, length = x_FLC.shape[:2]
    if num > 1:
        start_F1 = torch.arange(num, device=index_FJ.device)[:, None] * length
        index_FJ = index_FJ.repeat(num // len(index_FJ), 1) + start_F1
    # Whole rows: faster than `gather`, which looks at every element.
    return x_FLC.flatten(0, 1).index_select(0, index_FJ.flatten()).unflatten(0, (num, -1))


def put(x_BLC: Tensor, index_BJ: Tensor, new_BJC: Tensor) -> Tensor:
    """A copy of `x_BLC` with some tokens replaced: the counterpart of `take`."""
    batch, length = x_BLC.shape[:2]
    if batch > 1:
        index_BJ = index_BJ + torch.arange(batch, device=index_BJ.device)[:, None] * length
    rows, new = index_BJ.flatten(), new_BJC.flatten(0, 1)
    return x_BLC.flatten(0, 1).index_copy(0, rows, new).view_as(x_BLC)


def patches(x_FHWI: Tensor, patch_size: int) -> Tensor:
    """Cut images into their patches, row after row: [F, H, W, I] -> [F, L, P * P * I]."""
    p = patch_size
    num, height, width, channels = x_FHWI.shape
    x = x_FHWI.reshape(num, height // p, p, width // p, p, channels).transpose(2, 3)
    return x.flatten(3).flatten(1, 2)


class MotionMask(NamedTuple):
    """What motion masking remembers of the frames so far. A value, part of the state.

    Args:
        pixels_BLX: the patches of the last frame, uint8, [B, L, P * P * 3].
        edges_BLX: their edges, uint8, [B, L, P * P].
        motion_BL: how much each patch has changed recently, float32.
        count_BL: in how many frames each patch was computed, old frames counting less, float32.
        tube_L: patches that are computed in every frame, bool.
        budget: J, how many patches a frame computes.
    """

    pixels_BLX: Tensor
    edges_BLX: Tensor
    motion_BL: Tensor
    count_BL: Tensor
    tube_L: Tensor
    budget: int

    @classmethod
    def start(
        cls,
        batch_size: int,
        num_patches: int,
        patch_size: int,
        ratio: float,
        *,
        device: torch.device | str = "cpu",
    ) -> MotionMask:
        """Before the first frame, when nothing was computed yet.

        Args:
            batch_size: number of streams.
            num_patches: patches of a frame.
            patch_size: P.
            ratio: fraction of the patches that a frame skips, in [0, 1); at least one is computed.
            device: where the frames will be.
        """
        shape = (batch_size, num_patches, patch_size**2)
        budget = max(1, round(num_patches * (1 - ratio)))
        tube_L = torch.zeros(num_patches, dtype=torch.bool, device=device)
        # Steps of the golden ratio: seldom the same column twice in a row, the same every time.
        place_K = torch.arange(1, round(TUBE_SHARE * budget) + 1) * 0.6180339887 % 1
        tube_L[_one_of_each_run(num_patches, place_K)] = True
        return cls(
            torch.zeros(*shape[:2], 3 * shape[2], dtype=torch.uint8, device=device),
            torch.zeros(shape, dtype=torch.uint8, device=device),
            torch.zeros(shape[:2], device=device),
            torch.zeros(shape[:2], device=device),
            tube_L,
            budget,
        )

    def reset(self, index: Tensor) -> MotionMask:
        """The same with some streams of the batch at their start again."""
        return MotionMask(
            self.pixels_BLX.index_fill(0, index, 0),
            self.edges_BLX.index_fill(0, index, 0),
            self.motion_BL.index_fill(0, index, 0.0),
            self.count_BL.index_fill(0, index, 0.0),
            self.tube_L,
            self.budget,
        )

    def choose(self, inputs: Inputs, patch_size: int) -> tuple[Tensor, Tensor, MotionMask]:
        """The patches to compute in each frame, sorted, int64 [T, B, J]; how much every patch
        counts in the mean over a frame, adding up to 1, float32 [T, B, L]; and what follows.

        A quarter of the budget is a fixed grid of patches, so that the whole picture is always
        covered. The rest goes where most has changed recently: the mean change of the pixels plus
        that of the edges from frame to frame, smoothed over some frames, because a token that is
        skipped at times has gaps in its memory, and over the neighbours, because a moving object
        is recognised by its surroundings. In a stream's first frame it goes to the edges.

        A patch counts as often as it was computed: the memory of one that was computed but once
        has hardly begun to fill.
        """
        pixels_TBLX, edges_TBLX = (
            patches(x.transpose(0, 1).flatten(0, 1), patch_size).unflatten(0, (-1, len(x)))
            for x in (inputs.frames_BTHWC, inputs.edges_BTHW[..., None])
        )
        columns = inputs.edges_BTHW.shape[3] // patch_size
        last_pixels, last_edges, motion_BL, count_BL, tube_L, budget = self
        keeps, weights = [], []
        for pixels_BLX, edges_BLX in zip(pixels_TBLX, edges_TBLX, strict=True):
            started_B1 = count_BL.any(1, keepdim=True)
            change_BL = _distance(pixels_BLX, last_pixels) * started_B1
            change_BL += _distance(edges_BLX, last_edges)
            motion_BL = torch.lerp(
                change_BL, motion_BL, MOTION_DECAY * started_B1.to(motion_BL.dtype)
            )
            # Stable: among equals the first, whatever the machine.
            worth_BL = _around(motion_BL, columns) + 1e-3 * motion_BL  # first the one in the middle
            worth_BL = worth_BL.masked_fill(tube_L, torch.inf)
            order_BL = worth_BL.argsort(dim=1, descending=True, stable=True)
            keep_BJ = order_BL[:, :budget].sort(1).values
            keeps.append(keep_BJ)
            count_BL = (count_BL * COUNT_DECAY).scatter_add(
                1, keep_BJ, torch.ones_like(keep_BJ, dtype=count_BL.dtype)
            )
            weights.append(count_BL / count_BL.sum(1, keepdim=True))
            last_pixels, last_edges = pixels_BLX, edges_BLX
        motion = MotionMask(last_pixels, last_edges, motion_BL, count_BL, tube_L, budget)
        return torch.stack(keeps), torch.stack(weights), motion


def _one_of_each_run(num_patches: int, place_XK: Tensor) -> Tensor:
    """Cut the patches into K even runs; in each, the one at that place of [0, 1): [..., K]."""
    count = max(1, place_XK.shape[-1])
    edge_E = torch.arange(place_XK.shape[-1] + 1) * num_patches // count
    return edge_E[:-1] + (place_XK * edge_E.diff()).long()


def _around(x_BL: Tensor, columns: int) -> Tensor:
    """The mean of the 3 x 3 patches around each; the border repeats outwards."""
    x_B1RC = x_BL.unflatten(1, (1, -1, columns))
    return F.avg_pool2d(F.pad(x_B1RC, (1, 1, 1, 1), mode="replicate"), 3, 1).flatten(1)


def _distance(a_BLX: Tensor, b_BLX: Tensor) -> Tensor:
    """Mean absolute difference of each patch, [B, L]."""
    return (a_BLX.float() - b_BLX.float()).abs().mean(-1)
