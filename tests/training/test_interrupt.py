from __future__ import annotations

import os
import signal

import pytest

from videorwkv.training.interrupt import Interrupts


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_outside_a_deferred_block_it_is_heard_at_once() -> None:
    done = []

    def work() -> None:
        with Interrupts():
            press_ctrl_c()
            done.append("never")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert not done


def test_inside_it_is_heard_when_the_block_has_ended() -> None:
    done = []

    def work() -> None:
        with Interrupts() as interrupts:
            with interrupts.deferred():
                with interrupts.deferred():
                    press_ctrl_c()
                    done.append("inner")
                done.append("outer")
            done.append("never")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["inner", "outer"]


def test_an_error_in_the_block_is_not_hidden() -> None:
    def work() -> None:
        with Interrupts() as interrupts, interrupts.deferred():
            press_ctrl_c()
            raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        work()
