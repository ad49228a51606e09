from __future__ import annotations

import faulthandler
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from videorwkv.errors import ConfigError, DataError
from videorwkv.utils import workers
from videorwkv.utils.workers import Lost, WorkerPool, one_by_one

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tasks here need fork")


def die(number: int) -> None:
    """As a decoder that crashes, without pytest's report of it."""
    faulthandler.disable()
    os.kill(os.getpid(), number)
    time.sleep(60)


def do(task: Any) -> Any:
    """Tasks by name: "crash", "hang", "exit"; anything else comes back."""
    if task == "crash":
        die(signal.SIGSEGV)
    if task == "hang":
        time.sleep(600)
    if task == "exit":
        os._exit(3)
    return task


def results(pool: WorkerPool, tasks: dict[Any, Any]) -> dict[Any, Any]:
    for key, task in tasks.items():
        pool.submit(key, task)
    return dict(pool.next() for _ in tasks)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def pids_of(pool: WorkerPool) -> list[int]:
    return [worker.process.pid or 0 for worker in pool._workers]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_task_is_answered() -> None:
    with WorkerPool(lambda task: (task, os.getpid()), workers=2) as pool:
        done = results(pool, {k: k * k for k in range(40)})
        assert {key: square for key, (square, _) in done.items()} == {k: k * k for k in range(40)}
        assert {pid for _, pid in done.values()} <= set(pids_of(pool))
        assert len(set(pids_of(pool))) == 2
        assert os.getpid() not in pids_of(pool)


def test_tasks_are_begun_in_order() -> None:
    with WorkerPool(do, workers=1) as pool:
        for key in range(9):
            pool.submit(key, key)
        assert [pool.next()[0] for _ in range(9)] == list(range(9))


def test_large_tasks_and_answers() -> None:
    content = os.urandom(5_000_000)
    with WorkerPool(do, workers=2) as pool:
        assert results(pool, dict.fromkeys(range(4), content)) == dict.fromkeys(range(4), content)


def test_a_crash_costs_its_own_task_only() -> None:
    with WorkerPool(do, workers=2) as pool:
        before = set(pids_of(pool))
        done = results(pool, {k: "crash" if k in (3, 4, 9) else k for k in range(20)})
        lost = done.pop(3)
        assert lost == done.pop(4) == done.pop(9)
        assert lost == Lost("the process died of signal 11 (segmentation fault)", signal.SIGSEGV)
        assert lost.by_its_task
        assert done == {k: k for k in done}
        assert len(done) == 17
        assert len(pids_of(pool)) == 2
        assert set(pids_of(pool)) != before


def test_one_after_the_other_crashes() -> None:
    with WorkerPool(do, workers=1) as pool:
        for _ in range(10):
            assert isinstance(results(pool, {0: "crash"})[0], Lost)
        assert results(pool, {0: "fine"}) == {0: "fine"}


def test_a_task_that_takes_too_long_is_ended() -> None:
    with WorkerPool(do, workers=2, timeout=1) as pool:
        done = results(pool, {k: "hang" if k == 2 else k for k in range(12)})
        assert done.pop(2) == Lost("took longer than 1 s", timed_out=True)
        assert done == {k: k for k in done}
        assert len(done) == 11


def test_the_time_limit_does_not_count_while_nobody_waits() -> None:
    def slow(task: Any) -> Any:
        time.sleep(0.05)
        return task

    with WorkerPool(slow, workers=1, timeout=1) as pool:
        pool.submit(0, "first")
        time.sleep(1.2)
        assert pool.next() == (0, "first")


def test_killed_from_outside_is_not_the_tasks_fault() -> None:
    def kill(task: Any) -> None:
        die(task)

    with WorkerPool(kill, workers=1) as pool:
        killed = results(pool, {0: signal.SIGKILL})[0]
        assert "memory has run out" in killed.reason
        assert (killed.signal, killed.by_its_task, killed.timed_out) == (9, False, False)
        ended = results(pool, {0: signal.SIGQUIT})[0]
        assert "signal 3 (quit)" in ended.reason
        assert not ended.by_its_task


