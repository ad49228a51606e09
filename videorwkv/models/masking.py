"""Which tokens of a frame are computed: tube masking and motion masking.

Tube masking leaves the same patches out of every frame of a clip (VideoMAE's tube). Motion masking
computes, in each frame, those that changed most since they were last computed; the memory of the
others stays.

B batch, T frames, F = T * B, L patches, J those that are computed, P patch size, C channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from videorwkv.errors import UsageError
from videorwkv.models.inputs import Inputs


def tube_mask(
    num_patches: int,
    ratio: float,
    batch_size: int,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Which patches stay: sorted indices, int64 [batch_size, kept], one draw a clip.

    Args:
        num_patches: patches of a frame, without `[CLS]`.
        ratio: share of the patches to leave out, in [0, 1); at least one patch stays.
        batch_size: number of clips.
        generator: source of randomness; PyTorch's own if None.
    """
    if not 0 <= ratio < 1:
        raise UsageError(f"tube_mask: ratio ({ratio}) must lie in [0, 1).")
    kept = max(1, round(num_patches * (1 - ratio)))
    noise = torch.rand(batch_size, num_patches, generator=generator)
    # Sorted, because the scan's decay goes by distance in raster order.
    return noise.argsort(dim=1)[:, :kept].sort(dim=1).values.to(device)


def take(x_FLC: Tensor, index_FJ: Tensor) -> Tensor:
    """Gather tokens, [F, L, C] -> [F, J, C]; one list of B serves F = T * B frames alike."""
    num, length = x_FLC.shape[:2]
    if num > 1:
        start_F1 = torch.arange(num, device=index_FJ.device)[:, None] * length
        index_FJ = index_FJ.repeat(num // len(index_FJ), 1) + start_F1
    # Whole rows: faster than `gather`, which looks at every element.
    return x_FLC.flatten(0, 1).index_select(0, index_FJ.flatten()).unflatten(0, (num, -1))


def put(x_BLC: Tensor, index_BJ: Tensor, new_BJC: Tensor) -> Tensor:
    """`x_BLC` with some tokens replaced: the counterpart of `take`."""
    batch, length = x_BLC.shape[:2]
    start_B1 = torch.arange(batch, device=index_BJ.device)[:, None] * length
    rows = (index_BJ + start_B1).flatten()
    return x_BLC.flatten(0, 1).index_copy(0, rows, new_BJC.flatten(0, 1)).view_as(x_BLC)


def patches(x_FHWI: Tensor, patch_size: int) -> Tensor:
    """Cut images into their patches, row after row: [F, H, W, I] -> [F, L, P * P * I]."""
    p = patch_size
    num, height, width, channels = x_FHWI.shape
    x = x_FHWI.reshape(num, height // p, p, width // p, p, channels).transpose(2, 3)
    return x.flatten(3).flatten(1, 2)


class Watch(NamedTuple):
    """What motion masking compares a frame with. A value, like the state that it is part of.

    Args:
        pixels_BLX: each patch as it was when it was last computed, uint8, [B, L, P * P * 3].
        edges_BLX: its edges then, uint8, [B, L, P * P]; none before the first time.
        seen_BL: whether it was ever computed.
        budget: J, how many patches a frame computes.
    """

    pixels_BLX: Tensor
    edges_BLX: Tensor
    seen_BL: Tensor
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
    ) -> Watch:
        """Before the first frame, when nothing was computed yet.

        Args:
            batch_size: number of streams.
            num_patches: patches of a frame.
            patch_size: P.
            ratio: share of the patches that a frame leaves out, in [0, 1); one at least is left.
            device: where the frames will be.
        """
        if not 0 <= ratio < 1:
            raise UsageError(f"Motion mask: ratio ({ratio}) must lie in [0, 1).")
        shape = (batch_size, num_patches, patch_size**2)
        return cls(
            torch.zeros(*shape[:2], 3 * shape[2], dtype=torch.uint8, device=device),
            torch.zeros(shape, dtype=torch.uint8, device=device),
            torch.zeros(shape[:2], dtype=torch.bool, device=device),
            max(1, round(num_patches * (1 - ratio))),
        )

    def reset(self, index: Tensor) -> Watch:
        """The same with some streams of the batch at their start again."""
        return Watch(
            self.pixels_BLX.index_fill(0, index, 0),
            self.edges_BLX.index_fill(0, index, 0),
            self.seen_BL.index_fill(0, index, 0),
            self.budget,
        )

    def choose(self, inputs: Inputs, patch_size: int) -> tuple[Tensor, Tensor, Watch]:
        """The patches to compute in each frame, sorted, int64 [T, B, J]; the share of the patches
        that were computed at least once by then, [T, B]; and what follows.

        Those with the largest change, the mean over pixels plus the mean over edges, since they
        were last computed: what has to wait goes on to differ, and so comes to its turn. A patch
        that was never computed counts by its edges alone, so a still ground without texture may
        never be.
        """
        pixels_TBLX, edges_TBLX = (
            patches(x.transpose(0, 1).flatten(0, 1), patch_size).unflatten(0, (-1, len(x)))
            for x in (inputs.frames_BTHWC, inputs.edges_BTHW[..., None])
        )
        last_pixels, last_edges, seen_BL, _ = self
        keeps, shares = [], []
        for pixels_BLX, edges_BLX in zip(pixels_TBLX, edges_TBLX, strict=True):
            change_BL = _distance(pixels_BLX, last_pixels) * seen_BL
            change_BL += _distance(edges_BLX, last_edges)
            # Stable: among equals the first, whatever the machine.
            order_BL = change_BL.argsort(dim=1, descending=True, stable=True)
            keep_BJ = order_BL[:, : self.budget].sort(1).values
            keeps.append(keep_BJ)
            last_pixels = put(last_pixels, keep_BJ, take(pixels_BLX, keep_BJ))
            last_edges = put(last_edges, keep_BJ, take(edges_BLX, keep_BJ))
            seen_BL = seen_BL.scatter(1, keep_BJ, True)
            shares.append(seen_BL.float().mean(1))
        watch = Watch(last_pixels, last_edges, seen_BL, self.budget)
        return torch.stack(keeps), torch.stack(shares), watch


def _distance(a_BLX: Tensor, b_BLX: Tensor) -> Tensor:
    """Mean absolute difference of each patch, [B, L]."""
    return (a_BLX.float() - b_BLX.float()).abs().mean(-1)
