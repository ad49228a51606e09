"""A source that drops and comes back, on a clock of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from videorwkv.errors import DecodeError, UsageError
from videorwkv.video import Frame
from videorwkv.video.array import ArrayVideo
from videorwkv.video.reconnect import WAITS, Reconnecting


class World:
    """A camera of 10 frames a second, its network, and the time that passes there."""

    def __init__(self, plan: list[int | str]) -> None:
        self.now = 100.0
        self.plan = plan
        self.waited: list[float] = []
        self.told: list[tuple[str, dict[str, Any]]] = []

    def open(self) -> ArrayVideo:
        if not self.plan:
            raise KeyboardInterrupt  # the test's end
        part = self.plan.pop(0)
        if isinstance(part, str):
            raise DecodeError(part)
        return Connection(self, part)

    def wait(self, seconds: float) -> bool:
        self.waited.append(seconds)
        self.now += seconds
        return False

    def camera(self) -> Reconnecting:
        return Reconnecting(
            "door",
            self.open,
            lambda what, about: self.told.append((what, about)),
            clock=lambda: self.now,
            wait=self.wait,
        )


class Connection(ArrayVideo):
    def __init__(self, world: World, count: int) -> None:
        super().__init__("door", np.zeros((count, 8, 8, 3), np.uint8), np.arange(count) / 10)
        self.world = world

    def __iter__(self) -> Iterator[Frame]:
        for number, frame in enumerate(super().__iter__()):
            self.world.now += 0.1 * bool(number)
            yield frame
        raise DecodeError("door: the stream broke off: unplugged.")


def test_time_goes_on_while_it_is_away() -> None:
    world = World([3, "no route to host", "no route to host", 2])
    video = world.camera()
    times: list[float] = []
    with contextlib.suppress(KeyboardInterrupt):
        for frame in video:
            times.append(frame.time)
    # Away for 1 + 2 + 4 seconds.
    np.testing.assert_allclose(times, [0.0, 0.1, 0.2, 7.2, 7.3])
    assert world.waited[:3] == [1.0, 2.0, 4.0]
    assert [what for what, _ in world.told] == ["lost", "back", "lost"]
    assert "unplugged" in world.told[0][1]["reason"]
    assert world.told[1][1] == {"seconds": pytest.approx(7.0), "attempts": 3}
    assert (video.drops, video.is_away) == (2, True)


def test_waits_grow_up_to_a_limit_and_begin_anew_after_a_frame() -> None:
    world = World([*["busy"] * 8, 1, "busy"])
    with pytest.raises(KeyboardInterrupt):
        list(world.camera())
    assert world.waited == [*WAITS, WAITS[-1], WAITS[-1], *WAITS[:2]]
    assert world.told[0] == ("lost", {"reason": "busy"})  # before its first frame


def test_closing_ends_the_waiting() -> None:
    world = World(["busy"])
    video = Reconnecting("door", world.open, lambda what, about: video.close())
    assert list(video) == []
    with pytest.raises(UsageError, match="closed"):
        iter(video)
    with pytest.raises(UsageError, match="has no end"):
        world.camera().times()


def test_what_is_no_drop_ends_it() -> None:
    def wrong() -> ArrayVideo:
        raise UsageError("give --source-fps")

    with pytest.raises(UsageError, match="source-fps"):
        list(Reconnecting("door", wrong))
