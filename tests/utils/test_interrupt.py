from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from videorwkv.utils.interrupt import NUMBERS, Interrupts

posix = pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends the process there")


@pytest.fixture(autouse=True)
def not_under_nohup() -> Iterator[None]:
    """Under nohup the tests have inherited that SIGHUP is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(params=NUMBERS, ids=lambda number: signal.Signals(number).name)
def press(request: pytest.FixtureRequest) -> Any:
    return lambda: os.kill(os.getpid(), request.param)


def test_outside_a_deferred_block_it_is_heard_at_once(press: Any) -> None:
    done = []

    def work() -> None:
        with Interrupts():
            press()
            done.append("never")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert not done


def test_inside_it_is_heard_when_the_block_has_ended(press: Any) -> None:
    done = []

    def work() -> None:
        with Interrupts() as interrupts:
            with interrupts.deferred():
                with interrupts.deferred():
                    press()
                    done.append("inner")
                done.append("outer")
            done.append("never")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["inner", "outer"]


def test_an_error_in_the_block_is_not_hidden(press: Any) -> None:
    def work() -> None:
        with Interrupts() as interrupts, interrupts.deferred():
            press()
            raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        work()


def test_handlers_are_put_back_also_where_they_are_nested(press: Any) -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    with Interrupts() as outer:
        with pytest.raises(KeyboardInterrupt), Interrupts() as inner:
            press()
        assert (outer.pending, inner.pending) == (False, True)
        with pytest.raises(KeyboardInterrupt):
            press()
    assert [signal.getsignal(number) for number in NUMBERS] == before


@posix
def test_what_is_ignored_or_handled_elsewhere_is_left_alone() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    mine = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with Interrupts():
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, mine)
    assert heard == [signal.SIGTERM]


@pytest.fixture
def in_the_hook_of_a_fork() -> Iterator[list[Any]]:
    """Functions that are called while a process is forked, in the parent."""
    functions: list[Any] = []
    os.register_at_fork(after_in_parent=lambda: [function() for function in functions])
    yield functions
    functions.clear()


@posix
def test_one_that_falls_into_a_fork_is_heard_at_the_next_step(
    in_the_hook_of_a_fork: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = []
    monkeypatch.setattr(sys, "unraisablehook", lambda hooked: lost.append(hooked.exc_type))
    in_the_hook_of_a_fork.append(lambda: os.kill(os.getpid(), signal.SIGINT))
    done = []

    def work() -> None:
        with Interrupts() as interrupts:
            child = os.fork()
            if not child:
                os._exit(0)
            os.waitpid(child, 0)
            done.append("forked")
            with interrupts.deferred():
                done.append("a step")
            done.append("never")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert lost == [KeyboardInterrupt]  # Python has swallowed it
    assert done == ["forked", "a step"]


@posix
def test_the_second_of_two_does_not_fall_into_what_is_done_about_the_first() -> None:
    done = []
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        interrupts.heard()
        with interrupts.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("saved")
        with pytest.raises(KeyboardInterrupt):  # in a hurry
            os.kill(os.getpid(), signal.SIGINT)
    assert done == ["saved"]
