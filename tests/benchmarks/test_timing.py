from __future__ import annotations

import sys

import pytest
import torch

from benchmarks.timing import (
    Case,
    Times,
    crossing,
    exponent,
    interleaved,
    once,
    peak_memory,
)


def test_all_cases_take_turns() -> None:
    calls: list[str] = []
    cases: dict[str, Case] = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = interleaved(cases, seconds=0.0, least=3, sample=0.0)
    # Twice to warm up, then in turns.
    assert "".join(calls[4:10]) == "ababab"
    assert times["a"].rounds == 3
    assert times["a"].wall_min <= times["a"].wall


def test_one_call() -> None:
    calls: list[int] = []
    assert isinstance(once(lambda: calls.append(1)), Times)
    assert calls == [1]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_at_the_peak_and_its_limit() -> None:
    def make() -> Case:
        return lambda: torch.ones(32, 2**20).sum()

    needed = peak_memory(make, lambda: None)
    assert needed is not None
    assert 120 < needed < 200  # 32 Mi numbers of 4 bytes
    assert peak_memory(make, lambda: None, limit=64 * 2**20) is None


def test_growth() -> None:
    lengths = [10, 100, 1000]
    assert exponent(lengths, [3 * n**2 for n in lengths]) == pytest.approx(2)


def test_crossing() -> None:
    assert crossing([1, 2, 4, 8], [4, 4, 4, 4], [1, 2, 4.0001, 16]) == pytest.approx(4, rel=0.01)
    assert crossing([1, 4], [2, 2], [1, 4]) == pytest.approx(2)
    assert crossing([1, 2], [1, 1], [2, 2]) is None
    assert crossing([1, 2], [2, 2], [1, 1]) is None
