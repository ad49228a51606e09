"""Samples -> batches, in worker processes if asked for.

B clips in a batch, V views, T frames, H height, W width.
"""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import tee
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from videorwkv.data.dataset import BadClip, ClipDataset, Sample
from videorwkv.data.guard import Guard
from videorwkv.data.mixing import Mix, Mixing
from videorwkv.data.order import Key, Keys, Order
from videorwkv.errors import ConfigError, DataError
from videorwkv.preprocess.inputs import Inputs
from videorwkv.utils.words import counted

# Seconds. Far more than reading a clip takes; only hours of HD video, stored in a cache, need more.
CLIP_TIMEOUT = 300.0


class Batch(NamedTuple):
    """What a training step or an evaluation step takes. Clips that can't be read are left out.

    Args:
        inputs: frames [B, (V,) T, H, W, 3] and edges [B, (V,) T, H, W]; None if no clip is left.
        labels: int64 [B], or of windows of a timeline [B, T]; -1 if unknown. Where clips have
            several labels float32 [B, K].
        indices: int64 [B], rows of the manifest.
        bad: the clips that can't be read.
        warnings: (row, message) of clips that were read all the same.
        mix: with which others they are to be mixed (`mixed`); None: with none.
    """

    inputs: Inputs | None
    labels: Tensor
    indices: Tensor
    bad: tuple[BadClip, ...] = ()
    warnings: tuple[tuple[int, str], ...] = ()
    mix: Mix | None = None

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
        _labels(good),
        torch.tensor([sample.index for sample in good], dtype=torch.int64),
        tuple(sample for sample in samples if isinstance(sample, BadClip)),
        tuple((sample.index, text) for sample in good for text in sample.warnings),
    )


def _labels(samples: Sequence[Sample]) -> Tensor:
    labels = np.array([sample.label for sample in samples])
    # Numbers of classes; or shares of each class, where clips have several labels.
    is_several = labels.dtype == np.float32
    return torch.from_numpy(labels if is_several else labels.astype(np.int64))


class Loader:
    """Batches of `dataset`; their order and content are a pure function of (seed, epoch).

    Iterating gives the batches of the current epoch, the first being 0, from its start batch on;
    `at` moves to another place (exact resume); a new iteration ends the one before. Worker
    processes live as long as the loader, unless an iteration is left in the middle. A batch stays
    valid as long as it is held. Nothing is taken from the global random generators.

    Args:
        dataset: the clips.
        batch_size: clips in a batch, the bad ones counted.
        shuffle: a new random order in every epoch, as in `Order`; else the manifest's order.
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
        order: how the clips of an epoch are ordered, in place of `shuffle`.
        mixing: which clips of a batch are to be mixed; those of a pair stay in one part.

    Raises:
        ConfigError: a number out of range, or an order that these clips can't have.
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
        order: Order | None = None,
        mixing: Mixing | None = None,
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
        self._mixing = mixing if mixing is not None and mixing.is_on else None
        self._keys = Keys(
            dataset,
            order or Order(shuffle=shuffle),
            batch_size=batch_size,
            seed=seed,
            drop_last=drop_last,
            endless=endless,
            part=part,
            pieces=pieces,
            unit=1 if self._mixing is None else 2,
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
        read, keys_of = tee(self._keys)
        if guard is not None:
            parts: Iterable[list[Sample | BadClip]] = guard.read(read)
        else:
            parts = ([self.dataset[key] for key in keys] for keys in read)
        batches = (self._collate(keys, part) for part, keys in zip(parts, keys_of, strict=True))
        return (batch.pinned() for batch in batches) if self._pin else batches

    def _collate(self, keys: Sequence[Key], samples: Sequence[Sample | BadClip]) -> Batch:
        batch = collate(samples)
        if self._mixing is None:
            return batch
        good = [isinstance(sample, Sample) for sample in samples]
        seed, size = self._keys.seed, self.dataset.size
        return batch._replace(mix=self._mixing.plan(keys, good, seed=seed, size=size))

    def close(self) -> None:
        """End the worker processes; the next iteration would start new ones."""
        if self._guard is not None:
            self._guard.close()


make_loader = Loader  # the name that code outside uses
