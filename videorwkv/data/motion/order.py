"""Clips whose class is the order of what happens in them: `motion:order=3,frames=48`.

A clip shows each of the movements left, right, up and down (the first two, three or four of them)
once; the class is their order, `right-left-up` say. At the start of each movement there is a cut:
subject and ground stand at a new random place, the subject at a new angle and size.

**Without the order of the frames nothing tells the class, by construction.** Every clip of every
class holds one part of each movement. The parts are drawn independently and alike whatever their
place in the order, their lengths too, so the *set* of the frames has the same distribution in every
class; a model that reads shuffled frames is at chance, whatever it has learned. Without the cuts it
would not be so: left-then-up and up-then-left pass through different places.

A model that sees a few frames at a time can still tell the order without remembering anything: it
sees one movement turn into the next. With `pause=4` there are four still frames before and four
after each movement, and a clip begins and ends with another still scene. So a cut, which can be
seen, comes before the first movement and after the last as well, and where they begin is as random
as for all others, down to the step at which frames are sampled (2 or 4): no stretch of up to eight
frames tells which movement comes first, not even by the clip's ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np

SEPARATOR = "-"
# Frames by which a clip with pauses may begin later; 0 to 3 make every remainder of 2 and of 4.
LATER = 3
ACTIONS = ("left", "right", "up", "down")
_PAIRS = (
    ("left", "right"),
    ("up", "down"),
    ("approach", "recede"),
    ("clockwise", "counterclockwise"),
)
_BACKWARDS = dict([*_PAIRS, *(pair[::-1] for pair in _PAIRS)])


def orders(count: int) -> tuple[str, ...]:
    """The classes: all orders of the first `count` movements, sorted by name."""
    return tuple(sorted(SEPARATOR.join(names) for names in permutations(ACTIONS[:count])))


class Scene(NamedTuple):
    """Frames between two cuts: `still`, then `moving` with the movement `label`, then the rest
    still again."""

    label: str
    frames: int
    still: int
    moving: int


def least_frames(count: int, pause: int) -> int:
    """Frames that a clip of `count` movements needs, four of them moving in each on average."""
    return 4 * count + _still_frames(count, pause)


def scenes(labels: Sequence[str], frames: int, pause: int, rng: np.random.Generator) -> list[Scene]:
    """What a clip of these movements shows: a scene for each, and with a pause a still one before
    and after them."""
    count = len(labels)
    moving = lengths(count, frames - _still_frames(count, pause), rng)
    parts = [
        Scene(label, length + 2 * pause, pause, length)
        for label, length in zip(labels, moving, strict=True)
    ]
    if not pause:
        return parts
    later = int(rng.integers(LATER + 1))
    first, last = (Scene("", pause + more, 0, 0) for more in (later, LATER - later))
    return [first, *parts, last]


def _still_frames(count: int, pause: int) -> int:
    return 2 * pause * (count + 1) + LATER if pause else 0


def lengths(count: int, frames: int, rng: np.random.Generator) -> list[int]:
    """Frames of each part, at least half of an equal part; they add up to `frames`.

    Any order of the lengths is as likely as any other, or a long part would tell its place.
    """
    least = frames // (2 * count)
    more = rng.multinomial(frames - count * least, [1 / count] * count)
    return [least + int(value) for value in more]


def backwards(label: str) -> str | None:
    """The class that a clip shows when it is played backwards; None where that is none of them."""
    if SEPARATOR not in label:
        return _BACKWARDS.get(label, label)
    parts = label.split(SEPARATOR)
    seen = [_BACKWARDS.get(name, name) for name in reversed(parts)]
    return SEPARATOR.join(seen) if sorted(seen) == sorted(parts) else None