def test_a_task_that_ends_its_process() -> None:
    with WorkerPool(do, workers=1) as pool:
        lost = results(pool, {0: "exit"})[0]
        assert "exit code 3" in lost.reason
        assert lost.by_its_task
        assert results(pool, {1: 1}) == {1: 1}


class AwkwardError(Exception):
    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} at {where}")


def test_an_error_is_raised_again() -> None:
    def fail(task: str) -> None:
        if task == "awkward":
            raise AwkwardError("this", "there")
        raise ValueError(f"no {task}")

    with WorkerPool(fail, workers=1) as pool:
        pool.submit(0, "luck")
        with pytest.raises(ValueError, match="no luck") as caught:
            pool.next()
        assert "in fail" in str(caught.value.__cause__)
        pool.submit(0, "awkward")
        with pytest.raises(RuntimeError, match="AwkwardError: this at there"):
            pool.next()


def test_an_answer_that_cannot_be_sent_is_an_error() -> None:
    with WorkerPool(lambda task: threading.Lock(), workers=1) as pool:
        pool.submit(0, 0)
        with pytest.raises(TypeError, match="pickle"):
            pool.next()


class Cycle:
    """Held by nothing but itself; notes its end."""

    ended: ClassVar[list[int]] = []

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        self.ended.append(1)


def test_what_a_task_leaves_in_cycles_goes_before_the_next_one() -> None:
    def work(task: Any) -> int:
        Cycle()
        return len(Cycle.ended)

    with WorkerPool(work, workers=1) as pool:
        assert results(pool, {k: k for k in range(5)}) == {k: k for k in range(5)}


def test_initializer_runs_once_in_each_process() -> None:
    started: list[int] = []
    with WorkerPool(
        lambda task: (os.getpid(), started), workers=2, initializer=lambda: started.append(1)
    ) as pool:
        done = results(pool, {k: k for k in range(20)})
        assert all(answer == (answer[0], [1]) for answer in done.values())
    assert started == []


def test_initializer_that_fails() -> None:
    def fail() -> None:
        raise ValueError("no start")

    with WorkerPool(do, workers=2, initializer=fail) as pool:
        pool.submit(0, 0)
        with pytest.raises(ValueError, match="no start"):
            pool.next()


def test_dying_again_and_again_at_start() -> None:
    with WorkerPool(do, workers=2, initializer=lambda: die(signal.SIGSEGV)) as pool:
        pool.submit(0, 0)
        with pytest.raises(DataError, match=r"3 workers in a row .* signal 11"):
            pool.next()


def test_a_death_at_start_costs_no_task(tmp_path: Path) -> None:
    def start() -> None:
        try:
            (tmp_path / "once").touch(exist_ok=False)
        except FileExistsError:
            return
        die(signal.SIGSEGV)

    with WorkerPool(do, workers=1, initializer=start) as pool:
        assert results(pool, {k: k for k in range(3)}) == {k: k for k in range(3)}


def test_dying_without_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "GRACE", 0.1)
    with WorkerPool(do, workers=2) as pool:
        assert results(pool, {0: 0}) == {0: 0}
        idle = pids_of(pool)[1]
        pool.submit(1, "hang")  # for the first process
        while not pool._workers[1].ready:  # or it would count as a death at start
            pool._workers[1].connection.poll(1)
            pool._receive(pool._workers[1])
        os.kill(idle, signal.SIGKILL)
        with pytest.raises(DataError, match=r"nothing to do has ended: .* memory"):
            pool.next()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_nothing_is_left_behind() -> None:
    files, threads = open_files(), threading.active_count()
    seen: list[int] = []
    for number in range(6):  # with a crash or without, closed or forgotten
        pool = WorkerPool(do, workers=2, timeout=30)
        results(pool, {0: "crash", 1: 1} if number % 3 == 0 else {0: 0})
        seen += pids_of(pool)
        if number % 2:
            pool.close()
            pool.close()
        del pool
        gc.collect()
    assert all(not Path(f"/proc/{pid}").exists() for pid in seen)
    assert open_files() == files
    assert threading.active_count() == threads


def test_closing_drops_what_is_not_begun(tmp_path: Path) -> None:
    def note(task: int) -> None:
        (tmp_path / f"begun {task}").touch()
        time.sleep(0.2)
        (tmp_path / f"ended {task}").touch()

    with WorkerPool(note, workers=1) as pool:
        for key in range(8):
            pool.submit(key, key)
        wait_until((tmp_path / "begun 0").exists)
    assert {p.name for p in tmp_path.iterdir()} == {"begun 0", "ended 0"}


