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
sees one movement turn into the next. `pause=4` stands still for four frames before and four after
each movement, the first and the last like all others: then no stretch of frames shorter than that
tells which comes first, since nothing before or after a movement says that it is one of those. Only
the first frame of a clip, with none before it, can be told from the others.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

SEPARATOR = "-"
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


def lengths(count: int, frames: int, rng: np.random.Generator) -> list[int]:
    """Frames of each part, half of its even share at least; they add up to `frames`.

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
