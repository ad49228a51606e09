"""Small changes that a hostile or a damaged file may have: the same ones for the same seed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

# What may stand where something else is expected. `[[...]]` is as deep as JSON's own reader goes.
STRANGE: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**9, 10**19, 10**400, -0.5, 1e308, "", "x", "\x1b[2J", "../../x"),
    *([], {}, ["x"], [[[[[]]]]], {"x": {"x": {}}}, ["left", "left"], float("nan"), "9" * 5000),
)


def flipped_bits(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Copies that differ in one bit each."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        changed = bytearray(content)
        changed[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        yield bytes(changed)


def changed_values(values: Any, count: int, seed: int) -> Iterator[Any]:
    """Copies of nested dicts and lists in each of which one part is strange, missing or doubled."""
    rng = np.random.default_rng(seed)
    everywhere = list(places(values))
    for _ in range(count):
        changed = copy.deepcopy(values)
        *parents, last = everywhere[rng.integers(len(everywhere))]
        holder = changed
        for key in parents:
            holder = holder[key]
        if rng.random() < 0.15:
            del holder[last]
        elif isinstance(holder, list) and rng.random() < 0.3:
            holder.append(holder[last])
        else:
            holder[last] = STRANGE[rng.integers(len(STRANGE))]
        yield changed


def places(values: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items: Any = ()
    if isinstance(values, dict):
        items = values.items()
    elif isinstance(values, list):
        items = enumerate(values)
    for key, value in items:
        yield (*above, key)
        yield from places(value, (*above, key))