def test_closing_ends_what_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "GRACE", 0.1)
    pool = WorkerPool(do, workers=1)
    pids = pids_of(pool)
    pool.submit(0, "hang")
    pool.close()
    assert gone(pids[0])


def test_two_pools_do_not_hold_each_other() -> None:
    first = WorkerPool(do, workers=2)
    with WorkerPool(do, workers=2) as second:
        results(first, {0: 0})
        pids = pids_of(first)
        # As at the parent's death: the pipes close, nobody sends anything.
        for worker in first._workers:
            worker.connection.close()
        wait_until(lambda: all(gone(pid) for pid in pids))
        assert results(second, {0: 0}) == {0: 0}
    first.close()


def test_ctrl_c_is_the_parents() -> None:
    with WorkerPool(do, workers=1) as pool:
        results(pool, {0: 0})
        before = pids_of(pool)
        os.kill(before[0], signal.SIGINT)
        assert results(pool, {1: 1}) == {1: 1}
        assert pids_of(pool) == before


def test_a_pool_outlives_the_thread_that_made_it() -> None:
    pools: list[WorkerPool] = []
    thread = threading.Thread(target=lambda: pools.append(WorkerPool(do, workers=1)))
    thread.start()
    thread.join()
    with pools[0] as pool:
        before = pids_of(pool)
        assert results(pool, {0: 0}) == {0: 0}
        assert pids_of(pool) == before


PARENT = """
import time
from videorwkv.utils.workers import WorkerPool
pool = WorkerPool(time.sleep, workers=2)
print(*(worker.process.pid for worker in pool._workers), flush=True)
pool.submit(0, 600)  # the other one idles
{end}
"""


@pytest.mark.parametrize(
    "end",
    [
        "time.sleep(1); import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import videorwkv.utils.workers as w; w.GRACE = 0.1; time.sleep(1)",
    ],
    ids=["killed", "ends"],
)
def test_they_end_with_the_parent(end: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PARENT.format(end=end)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2
    wait_until(lambda: all(gone(pid) for pid in pids))


HELPERS = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from videorwkv.utils.workers import end_with_parent


def work():
    import os, time
    print(os.getpid(), flush=True)
    time.sleep(120)
    print("its task has ended", flush=True)


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent) as pool:
        pool.submit(work).result()
"""


def test_a_helper_ends_in_the_middle_of_its_task(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(HELPERS)
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        # Nothing is there to read if the parent has failed.
        helper = int(parent.stdout.readline())
        try:
            parent.kill()
            assert parent.wait() == -signal.SIGKILL
            # The helper holds the pipe as well: this waits until it has ended.
            assert parent.stdout.read() == ""
        finally:
            with suppress(ProcessLookupError):
                os.kill(helper, signal.SIGKILL)


def test_wrong_use() -> None:
    for options in ({"workers": 0}, {"workers": 1, "timeout": 0}):
        with pytest.raises(ConfigError, match="WorkerPool"):
            WorkerPool(do, **options)  # type: ignore[arg-type]
    with WorkerPool(do, workers=1) as pool, pytest.raises(RuntimeError, match="submit"):
        pool.next()


def test_one_by_one_keeps_the_order_and_loses_what_crashes() -> None:
    first, lost, last = one_by_one(do, ["a", "crash", "b"], timeout=None)
    assert (first, last) == ("a", "b")
    assert isinstance(lost, Lost)
    (slow,) = one_by_one(do, ["hang"], timeout=0.5)
    assert slow.timed_out
    assert list(one_by_one(do, [], timeout=None)) == []


def whose(task: Any) -> list[int]:
    """Each task's process and the one that asked."""
    return [os.getpid(), *one_by_one(lambda _: os.getpid(), [task], timeout=None)]


def test_one_by_one_starts_no_process_in_a_daemonic_one() -> None:
    with WorkerPool(whose, workers=1) as pool:
        pool.submit("key", "task")
        own, used = pool.next()[1]
    assert own == used
    own, used = whose("task")
    assert own != used
