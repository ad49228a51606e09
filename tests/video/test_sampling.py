"""Which frames: properties over many videos, and the cases that are easy to get wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from videorwkv.errors import ConfigError, UsageError
from videorwkv.video import Sampling


def _videos() -> Iterator[NDArray[np.float64]]:
    rng = np.random.default_rng(0)
    for count in (1, 2, 3, 7, 16, 17, 100, 301):
        yield np.arange(count) / 12
        yield np.cumsum(rng.uniform(0.01, 0.5, count)) - 0.01
        yield np.zeros(count)


def test_indices_lie_in_range_and_never_decrease() -> None:
    rng = np.random.default_rng(1)
    for times in _videos():
        for num_frames in (1, 2, 8, 16, 33):
            for fps in (None, 0.3, 4.0, 12.0, 1000.0):
                sampling = Sampling(num_frames=num_frames, fps=fps)
                chosen = [
                    sampling.indices(times, view=view, num_views=views)
                    for views in (1, 2, 5)
                    for view in range(views)
                ]
                chosen += [sampling.indices(times, rng=rng) for _ in range(3)]
                for indices in chosen:
                    assert indices.shape == (num_frames,)
                    assert indices.dtype == np.int64
                    assert indices.min() >= 0
                    assert indices.max() < len(times)
                    assert np.all(np.diff(indices) >= 0)


@pytest.mark.parametrize(("count", "num_frames"), [(16, 16), (32, 16), (300, 8), (17, 16)])
def test_a_spread_clip_has_no_frame_twice(count: int, num_frames: int) -> None:
    times = np.arange(count) / 25
    for views in (1, 2, 3):
        for view in range(views):
            indices = Sampling(num_frames=num_frames).indices(times, view=view, num_views=views)
            assert len(set(indices.tolist())) == num_frames


def test_every_frame_is_taken_once_where_counts_agree() -> None:
    assert Sampling(num_frames=10).indices(np.arange(10) / 30).tolist() == list(range(10))


def test_a_spread_clip_covers_the_whole_video() -> None:
    times = np.arange(160) / 10
    assert Sampling(num_frames=4).indices(times).tolist() == [20, 60, 100, 140]
    rng = np.random.default_rng(0)
    drawn = np.stack([Sampling(num_frames=4).indices(times, rng=rng) for _ in range(300)])
    # One frame from each quarter, and in the end every part of each quarter.
    assert np.all(drawn // 40 == [0, 1, 2, 3])
    assert np.all(np.ptp(drawn, axis=0) > 35)


@pytest.mark.parametrize("fps", [None, 10.0])
def test_views_differ(fps: float | None) -> None:
    times = np.arange(200) / 25
    sampling = Sampling(num_frames=16, fps=fps)
    for views in (2, 3, 5):
        chosen = {
            tuple(sampling.indices(times, view=view, num_views=views).tolist())
            for view in range(views)
        }
        assert len(chosen) == views


def test_dense_views_reach_from_the_first_to_the_last_frame() -> None:
    times = np.arange(100) / 10
    sampling = Sampling(num_frames=5, fps=10.0)
    assert sampling.indices(times, view=0, num_views=3).tolist() == [0, 1, 2, 3, 4]
    assert sampling.indices(times, view=2, num_views=3).tolist() == [95, 96, 97, 98, 99]
    middle = sampling.indices(times, view=1, num_views=3)
    assert middle.tolist() == sampling.indices(times).tolist()


def test_a_dense_window_goes_by_time() -> None:
    # 30 frames a second for one second, then one frame a second.
    times = np.concatenate([np.arange(30) / 30, np.arange(1, 11)])
    indices = Sampling(num_frames=4, fps=1.0).indices(times, view=1, num_views=2)
    assert times[indices].tolist() == [7.0, 8.0, 9.0, 10.0]


def test_a_spread_clip_goes_by_time() -> None:
    times = np.concatenate([np.arange(30) / 30, np.arange(1, 11)])
    chosen = times[Sampling(num_frames=10).indices(times)]
    assert np.sum(chosen < 1) == 1


@pytest.mark.parametrize("source_fps", [12.0, 25.0, 30000 / 1001])
def test_half_the_rate_takes_every_other_frame(source_fps: float) -> None:
    times = np.arange(60) / source_fps
    indices = Sampling(num_frames=20, fps=source_fps / 2).indices(times, view=0, num_views=2)
    assert indices.tolist() == list(range(0, 40, 2))


def test_a_short_video_repeats_its_last_frame_in_a_dense_window() -> None:
    indices = Sampling(num_frames=6, fps=10.0).indices(np.arange(3) / 10)
    assert indices.tolist() == [0, 1, 2, 2, 2, 2]


def test_the_generator_decides() -> None:
    times = np.arange(500) / 30
    for fps in (None, 5.0):
        sampling = Sampling(num_frames=8, fps=fps)
        one, same, other = (
            sampling.indices(times, rng=np.random.default_rng(seed)).tolist() for seed in (4, 4, 5)
        )
        assert one == same
        assert one != other


@pytest.mark.parametrize(
    "wrong", [{"num_frames": 0}, {"fps": 0.0}, {"fps": -2.0}, {"fps": math.nan}, {"fps": math.inf}]
)
def test_wrong_settings(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Sampling(**wrong)


@pytest.mark.parametrize(("view", "num_views"), [(1, 1), (-1, 3), (3, 3), (0, 0)])
def test_wrong_views(view: int, num_views: int) -> None:
    with pytest.raises(UsageError, match="view"):
        Sampling().indices(np.arange(5.0), view=view, num_views=num_views)


def test_no_frames() -> None:
    with pytest.raises(UsageError, match="no frame"):
        Sampling().indices(np.empty(0))


def test_a_random_spread_has_even_steps() -> None:
    times = np.arange(800) / 25
    rng = np.random.default_rng(0)
    starts = set()
    for _ in range(20):
        chosen = Sampling(num_frames=8).indices(times, rng=rng)
        assert set(np.diff(chosen)) <= {99, 100, 101}
        starts.add(int(chosen[0]))
    assert len(starts) > 10
