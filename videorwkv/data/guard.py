"""A guard over torch's `DataLoader`: a decoder that crashes or hangs costs one clip.

`DataLoader` runs the workers, hands them keys ahead of their use and collects the answers. Three
things are added:

- Each worker notes in shared memory which clip it is at. Where one dies or takes too long, that
  clip is lost, the others finish theirs, and new workers go on with what is unanswered. A sample is
  a pure function of its key, so nothing else changes.
- Pixels come through memory that is shared from the start. `DataLoader` would ask the worker for
  each tensor, which one that hangs never answers, and it needs room in /dev/shm for all of them.
- Answers may come in any order; here they are put in order again.

V views, T frames, H height, W width.
"""

from __future__ import annotations

import atexit
import gc
import math
import mmap
import multiprocessing
import os
import sys
import time
import warnings
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import tee
from multiprocessing.connection import wait
from typing import Any

import torch
from torch._C import _remove_worker_pids
from torch.utils.data import DataLoader, get_worker_info

from videorwkv.data.dataset import BadClip, ClipDataset, Sample
from videorwkv.data.order import Key
from videorwkv.errors import DataError
from videorwkv.preprocess.inputs import Inputs
from videorwkv.utils.workers import (
    GRACE,
    IDLE,
    WITHOUT,
    Lost,
    Raised,
    become_worker,
    cause_of_death,
    no_fork_warning,
    one_thread,
    time_counted,
)

# Seconds between two looks at the workers while nothing comes from them.
_POLL = 0.2
_NOT_READY = "A worker has ended before it was ready"

# The shared notes: one of these, then two numbers for each worker. The first counts: 0 before it is
# ready, odd while it is at a clip. The second is the clip's number in this iteration.
_WAIT, _GO, _STOP = range(3)


