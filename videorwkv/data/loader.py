"""Samples -> batches, in worker processes if asked for.

B clips in a batch, V views, T frames, H height, W width.
"""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videorwkv.data.dataset import BadClip, ClipDataset, Sample
from videorwkv.data.guard import Guard
from videorwkv.data.shards.store import POOL
from videorwkv.errors import ConfigError, DataError
from videorwkv.preprocess.inputs import Inputs
from videorwkv.utils.words import counted

# Seconds. Far more than reading a clip takes; only hours of HD video, stored in a cache, need more.
CLIP_TIMEOUT = 300.0

# Keeps the order's generator apart from those of the clips.
_ORDER = 0x0DE5


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
    return Batch(
        inputs,
        torch.tensor([sample.label for sample in good], dtype=torch.int64),
        torch.tensor([sample.index for sample in good], dtype=torch.int64),
        tuple(sample for sample in samples if isinstance(sample, BadClip)),
        tuple((sample.index, text) for sample in good for text in sample.warnings),
    )


class Loader:
    """Batches of `dataset`; their order and content are a pure function of (seed, epoch).

    Iterating gives the batches of the current epoch, the first being 0, from its start batch on;
    `at` moves to another place (exact resume); a new iteration ends the one before. Worker
    processes live as long as the loader, unless an iteration is left in the middle. A batch stays
    valid as long as it is held. Nothing is taken from the global random generators.

    Args:
        dataset: the clips.
        batch_size: clips in a batch, the bad ones counted.
        shuffle: a new random order in every epoch; else the manifest's order. Of shards that lie
            elsewhere, a random order of the shards, in which the clips of some are mixed.
        seed: of the order; None takes the data set's.
        workers: processes that decode and augment; 0 does it here, where a decoder that crashes
            ends the program; so does a daemonic process, which may start none. They are forked on
            Linux, unless `multiprocessing.set_start_method` says otherwise.
        drop_last: leave out a last batch that is not full.
        endless: go on into the epochs that follow, so that workers never wait between two epochs.
        pin_memory: page-locked tensors, for faster copies to a GPU.
        clip_timeout: seconds after which a worker that is still at a clip is ended, and the clip
            bad; 0 or None waits forever. Only with workers.
        lost: `Row.name` -> reason, of clips whose decoder has crashed or hung: they are bad without
            being tried again. Those that are met are added; None begins with none.
        part: (number, how many): of each batch, read this part alone, as one of many processes that
            share it; parts differ by one clip at most.
        pieces: cut each batch into so many before it is shared; they come one after the other.

    Raises:
        ConfigError: a number out of range.
        DataError: `drop_last` would leave nothing; or, while iterating, see `ClipDataset`.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        *,
        batch_size: int,
        shuffle: bool = False,
        seed: int | None = None,
        workers: int = 0,
        drop_last: bool = False,
        endless: bool = False,
        pin_memory: bool = False,
        clip_timeout: float | None = CLIP_TIMEOUT,
        lost: dict[str, str] | None = None,
        part: tuple[int, int] = (0, 1),
        pieces: int = 1,
    ) -> None:
        if batch_size < 1 or workers < 0 or not (clip_timeout or 0) >= 0:
            raise ConfigError(
                f"Loader: batch_size ({batch_size}) must be at least 1, workers ({workers}) and "
                f"clip_timeout ({clip_timeout}) 0 or more."
            )
        if pin_memory and not torch.cuda.is_available():
            raise ConfigError("Loader: pin_memory is for a GPU, and PyTorch finds none here.")
        if drop_last and len(dataset) < batch_size:
            raise DataError(
                f"{dataset.manifest.name}: {counted(len(dataset), 'clip')} can't give a full "
                f"batch of {batch_size}. Take a smaller batch size or more clips."
            )
        self.dataset = dataset
        seed = dataset.seed if seed is None else seed
        self._keys = _Keys(
            len(dataset),
            batch_size,
            seed,
            shuffle,
            drop_last,
            endless,
            part,
            pieces,
            _shard_numbers(dataset),
        )
        self._pin = pin_memory
        self._guard = None
        if workers:
            self._guard = Guard(
                dataset,
                batch_size=-(-batch_size // part[1]),
                workers=workers,
                timeout=clip_timeout or None,
                lost={} if lost is None else lost,
            )

    @property
    def batches_per_epoch(self) -> int:
        """Batches of a whole epoch."""
        return self._keys.per_epoch

    def at(self, epoch: int, start_batch: int = 0) -> Loader:
        """This loader, moved to a batch of an epoch; the next iteration starts there."""
        self._keys.epoch, self._keys.start_batch = epoch, start_batch
        return self

    def __len__(self) -> int:
        """Batches from the start batch to the end of the current epoch."""
        return len(self._keys)

    def __iter__(self) -> Iterator[Batch]:
        guard = self._guard
        if guard is not None and multiprocessing.current_process().daemon:
            warnings.warn(
                "A daemonic process (of a multiprocessing.Pool, or a task of Celery) may start no "
                "processes, so clips are read without workers.",
                RuntimeWarning,
                stacklevel=2,
            )
            guard = None
        if guard is not None:
            batches = (collate(samples) for samples in guard.read(self._keys))
        else:
            batches = (collate([self.dataset[key] for key in keys]) for keys in self._keys)
        return (batch.pinned() for batch in batches) if self._pin else batches

    def close(self) -> None:
        """End the worker processes; the next iteration would start new ones."""
        if self._guard is not None:
            self._guard.close()


make_loader = Loader  # the name that code outside uses


class _Keys:
    """Batch sampler: lists of (epoch, index)."""

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        shuffle: bool,
        drop_last: bool,
        endless: bool,
        part: tuple[int, int],
        pieces: int,
        shard_N: NDArray[np.int64] | None = None,
    ) -> None:
        self.shard_N = shard_N
        self.part, self.pieces = part, pieces
        self.count, self.batch_size, self.seed, self.shuffle = count, batch_size, seed, shuffle
        self.endless = endless
        self.per_epoch = count // batch_size if drop_last else -(-count // batch_size)
        self.epoch = self.start_batch = 0

    def order(self, epoch: int) -> list[int]:
        if not self.shuffle:
            return list(range(self.count))
        rng = np.random.default_rng([self.seed, epoch, _ORDER])
        if self.shard_N is not None:
            return _by_shard(self.shard_N, rng).tolist()
        return rng.permutation(self.count).tolist()

    def __len__(self) -> int:
        return max(0, self.per_epoch - self.start_batch)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, start = self.epoch, self.start_batch
        while True:
            order = self.order(epoch)
            for number in range(start, self.per_epoch):
                batch = order[number * self.batch_size : (number + 1) * self.batch_size]
                for piece in range(self.pieces):
                    share = _cut(_cut(batch, piece, self.pieces), *self.part)
                    yield [(epoch, index) for index in share]
            if not self.endless:
                return
            epoch, start = epoch + 1, 0


def _shard_numbers(dataset: ClipDataset) -> NDArray[np.int64] | None:
    """The shard of each index, int64 [N], where shards are fetched as they are wanted."""
    shards = dataset.manifest.shards
    if shards is None or shards.store is None:
        return None
    return np.array([shards.number(dataset.locate(i)[1].path) for i in range(len(dataset))])


def _by_shard(shard_N: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices in a random order of the shards, in which the clips of `POOL` shards are mixed."""
    order = rng.permutation(np.unique(shard_N))
    place_N = np.argsort(order)[np.searchsorted(np.sort(order), shard_N)] // POOL
    shuffled = rng.permutation(len(shard_N))
    return shuffled[np.argsort(place_N[shuffled], kind="stable")]


def _cut(clips: list[int], number: int, count: int) -> list[int]:
    """One of `count` successive parts, as equal as they can be."""
    return clips[len(clips) * number // count : len(clips) * (number + 1) // count]
