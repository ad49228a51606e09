"""Processes that run tasks; one that dies takes only the task along that it was at."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, NoReturn

import cv2

from videorwkv.errors import ConfigError, DataError, UsageError
from videorwkv.utils.interrupt import NUMBERS

# Seconds that a process gets to finish its task when it is ended.
GRACE = 5.0
# Parts of messages.
IDLE = "A worker that had nothing to do has ended"
WITHOUT = "Use workers=0 to see why."
# So many processes in a row may die before they are ready.
_STARTS = 3
# Signals that a process brings upon itself; all others come from outside.
_CRASHES = frozenset(
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS")
    if hasattr(signal, name)
)
# Ends of pipes that belong to this process: one that is forked must not hold them open.
_OURS: weakref.WeakSet[Connection[Any, Any]] = weakref.WeakSet()
# Between the making of a pipe and the closing of its far end nobody else may fork.
_FORKING = threading.Lock()


@dataclass(frozen=True)
class Lost:
    """Why a task has no answer: its process died or was ended.

    Args:
        reason: such as "the process died of signal 11 (segmentation fault)".
        signal: the signal that it died of; None if it ended by itself or took too long.
        timed_out: it was ended because it took too long.
    """

    reason: str
    signal: int | None = None
    timed_out: bool = False

    @property
    def by_its_task(self) -> bool:
        """Whether the task brought it about: it crashed, ended the process or took too long.

        Otherwise the cause lies outside, and another task would have fared the same: memory has run
        out, or somebody ended the process.
        """
        return self.signal is None or self.signal in _CRASHES


class WorkerPool:
    """Processes that run `work(task)`, each one task at a time; a context manager.

    Every process has a pipe of its own and shares no lock, so a death leaves nothing locked; it is
    replaced. They ignore Ctrl-C, which is this process's, and end with this process. Linux forks
    them from the calling thread, so that `work` may be anything; elsewhere it must be picklable.

    Args:
        work: runs in the processes; what it returns must be picklable.
        workers: how many processes.
        timeout: seconds that `next` waits for one task before its process is ended; None waits
            forever.
        initializer: called in each process before its first task.

    Raises:
        ConfigError: a number out of range.
        UsageError: this process is daemonic, and may start no other.
    """

    def __init__(
        self,
        work: Callable[[Any], Any],
        *,
        workers: int,
        timeout: float | None = None,
        initializer: Callable[[], None] | None = None,
    ) -> None:
        if workers < 1 or (timeout is not None and timeout <= 0):
            raise ConfigError(
                f"WorkerPool: workers ({workers}) must be at least 1, timeout ({timeout}) above 0 "
                "or None."
            )
        if multiprocessing.current_process().daemon:
            raise UsageError(
                "Worker processes can't be started here: this is a daemonic process (of a "
                "multiprocessing.Pool, or a task of Celery), which may start none. Call this from "
                "the main process, or give Celery a pool of threads (--pool=threads)."
            )
        self._work = work
        self._initializer = initializer
        self._timeout = timeout
        self._waiting: deque[tuple[Hashable, Any]] = deque()
        self._done: deque[tuple[Hashable, Any]] = deque()
        self._failed_starts = 0
        self._looked = 0.0
        self._workers: list[_Worker] = []
        # Not __del__: it must also run at the end of the program, while modules still stand.
        self._finalizer = weakref.finalize(self, _end, self._workers, os.getpid())
        for _ in range(workers):
            self._start()

    def submit(self, key: Hashable, task: Any) -> None:
        """Queue a task; tasks are begun in this order.

        Args:
            key: names it in the answer.
            task: what `work` gets; picklable.
        """
        self._waiting.append((key, task))
        self._feed()

    def next(self) -> tuple[Hashable, Any]:
        """Wait for whichever task ends first: (key, what `work` returned, or a `Lost`).

        Raises:
            Exception: what `work` or `initializer` raised, with the traceback there as its cause.
            DataError: a process died that had no task, or processes die again and again at start.
        """
        self._looked = time.monotonic()
        while not self._done:
            self._serve()
        key, answer = self._done.popleft()
        if isinstance(answer, Raised):
            answer.again()
        return key, answer

    def close(self) -> None:
        """End the processes. What they are at they may finish, within 5 seconds; the rest is
        dropped."""
        self._finalizer()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _start(self) -> None:
        with _FORKING:
            ours, theirs = multiprocessing.Pipe()
            _OURS.add(ours)
            process = _context().Process(
                target=_run, args=(theirs, self._work, self._initializer), daemon=True
            )
            with no_fork_warning():
                process.start()
            theirs.close()
        self._workers.append(_Worker(process, ours))

    def _feed(self) -> None:
        while self._waiting:
            worker = next((w for w in self._workers if w.task is None and not w.dead), None)
            if worker is None:
                return
            try:
                worker.connection.send(self._waiting[0][1])
            except (BrokenPipeError, ConnectionResetError):
                worker.dead = True  # `_serve` will find out why
                continue
            worker.task = self._waiting.popleft()

    def _serve(self) -> None:
        """Wait for news from the processes, for a second at most if there is a time limit."""
        self._feed()
        if not self._waiting and not any(worker.task for worker in self._workers):
            raise RuntimeError("WorkerPool.next: there is no task to wait for; submit one.")
        by_handle: dict[Any, _Worker] = {}
        for worker in self._workers:
            by_handle[worker.connection] = by_handle[worker.process.sentinel] = worker
        ready = wait(list(by_handle), timeout=self._patience())
        for worker in {id(by_handle[h]): by_handle[h] for h in ready}.values():
            if not self._receive(worker):
                self._bury(worker)
        self._end_slow()

    def _patience(self) -> float | None:
        if self._timeout is None:
            return None
        left = [self._timeout - worker.waited for worker in self._workers if worker.task]
        return max(0.0, min(1.0, *left)) if left else None

    def _receive(self, worker: _Worker) -> bool:
        """Take all answers that are there; whether the process lives."""
        try:
            while worker.connection.poll():
                self._take(worker, worker.connection.recv())
        except (EOFError, OSError):
            return False
        return worker.process.is_alive()

    def _take(self, worker: _Worker, answer: Any) -> None:
        if worker.ready:
            self._done_with(worker, answer)
        elif isinstance(answer, Raised):
            self._done.append((None, answer))
        else:
            worker.ready, self._failed_starts = True, 0

    def _end_slow(self) -> None:
        """End processes that are past the time limit."""
        if self._timeout is None:
            return
        passed, self._looked = time_counted(self._looked), time.monotonic()
        for worker in [w for w in self._workers if w.task and w.ready]:
            worker.waited += passed
            if worker.waited < self._timeout:
                continue
            worker.process.kill()
            worker.process.join()
            self._receive(worker)
            if worker.task:  # else it was done at the last moment
                reason = f"took longer than {self._timeout:g} s"
                self._done_with(worker, Lost(reason, timed_out=True))
            self._replace(worker)

    def _bury(self, worker: _Worker) -> None:
        """Replace a process that has died; its task is lost."""
        worker.process.join(GRACE)
        if worker.process.exitcode is None:  # it closed its pipe and lives on
            worker.process.kill()
            worker.process.join()
        self._receive(worker)  # what it sent last, before the task that killed it
        lost = cause_of_death(worker.process.exitcode or 0)
        idle = worker.ready and not worker.task
        if worker.ready and worker.task:
            self._done_with(worker, lost)
        self._replace(worker)
        if idle:
            raise DataError(f"{IDLE}: {lost.reason}.")
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= _STARTS:
                raise DataError(
                    f"{self._failed_starts} workers in a row have ended before they were ready; "
                    f"the last: {lost.reason}. {WITHOUT}"
                )

    def _done_with(self, worker: _Worker, answer: Any) -> None:
        assert worker.task
        self._done.append((worker.task[0], answer))
        worker.task, worker.waited = None, 0.0

    def _replace(self, worker: _Worker) -> None:
        """A new process for a dead one; a task that it had not begun goes to the front again."""
        if worker.task:
            self._waiting.appendleft(worker.task)
        self._workers.remove(worker)
        worker.release()
        self._start()
        self._feed()


def one_by_one(
    work: Callable[[Any], Any], tasks: Sequence[Any], *, timeout: float | None
) -> Generator[Any, None, None]:
    """What `work` returns for each task, or a `Lost`, in order, from one process beside this one.

    In a daemonic process, which may start no other, `work` runs without protection.

    Args:
        work: as in `WorkerPool`.
        tasks: what `work` gets, one after the other; picklable.
        timeout: seconds for one task; None waits forever.

    Raises:
        Exception: as `WorkerPool.next`.
    """
    if multiprocessing.current_process().daemon:
        yield from map(work, tasks)
        return
    with WorkerPool(work, workers=1, timeout=timeout, initializer=one_thread) as pool:
        for place, task in enumerate(tasks):
            pool.submit(place, task)
        for _ in tasks:
            yield pool.next()[1]


def one_thread() -> None:
    """The processes are the parallelism. Not 1: OpenCV would wait for threads that a forked process
    does not have."""
    cv2.setNumThreads(0)


@dataclass(eq=False)
class _Worker:
    """A process, this end of its pipe, and the task that it was given."""

    process: BaseProcess
    connection: Connection[Any, Any]
    task: tuple[Hashable, Any] | None = None
    ready: bool = False
    dead: bool = False
    waited: float = 0.0

    def release(self) -> None:
        self.connection.close()
        self.process.close()


@dataclass(frozen=True)
class Raised:
    """An error that a process sends home."""

    error: BaseException
    trace: str

    @classmethod
    def of(cls, error: Exception) -> Raised:
        """In the handler of `error`; sure to be picklable."""
        trace = traceback.format_exc()
        try:
            # Also back: an `__init__` with other arguments breaks that.
            pickle.loads(pickle.dumps(error))
        except Exception:  # noqa: BLE001 - an error of a foreign library
            error = RuntimeError(f"{type(error).__name__}: {error}")
        return cls(error, trace)

    def again(self) -> NoReturn:
        """Raise it, with the traceback of the process as its cause."""
        raise self.error from RuntimeError(f"in a worker:\n{self.trace}")


def _context() -> Any:
    # Only a forked process sees what can't be pickled: a manifest's opener, shared memory.
    return multiprocessing.get_context("fork" if sys.platform == "linux" else None)


def _end(workers: list[_Worker], owner: int) -> None:
    """Let the processes finish what they are at, then end them."""
    if os.getpid() != owner:
        return  # a copy of the pool in a forked process
    for worker in workers:
        worker.connection.close()
    deadline = time.monotonic() + GRACE
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.exitcode is None:
            worker.process.kill()
            worker.process.join()
        worker.release()
    workers.clear()


def cause_of_death(exitcode: int) -> Lost:
    """What a process's exit code says."""
    if exitcode >= 0:
        return Lost(f"the process ended by itself with exit code {exitcode}")
    number = -exitcode
    name = (signal.strsignal(number) or "unknown").lower()
    if number == getattr(signal, "SIGKILL", 9):
        return Lost("the process was killed (signal 9), mostly because memory has run out", number)
    return Lost(f"the process died of signal {number} ({name})", number)


