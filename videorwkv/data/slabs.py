"""Memory for whole batches that forked processes share: each clip is written to its place in it.

B clips in a batch, V views, T frames, H height, W width.
"""

from __future__ import annotations

import math
import mmap
import weakref

import numpy as np
import torch

from videorwkv.preprocess.inputs import Inputs


class Slabs:
    """A fixed number of places for a batch, in memory without a name, so nothing can be left over.

    It counts neither against /dev/shm nor any other file system. Processes have to be forked after
    it is made. Pages take memory from their first use on.

    Args:
        filled: how many batches are filled at a time; there are always so many places for them.
        lent: how many more may be in the user's hands.
        batch_size: B.
        sample_shape: [(V,) T, H, W] of a clip's edge maps.
    """

    def __init__(
        self, *, filled: int, lent: int, batch_size: int, sample_shape: tuple[int, ...]
    ) -> None:
        count = filled + lent
        self._shape = sample_shape
        self._pixels = math.prod(sample_shape)
        self._batch_size = batch_size
        self._memory = [mmap.mmap(-1, 4 * batch_size * self._pixels) for _ in range(count)]
        self._free = list(range(count))
        self._most_lent = lent
        # How many tensors of the user still lie in each.
        self._loans = [0] * count

    def take(self) -> int:
        """A free slab for a batch; there must be one."""
        return self._free.pop()

    def write(self, slab: int, place: int, inputs: Inputs) -> None:
        """A clip's inputs [(V,) T, H, W, (3)] to its place; in a worker."""
        for tensor, (shape, offset) in zip(inputs, self._layout(), strict=True):
            if tuple(tensor.shape) != shape:
                raise ValueError(f"A sample has shape {tuple(tensor.shape)}; wanted {shape}.")
            size = math.prod(shape)
            target = np.frombuffer(self._memory[slab], np.uint8, size, offset + place * size)
            np.copyto(target.reshape(shape), tensor.numpy())

    def give(self, slab: int, places: list[int]) -> Inputs | None:
        """The clips at `places` as a batch; None without one. The slab is free again as soon as the
        last tensor in it is gone; or at once where they are copied out, as they are if the user
        holds many batches already.

        Args:
            slab: which one.
            places: in ascending order.
        """
        if not places:
            self._free.append(slab)
            return None
        arrays = [
            np.frombuffer(self._memory[slab], np.uint8, (places[-1] + 1) * math.prod(shape), offset)
            for shape, offset in self._layout()
        ]
        frames, edges = (
            torch.from_numpy(array).view(-1, *shape)
            for array, (shape, _) in zip(arrays, self._layout(), strict=True)
        )
        full = sum(map(bool, self._loans)) >= self._most_lent
        # Clips with gaps between them are no tensor.
        if full or places[-1] >= len(places):
            self._free.append(slab)
            return Inputs(frames[places], edges[places])
        self._loans[slab] = len(arrays)
        for array in arrays:
            # A tensor's storage holds the array, and so does every view of it.
            finalizer = weakref.finalize(array, _give_back, slab, self._loans, self._free)
            finalizer.atexit = False
        return Inputs(frames, edges)

    def _layout(self) -> tuple[tuple[tuple[int, ...], int], ...]:
        """Shape of a clip and start in the slab, of frames and of edges."""
        return ((*self._shape, 3), 0), (self._shape, 3 * self._batch_size * self._pixels)


def _give_back(slab: int, loans: list[int], free: list[int]) -> None:
    loans[slab] -= 1
    if not loans[slab]:
        free.append(slab)
