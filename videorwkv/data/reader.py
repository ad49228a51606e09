"""Worker processes that read batches ahead of their use, and outlive what kills a decoder."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import cv2
import torch

from videorwkv.data.batch import Batch, collate, make_batch
from videorwkv.data.dataset import BadClip, ClipDataset, Sample
from videorwkv.data.slabs import Slabs
from videorwkv.errors import DataError
from videorwkv.preprocess.inputs import Inputs
from videorwkv.utils.workers import MOST_AHEAD, Lost, WorkerPool

# Elsewhere processes are not forked, so clips come through their pipes instead.
_SHARES_MEMORY = sys.platform == "linux"

Key: TypeAlias = tuple[int, int]  # epoch, index of the data set
# Label, row and warnings of a sample whose inputs lie in their place.
_About: TypeAlias = tuple[int, int, tuple[str, ...]]


class BatchReader:
    """Batches of a data set, read by processes that live until `close`.

    A clip whose decoder crashes or hangs is a `BadClip`; it is noted in `lost` and not tried again.

    Args:
        dataset: the clips.
        batch_size: clips in a batch at most.
        workers: processes, at least 1.
        timeout: seconds until a clip's process is ended; None waits forever.
        lost: path -> reason, of clips that are not to be tried.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        *,
        batch_size: int,
        workers: int,
        timeout: float | None,
        lost: dict[str, str],
    ) -> None:
        self._dataset = dataset
        self._batch_size = batch_size
        self._workers = workers
        self._timeout = timeout
        # Batches read at a time: each process should find a clip to begin with.
        self._depth = max(2, -(-2 * workers // batch_size))
        self._lost = lost
        self._flights: deque[_Flight] = deque()
        self._pool: WorkerPool | None = None
        self._slabs: Slabs | None = None

    def batches(self, parts: Iterable[Sequence[Key]]) -> Iterator[Batch]:
        """The batches of these keys, in order. A later call ends an earlier one.

        Raises:
            DataError: see `ClipDataset`; or a process was killed, mostly for want of memory.
        """
        if self._flights:
            self.close()  # an iteration that was left in the middle
        flights = self._flights = deque()
        source = iter(parts)
        try:
            while flights is self._flights:
                while len(flights) < self._depth and (part := next(source, None)) is not None:
                    flights.append(self._launch(part))
                if not flights:
                    return
                while flights[0].missing:
                    self._receive()
                yield self._land(flights.popleft())
            raise RuntimeError("This iteration has ended: the loader has begun another one.")
        finally:
            if flights and flights is self._flights:
                self.close()

    def close(self) -> None:
        """End the processes. Batches that were handed out stay valid."""
        pool, self._pool, self._slabs = self._pool, None, None
        self._flights = deque()
        if pool is not None:
            pool.close()

    def _launch(self, keys: Sequence[Key]) -> _Flight:
        if self._pool is None:
            self._pool = self._start()
        flight = _Flight(list(keys), self._slabs.take() if self._slabs else 0)
        for place, key in enumerate(keys):
            row_index, row = self._dataset.locate(key[1])
            if row.path in self._lost:
                flight.answers[place] = BadClip(row_index, row.path, self._lost[row.path])
            else:
                flight.missing += 1
                self._pool.submit((flight, place), (key, flight.slab, place))
        return flight

    def _start(self) -> WorkerPool:
        if _SHARES_MEMORY:
            self._slabs = Slabs(
                filled=self._depth,
                lent=2,  # the batch in use and the one before it
                batch_size=self._batch_size,
                sample_shape=self._dataset.sample_shape,
            )
        ahead = -(-self._depth * self._batch_size // self._workers)
        return WorkerPool(
            _Read(self._dataset, self._slabs),
            workers=self._workers,
            timeout=self._timeout,
            initializer=_one_thread,
            ahead=min(ahead, MOST_AHEAD),
        )

    def _receive(self) -> None:
        assert self._pool is not None
        key, answer = self._pool.next()
        flight, place = cast("tuple[_Flight, int]", key)
        if isinstance(answer, Lost):
            answer = self._give_up(flight.keys[place], answer)
        flight.answers[place] = answer
        flight.missing -= 1

    def _give_up(self, key: Key, lost: Lost) -> BadClip:
        row_index, row = self._dataset.locate(key[1])
        if not lost.by_its_task:
            raise DataError(
                f"A worker that read {row.path} has ended: {lost.reason}. Take fewer --workers, a "
                "smaller --batch-size or smaller frames; a run goes on with --resume."
            )
        if lost.timed_out:
            reason = f"reading it {lost.reason} (--clip-timeout)"
        else:
            reason = f"the decoder crashed: {lost.reason}"
        self._lost[row.path] = f"{row.path}: {reason}"
        return BadClip(row_index, row.path, self._lost[row.path])

    def _land(self, flight: _Flight) -> Batch:
        answers = [flight.answers[place] for place in range(len(flight.keys))]
        if self._slabs is None:
            return collate([a.sample() if isinstance(a, _Sent) else a for a in answers])
        good = [place for place, answer in enumerate(answers) if isinstance(answer, tuple)]
        return make_batch(
            self._slabs.give(flight.slab, good),
            [answers[place] for place in good],
            [answer for answer in answers if isinstance(answer, BadClip)],
        )


@dataclass(eq=False)
class _Flight:
    """A batch that is being read: answers by place, and how many are still to come."""

    keys: list[Key]
    slab: int
    answers: dict[int, Any] = field(default_factory=dict)
    missing: int = 0


@dataclass(frozen=True)
class _Sent:
    """A sample as a pipe takes it: torch would send tensors in ways of its own."""

    arrays: tuple[Any, ...]
    about: _About

    def sample(self) -> Sample:
        return Sample(Inputs(*map(torch.from_numpy, self.arrays)), *self.about)


class _Read:
    """What the processes run: (key, slab, place) -> an answer."""

    def __init__(self, dataset: ClipDataset, slabs: Slabs | None) -> None:
        self._dataset = dataset
        self._slabs = slabs

    def __call__(self, task: tuple[Key, int, int]) -> _About | _Sent | BadClip:
        key, slab, place = task
        sample = self._dataset[key]
        if isinstance(sample, BadClip):
            return sample
        about = (sample.label, sample.index, sample.warnings)
        if self._slabs is None:
            return _Sent(tuple(tensor.numpy() for tensor in sample.inputs), about)
        self._slabs.write(slab, place, sample.inputs)
        return about


def _one_thread() -> None:
    """The processes are the parallelism."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