class Guard:
    """Reads clips in worker processes, which live until `close` or an iteration that is left.

    A clip whose decoder crashes or hangs is a `BadClip`; it is noted in `lost` and not tried again.

    Args:
        dataset: the clips.
        batch_size: clips that are asked for at a time, at most.
        workers: processes, at least 1.
        timeout: seconds until the process that is at a clip is ended; None waits forever.
        lost: `Row.name` -> reason, of clips that are not to be tried.
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
        self._workers = workers
        self._timeout = timeout
        self._lost = lost
        # Two batches are read ahead, and each worker has a clip to go on with.
        self._prefetch = max(2, -(-2 * batch_size // workers))
        # As many again may wait for one that takes long.
        self._places = 2 * self._prefetch * workers
        self._reading: object = None  # the iteration that is not at its end
        self._loader: DataLoader[Any] | None = None
        self._iterator: Any = None
        self._alive: set[int] = set()  # the workers that are not known to have died
        self._notes: Any = [_WAIT]
        _GUARDS.add(self)

    def read(self, parts: Iterable[Sequence[Key]]) -> Iterator[list[Sample | BadClip]]:
        """The clips of each part, in order. A later call ends an earlier one.

        Their tensors are overwritten once the next ones have been asked for.

        Raises:
            DataError: see `ClipDataset`; or a process was killed, mostly for want of memory.
        """
        if self._reading is not None:
            self.close()  # an iteration that was left in the middle
        reading = self._reading = object()
        parts, ahead = tee(parts)
        self._keys = enumerate(key for part in ahead for key in part)
        self._first = self._handed_out = 0  # clips whose places are free again; given to workers
        self._ended = False  # there are no more keys
        self._open: dict[int, Key] = {}
        self._answers: dict[int, Sample | BadClip] = {}
        try:
            for part in parts:
                numbers = range(self._first, self._first + len(part))
                while self._can_begin() or not all(number in self._answers for number in numbers):
                    self._receive()
                yield [self._answers.pop(number) for number in numbers]
                if self._reading is not reading:
                    raise RuntimeError("This iteration has ended: the loader began another one.")
                self._first = numbers.stop
            self._reading = None
        finally:
            if self._reading is reading:
                self.close()

    def close(self) -> None:
        """End the processes. What they are at they may finish, within 5 seconds."""
        self._reading = None
        self._end()
        self._loader = None

    def __del__(self) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[int, Key]]:
        """The sampler of the `DataLoader`: what workers that have ended left, then new clips."""
        for number, key in list(self._open.items()):
            if not self._answer_if_lost(number, key):
                yield number, key
        while self._has_room() and self._notes[0] != _STOP:
            numbered = next(self._keys, None)
            if numbered is None:
                self._ended = True
                return
            self._handed_out += 1
            number, key = numbered
            self._open[number] = key
            if not self._answer_if_lost(number, key):
                yield number, key

    def _has_room(self) -> bool:
        return self._handed_out < self._first + self._places

    def _can_begin(self) -> bool:
        """Whether no clip is being read though there is room for more."""
        return not self._open and not self._ended and self._has_room()

    def _answer_if_lost(self, number: int, key: Key) -> bool:
        """Whether the clip is one that is not tried again; it is then answered."""
        index, row = self._dataset.locate(key[1])
        if row.name in self._lost:
            del self._open[number]
            self._answers[number] = BadClip(index, row.name, self._lost[row.name])
        return row.name in self._lost

    def _receive(self) -> None:
        """Begin, or wait for an answer; or find out why there is none, and see to it."""
        self._looked = time.monotonic()
        begins = self._iterator is None or self._can_begin()
        try:
            if begins:
                self._begin()
                return
            number, answer = next(self._iterator)
        except StopIteration:
            self._end()  # what the living workers were at has come
        except Exception as error:
            waiting = "DataLoader timed out" in str(error)
            stopping = self._notes[0] == _STOP
            busy = any(self._note(worker)[0] % 2 for worker in self._alive)
            if self._find_lost(waiting):
                self._notes[0] = _STOP
            elif not (waiting or stopping):
                raise
            elif begins or (stopping and not busy):
                self._end()
        else:
            self._take(number, answer)

    def _take(self, number: int, answer: Any) -> None:
        if isinstance(answer, Raised):
            answer.again()
        if answer is None:
            return  # the worker was told to stop
        del self._open[number]
        if not isinstance(answer, BadClip):
            answer = Sample(self._reader.place(number), *answer)
        self._answers[number] = answer

    def _begin(self) -> None:
        """Hand clips to the workers; start them if there are none."""
        if self._loader is None:
            self._loader = self._make_loader()
        if self._iterator is not None:
            iter(self._loader)
            return
        self._notes[:] = [0] * len(self._notes)
        self._seen = [(0, 0.0)] * self._workers
        self._alive = set(range(self._workers))
        self._owner = os.getpid()
        try:
            with _unwarned():
                self._iterator = iter(self._loader)
            # Else torch raises an error as soon as one dies, wherever the program is just then.
            _remove_worker_pids(id(self._iterator))
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            raise DataError(f"{_NOT_READY}: {str(error).strip()} {WITHOUT}") from None
        self._iterator._worker_pids_set = False
        self._notes[0] = _GO

    def _make_loader(self) -> DataLoader[Any]:
        context = _context()
        size = 4 * math.prod(self._dataset.sample_shape) * self._places
        # What is forked shares it without a name in any file system. Else it lies in /dev/shm, or
        # in a temporary file where that is too small.
        forks = context.get_start_method() == "fork"
        memory: Any = mmap.mmap(-1, size) if forks else context.RawArray("B", size)
        self._notes = context.RawArray("q", 1 + 2 * self._workers)
        self._reader = _Reader(self._dataset, self._notes, memory, self._places)
        with _unwarned():
            return DataLoader(
                self._reader,  # type: ignore[arg-type]
                sampler=weakref.proxy(self),
                batch_size=None,
                num_workers=self._workers,
                collate_fn=_as_it_is,
                timeout=_POLL,
                worker_init_fn=self._reader.start,
                multiprocessing_context=context,
                generator=torch.Generator(),  # else it would draw from the global one
                prefetch_factor=self._prefetch,
                persistent_workers=True,
                in_order=False,
            )

    def _find_lost(self, waiting: bool) -> bool:
        """Whether more workers have died or were too slow; their clips are noted.

        Args:
            waiting: nothing has come for a while; else something went wrong.
        """
        if self._iterator is None:
            return False
        processes = self._iterator._workers
        slow = self._slow()
        for worker in slow:
            processes[worker].kill()
            processes[worker].join()
        if not waiting:  # a worker that has died is not always seen to be dead at once
            wait([process.sentinel for process in processes], 1.0)
        dead = {worker for worker in self._alive if processes[worker].exitcode is not None}
        self._alive -= dead
        for worker in sorted(dead):
            count, number = self._note(worker)
            if worker not in slow:
                lost = cause_of_death(processes[worker].exitcode)
            elif slow[worker] == count:
                lost = Lost(f"took longer than {self._timeout:g} s", timed_out=True)
            else:
                continue  # it was done at the last moment
            if not count:
                raise DataError(f"{_NOT_READY}: {lost.reason}. {WITHOUT}")
            if count % 2 == 0:
                raise DataError(f"{IDLE}: {lost.reason}.")
            self._give_up(number, lost)
        return bool(dead)

    def _slow(self) -> dict[int, int]:
        """Workers that are past the time limit -> their counts."""
        passed = time_counted(self._looked)
        slow = {}
        for worker in self._alive:
            count, (seen, waited) = self._note(worker)[0], self._seen[worker]
            waited = waited + passed if count == seen and count % 2 else 0.0
            self._seen[worker] = count, waited
            if self._timeout is not None and waited >= self._timeout:
                slow[worker] = count
        return slow

    def _note(self, worker: int) -> tuple[int, int]:
        """A worker's count and the number of its clip."""
        return self._notes[1 + 2 * worker], self._notes[2 + 2 * worker]

    def _give_up(self, number: int, lost: Lost) -> None:
        path = self._dataset.locate(self._open[number][1])[1].name
        if not lost.by_its_task:
            raise DataError(
                f"A worker that read {path} has ended: {lost.reason}. Take fewer --workers, a "
                "smaller --batch-size or smaller frames; a run continues with --resume."
            )
        if lost.timed_out:
            reason = f"reading it {lost.reason} (--clip-timeout)"
        else:
            reason = f"the decoder crashed: {lost.reason}"
        self._lost[path] = f"{path}: {reason}"

    def _end(self) -> None:
        """End the processes; what they have not answered stays to be read."""
        iterator, self._iterator = self._iterator, None
        if iterator is None or self._loader is None or self._owner != os.getpid():
            return  # there are none, or they are those of the process that this one is a copy of
        self._notes[0] = _STOP
        deadline = time.monotonic() + GRACE
        for worker, process in enumerate(iterator._workers):
            while self._note(worker)[0] % 2 and process.is_alive() and time.monotonic() < deadline:
                time.sleep(0.005)
            if self._note(worker)[0] % 2 or not self._note(worker)[0]:
                process.kill()
        iterator._shutdown_workers()
        self._loader._iterator = None


