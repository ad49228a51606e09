from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from test_loader import motion

from videorwkv.data.dataset import ClipDataset
from videorwkv.data.loader import make_loader
from videorwkv.data.order import Keys, Order, cut
from videorwkv.errors import ConfigError


def keys(dataset: ClipDataset, order: Order, batch_size: int = 4, **options: Any) -> Keys:
    settings = {"seed": 0, "drop_last": False, "endless": False, "part": (0, 1), "pieces": 1}
    return Keys(dataset, order, batch_size=batch_size, **{**settings, **options})


def uneven() -> ClipDataset:
    """Eight clips of one class, two of another, one of a third."""
    dataset = motion(64)
    rows = dataset.manifest.rows
    labels = sorted({row.label or "" for row in rows})[:3]
    counts = zip(labels, (8, 2, 1), strict=True)
    chosen = [[row for row in rows if row.label == label][:count] for label, count in counts]
    dataset.manifest = replace(dataset.manifest, rows=tuple(row for part in chosen for row in part))
    return dataset


def test_balanced_classes_come_equally_often() -> None:
    dataset = uneven()
    assert [len(dataset), dataset.repeats] == [11, 1]
    found = keys(dataset, Order(shuffle=True, classes="balanced"))
    seen: Counter[int] = Counter()
    for epoch in range(6):
        order = found.order(epoch)
        assert len(order) == 11
        counts = Counter(dataset.manifest.rows[index].label for index in order)
        assert sorted(counts.values()) == [3, 4, 4]
        seen.update(order)
    assert len(seen) == 11
    rare = [index for index in seen if index >= 8]
    assert min(seen[index] for index in rare) > max(seen[index] for index in range(8))
    assert found.order(3) == found.order(3) != found.order(4)


def test_repeats_come_in_one_batch() -> None:
    dataset = motion(10, repeats=3)
    found = keys(dataset, Order(shuffle=True, repeats_together=True), batch_size=6)
    batches = [[index for _, index in batch] for batch in found]
    assert sorted(index for batch in batches for index in batch) == list(range(30))
    for batch in batches:
        rows = [index % 10 for index in batch]
        assert Counter(Counter(rows).values()) == {3: 2}
        # Each of another draw, and no clip beside itself.
        assert all(one != other for one, other in pairwise(rows))
    assert batches != [[index for _, index in batch] for batch in _at(found, 1)]
    with pytest.raises(ConfigError, match=r"batch_size \(4\) must be a multiple of repeats \(3\)"):
        keys(dataset, Order(shuffle=True, repeats_together=True))


def _at(found: Keys, epoch: int) -> Keys:
    found.epoch = epoch
    return found


def test_balanced_repeats() -> None:
    dataset = uneven()
    dataset.repeats = 2
    order = Order(shuffle=True, classes="balanced", repeats_together=True)
    found = keys(dataset, order, batch_size=4)
    for batch in found:
        rows = Counter(index % 11 for _, index in batch)
        assert all(count % 2 == 0 for count in rows.values())


def test_parts_of_pairs() -> None:
    clips = list(range(11))
    parts = [cut(clips, number, 4, 2) for number in range(4)]
    assert [clip for part in parts for clip in part] == clips
    assert [len(part) for part in parts] == [2, 4, 2, 3]
    assert [len(cut(clips, number, 4)) for number in range(4)] == [2, 3, 3, 3]


def test_the_usual_order_is_what_it_was() -> None:
    """Runs of earlier versions are resumed."""
    loader = make_loader(motion(), batch_size=11, shuffle=True, seed=3).at(2)
    assert next(iter(loader)).indices.tolist() == [2, 7, 5, 4, 8, 6, 0, 3, 9, 10, 1]
