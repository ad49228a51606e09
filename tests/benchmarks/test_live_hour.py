"""The hour of twenty live sources, as a minute of twelve: nothing is lost but what is counted."""

from __future__ import annotations

import sys

import pytest
import tiny
import torch

from benchmarks.live_hour import World, heap_in_use, measure, unaccounted
from benchmarks.live_streams import measure as measure_streams
from videorwkv.inference.recogniser import Recogniser
from videorwkv.models import LCR, build_model


@pytest.fixture(scope="module")
def model() -> LCR:
    torch.manual_seed(0)
    return build_model(tiny.recipe().model).eval()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_every_frame_drop_and_change_of_size_is_accounted_for(model: LCR) -> None:
    found = measure(model, 12, World(speed=15.0, seconds=60.0, rate=4.0), fps=2.0)
    assert found["connections_lost"] == "3 of 3"
    assert found["changes_of_size"] == "2 of 2"
    assert found["frames_unaccounted_for"] == 0
    assert found["all_accounted_for"]
    assert found["frames_given"] > found["frames_classified"] > 12


def test_a_frame_that_is_neither_seen_nor_counted_is_found() -> None:
    import numpy as np

    given, seen = np.arange(40) / 4, np.arange(0, 40, 2)
    assert unaccounted(given, seen, 0, 2.0) == 0
    assert unaccounted(given, seen[[0, 1, 3, 19]], 16, 2.0) == 0
    assert unaccounted(given, seen[[0, 1, 3, 19]], 15, 2.0) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="glibc tells it")
def test_the_heap_in_use() -> None:
    before = heap_in_use()
    if before != before:
        pytest.skip("another C library")
    small, large = [bytes(3000) for _ in range(3000)], bytes(8 << 20)
    assert heap_in_use() - before == pytest.approx(8 + 3000 * 3033 / 2**20, abs=1.0)
    assert len(small) + len(large) > 0
    del small, large
    assert heap_in_use() == pytest.approx(before, abs=1.0)


def test_streams_a_core(model: LCR) -> None:
    rate, due = measure_streams(Recogniser.open(model, what="test"), 3, 10)
    assert rate > 0
    assert due == pytest.approx(16 / 3)
