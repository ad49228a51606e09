"""In which order the clips of an epoch come, and into which batches: functions of (seed, epoch).

N indices of the data set, R rows of its manifest, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from videorwkv.data.dataset import ClipDataset
from videorwkv.data.shards.store import POOL
from videorwkv.errors import ConfigError

# Keeps the order's generator apart from those of the clips.
_ORDER = 0x0DE5

Key: TypeAlias = tuple[int, int]  # epoch, index of the data set


@dataclass(frozen=True, kw_only=True)
class Order:
    """How the clips of an epoch are ordered.

    Args:
        shuffle: at random, anew in each epoch; else as in the manifest. Of shards that lie
            elsewhere, a random order of the shards, in which the clips of some are mixed.
        classes: `all`, each clip once; `balanced`, each class as often as every other: clips of
            rare classes come several times, and of frequent ones not all in each epoch.
        repeats_together: the repeats of a clip come in one batch (repeated augmentation, Hoffer et
            al., CVPR 2020), and not anywhere in the epoch.
    """

    shuffle: bool = False
    classes: Literal["all", "balanced"] = "all"
    repeats_together: bool = False


class Keys:
    """Batch sampler: lists of (epoch, index).

    Args:
        dataset: the clips.
        order: how they are ordered.
        batch_size: clips in a batch.
        seed: of the order.
        drop_last: leave out a last batch that is not full.
        endless: go on into the epochs that follow.
        part: (number, how many): which part of each batch.
        pieces: into which each batch is cut before.
        unit: clips that are not parted.

    Raises:
        ConfigError: what `order` wants can't be done with these clips or batches.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        order: Order,
        *,
        batch_size: int,
        seed: int,
        drop_last: bool,
        endless: bool,
        part: tuple[int, int],
        pieces: int,
        unit: int = 1,
    ) -> None:
        self.part, self.pieces, self.unit = part, pieces, unit
        self.count, self.batch_size, self.seed = len(dataset), batch_size, seed
        self.repeats = dataset.repeats
        self.order_options = order
        self.endless = endless
        self.shard_N = _shard_numbers(dataset) if order.shuffle else None
        self.label_R: NDArray[np.int64] | None = None
        if order.classes == "balanced":
            if self.shard_N is not None:
                raise ConfigError(
                    "clip_sampling=balanced draws clips from all shards at any time, and these "
                    "are fetched one after the other. Copy them to this disk, or take "
                    "class_weights=balanced."
                )
            manifest = dataset.manifest
            self.label_R = np.array([manifest.label_index(row.label) for row in manifest.rows])
        if order.repeats_together and batch_size % self.repeats:
            raise ConfigError(
                f"repeats_together: batch_size ({batch_size}) must be a multiple of repeats "
                f"({self.repeats})."
            )
        self.per_epoch = self.count // batch_size if drop_last else -(-self.count // batch_size)
        self.epoch = self.start_batch = 0

    def order(self, epoch: int) -> list[int]:
        """All indices of an epoch, in order."""
        options = self.order_options
        if not options.shuffle:
            return list(range(self.count))
        rng = np.random.default_rng([self.seed, epoch, _ORDER])
        rows = self.count // self.repeats
        if options.repeats_together:
            order_R = self._shuffled(rng, rows)
            size = self.batch_size // self.repeats
            starts = np.arange(self.repeats)[:, None] * rows
            # The same clip never stands beside itself, so that it is not mixed with itself.
            batches = [order_R[i : i + size][None] + starts for i in range(0, rows, size)]
            return np.concatenate([batch.ravel() for batch in batches]).tolist()
        return self._shuffled(rng, self.count).tolist()

    def _shuffled(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Indices below `count`, which is the number of rows or of them with their repeats."""
        if self.label_R is not None:
            return _balanced(np.resize(self.label_R, count), rng)
        if self.shard_N is not None:
            return _by_shard(self.shard_N[:count], rng)
        return rng.permutation(count)

    def __len__(self) -> int:
        return max(0, self.per_epoch - self.start_batch)

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, start = self.epoch, self.start_batch
        while True:
            order = self.order(epoch)
            for number in range(start, self.per_epoch):
                batch = order[number * self.batch_size : (number + 1) * self.batch_size]
                for piece in range(self.pieces):
                    share = cut(batch, piece, self.pieces, self.unit)
                    yield [(epoch, index) for index in cut(share, *self.part, self.unit)]
            if not self.endless:
                return
            epoch, start = epoch + 1, 0


def cut(clips: list[int], number: int, count: int, unit: int = 1) -> list[int]:
    """One of `count` successive parts, as equal as they can be, of `unit` clips each and their
    multiples."""
    units = -(-len(clips) // unit)
    return clips[unit * (units * number // count) : unit * (units * (number + 1) // count)]


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


def _balanced(label_N: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """As many indices as there are, each class equally often; those of a class in turn, so that
    none comes again before all others of it have come."""
    classes = rng.permutation(np.unique(label_N))
    chosen = []
    for number, label in enumerate(classes):
        wanted = (len(label_N) + number) // len(classes)
        own = np.flatnonzero(label_N == label)
        rounds = [rng.permutation(own) for _ in range(-(-wanted // len(own)))]
        chosen.append(np.concatenate(rounds)[:wanted])
    return rng.permutation(np.concatenate(chosen))
