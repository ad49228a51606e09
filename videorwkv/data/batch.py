"""Samples -> a batch. B clips in a batch, V views, T frames, H height, W width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from videorwkv.data.dataset import BadClip, Sample
from videorwkv.preprocess.inputs import Inputs


class Batch(NamedTuple):
    """What a training step or an evaluation step takes. Clips that can't be read are left out.

    Args:
        inputs: frames [B, (V,) T, H, W, 3] and edges [B, (V,) T, H, W]; None if no clip is left.
        labels: int64 [B], -1 if unknown.
        indices: int64 [B], rows of the manifest.
        bad: the clips that can't be read.
        warnings: (row, message) of clips that were read all the same.
    """

    inputs: Inputs | None
    labels: Tensor
    indices: Tensor
    bad: tuple[BadClip, ...] = ()
    warnings: tuple[tuple[int, str], ...] = ()

    def pinned(self) -> Batch:
        """A copy in page-locked memory, from where a GPU fetches it faster."""
        inputs = self.inputs and Inputs(*(tensor.pin_memory() for tensor in self.inputs))
        return self._replace(
            inputs=inputs, labels=self.labels.pin_memory(), indices=self.indices.pin_memory()
        )


def collate(samples: Sequence[Sample | BadClip]) -> Batch:
    """Samples of one shape -> a batch."""
    good = [sample for sample in samples if isinstance(sample, Sample)]
    inputs = None
    if good:
        inputs = Inputs(
            torch.stack([sample.inputs.frames_BTHWC for sample in good]),
            torch.stack([sample.inputs.edges_BTHW for sample in good]),
        )
    return make_batch(
        inputs,
        [(sample.label, sample.index, sample.warnings) for sample in good],
        [sample for sample in samples if isinstance(sample, BadClip)],
    )


def make_batch(
    inputs: Inputs | None,
    about: Sequence[tuple[int, int, tuple[str, ...]]],
    bad: Sequence[BadClip],
) -> Batch:
    """A batch of inputs that lie together already.

    Args:
        inputs: of the clips that could be read.
        about: label, row and warnings of each of those.
        bad: the others.
    """
    return Batch(
        inputs,
        torch.tensor([label for label, _, _ in about], dtype=torch.int64),
        torch.tensor([index for _, index, _ in about], dtype=torch.int64),
        tuple(bad),
        tuple((index, text) for _, index, warnings in about for text in warnings),
    )
