"""In how many goes the wanted frames of a file are decoded, and where each begins. No I/O."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Run(NamedTuple):
    """Frames that are decoded in one go.

    Args:
        key: pts of the key frame to begin with; None begins with the file.
        pts: of the frames that are wanted, increasing.
        last_place: how many packets of the file lie before the last one that has to be decoded.
    """

    key: int | None
    pts: list[int]
    last_place: int


def plan_runs(
    wanted: Sequence[int], places: Mapping[int, int], key_places: Mapping[int, int]
) -> list[Run]:
    """The runs that decode the fewest packets: a seek costs nothing beside decoding a picture.

    A frame needs the last key frame that is shown no later than it, and everything between the two.
    Frames between which no key frame lies share a run.

    Args:
        wanted: pts, increasing, each in `places`.
        places: pts -> how many packets of the file lie before that of the frame.
        key_places: the same of the key frames.
    """
    keys = sorted(key_places)
    runs: list[Run] = []
    for pts in wanted:
        place = places[pts]
        number = bisect_right(keys, pts) - 1
        # Files with a disorder of their own hold frames that are shown after a key frame and
        # stored before it.
        while number >= 0 and key_places[keys[number]] > place:
            number -= 1
        reached = runs[-1].last_place + 1 if runs else 0
        if number >= 0 and key_places[keys[number]] > reached:
            runs.append(Run(keys[number], [pts], place))
        elif runs:
            last = runs[-1]
            runs[-1] = Run(last.key, [*last.pts, pts], max(last.last_place, place))
        else:
            runs.append(Run(None, [pts], place))
    return runs