@contextlib.contextmanager
def no_fork_warning() -> Iterator[None]:
    """Python 3.12 warns of forking beside threads; the child starts none of their work."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
        yield


def time_counted(looked: float) -> float:
    """Seconds since `looked` (`time.monotonic`) that count against a time limit.

    Only time spent looking counts, and not much at a time: this process may have been busy, or all
    of them stopped (Ctrl-Z), while answers lay ready.
    """
    return min(time.monotonic() - looked, 2.0)


# -- in the process --------------------------------------------------------------------------------


def _run(
    connection: Connection[Any, Any],
    work: Callable[[Any], Any],
    initializer: Callable[[], None] | None,
) -> None:
    """Tasks from the pipe, answers into it, until the other end is closed."""
    for inherited in list(_OURS):
        inherited.close()
    become_worker()
    with contextlib.suppress(EOFError, OSError):
        # The first message says that it is ready, or why not.
        connection.send_bytes(_answer(lambda _: initializer() if initializer else None, None))
        while True:
            connection.send_bytes(_answer(work, connection.recv()))
            # PyAV ties pictures into cycles, and each of them holds megabytes of its decoder.
            gc.collect(1)


def _answer(work: Callable[[Any], Any], task: Any) -> bytes | memoryview:
    """What comes of a task, pickled; an error as a `Raised`."""
    try:
        return ForkingPickler.dumps(work(task))
    except Exception as error:  # noqa: BLE001 - `WorkerPool.next` raises it again
        return pickle.dumps(Raised.of(error))


def become_worker() -> None:
    """Make this process a worker: Ctrl-C, and what does the same, is its parent's, with which it
    ends."""
    # A scheduler sends them to all processes of a job. The parent may still need an answer before
    # it has saved its work.
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)
    # What ends the process need not be printed by a handler of another library, such as torch.
    for name in ("SIGSEGV", "SIGFPE", "SIGBUS"):
        if hasattr(signal, name):  # Windows lacks the last one
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    # What was inherited is not ours to collect, and looking through it would copy its pages.
    gc.freeze()
    end_with_parent()


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, however it went: also in the
    middle of a task, where a pipe that was closed is not seen. No effect in a main process."""
    threading.Thread(target=_wait_for_end, daemon=True).start()


def _wait_for_end() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