# Closed at the end of the program, while torch can still end its workers: after it is imported.
_GUARDS: weakref.WeakSet[Guard] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for guard in list(_GUARDS):
        guard.close()


def _context() -> Any:
    """What the program asked for with `multiprocessing.set_start_method`; else forks on Linux."""
    method = multiprocessing.get_start_method(allow_none=True)
    if method is None and sys.platform == "linux":
        method = "fork"  # starts at once; and a manifest's opener need not be picklable
    return multiprocessing.get_context(method)


@contextmanager
def _unwarned() -> Iterator[None]:
    with no_fork_warning():
        # How many workers there are is the user's choice.
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        yield


def _as_it_is(answer: Any) -> Any:
    return answer


class _Reader:
    """What the workers run: (number, key) -> the number and an answer.

    An answer is a `BadClip`; or label, row and warnings of a clip that lies in its place; or an
    error; or nothing, if the workers are to stop.

    Args:
        dataset: the clips.
        notes: where the workers write what they are at.
        memory: shared bytes, with a place for each clip: its frames, then its edges.
        places: how many.
    """

    def __init__(self, dataset: ClipDataset, notes: Any, memory: Any, places: int) -> None:
        self._dataset = dataset
        self._notes = notes
        self._memory = memory
        self._places = places

    def start(self, worker: int) -> None:
        """Make this process a worker."""
        become_worker()
        one_thread()
        self._notes[1 + 2 * worker] = 2

    def __getitem__(self, task: tuple[int, Key]) -> tuple[int, Any]:
        number, key = task
        while self._notes[0] == _WAIT:
            time.sleep(0.001)
        if self._notes[0] == _STOP:
            return number, None
        info = get_worker_info()
        assert info is not None
        note = 1 + 2 * info.id
        self._notes[note + 1] = number
        self._notes[note] += 1
        try:
            return number, self._read(number, key)
        except Exception as error:  # noqa: BLE001 - the guard raises it again
            return number, Raised.of(error)
        finally:
            # PyAV ties pictures into cycles, and each of them holds megabytes of its decoder.
            gc.collect(1)
            self._notes[note] += 1

    def _read(self, number: int, key: Key) -> Any:
        sample = self._dataset[key]
        if isinstance(sample, BadClip):
            return sample
        for tensor, target in zip(sample.inputs, self.place(number), strict=True):
            if tensor.shape != target.shape:
                raise ValueError(f"A sample has shape {tensor.shape}; wanted {target.shape}.")
            target.copy_(tensor)
        return sample.label, sample.index, sample.warnings

    def place(self, number: int) -> Inputs:
        """Frames [(V,) T, H, W, 3] and edges [(V,) T, H, W] in shared memory."""
        shape = self._dataset.sample_shape
        pixels = math.prod(shape)
        start = 4 * pixels * (number % self._places)
        bytes_N = torch.frombuffer(self._memory, dtype=torch.uint8, offset=start, count=4 * pixels)
        return Inputs(bytes_N[: 3 * pixels].view(*shape, 3), bytes_N[3 * pixels :].view(shape))
