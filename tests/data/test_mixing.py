from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import pytest
import torch
from test_loader import motion

from videorwkv.data.loader import make_loader
from videorwkv.data.mixing import Mix, Mixing, mixed
from videorwkv.errors import ConfigError
from videorwkv.preprocess.inputs import Inputs

BOTH = Mixing(mixup=0.8, cutmix=1.0)


def plan(mixing: Mixing, count: int = 4, *, epoch: int = 0, good: list[bool] | None = None) -> Mix:
    keys = [(epoch, index) for index in range(count)]
    found = mixing.plan(keys, good or [True] * count, seed=0, size=32)
    assert found is not None
    return found


def inputs(*levels: int) -> Inputs:
    frames = torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1, 1).expand(-1, 2, 8, 8, 3)
    return Inputs(frames.contiguous(), frames[..., 0].contiguous())


def test_clips_are_blended_with_both_labels() -> None:
    mix = Mix(torch.tensor([1, 0, 2]), torch.tensor([0.75, 0.75, 1.0]), torch.zeros(3, 4).long())
    for one, _ in zip(mixed(inputs(100, 200, 7), mix), range(2), strict=True):
        assert [int(clip.unique()) for clip in one] == [125, 175, 7]


def test_a_box_of_all_frames_is_the_other_clips() -> None:
    box = torch.tensor([[2, 1, 6, 4]] * 2)
    given = inputs(10, 20)
    found = mixed(given, Mix(torch.tensor([1, 0]), torch.tensor([0.8, 0.8]), box))
    for new, own, other in zip(found.frames_BTHWC, (10, 20), (20, 10), strict=True):
        assert (new[:, 2:6, 1:4] == other).all()
        assert Counter(new.flatten().tolist()) == {other: 2 * 12 * 3, own: 2 * 52 * 3}
    assert (found.edges_BTHW[0, :, 2:6, 1:4] == 20).all()
    assert (given.frames_BTHWC[0] == 10).all()  # unchanged


def test_neighbours_are_mixed_and_the_share_is_that_of_the_pixels() -> None:
    ways: Counter[bool] = Counter()
    for epoch in range(200):
        found = plan(BOTH, 5, epoch=epoch)
        assert found.partner_B.tolist() == [1, 0, 3, 2, 4]
        assert found.share_B[4] == 1
        assert (found.share_B >= 0.5).all()
        for place in (0, 2):
            top, left, bottom, right = found.box_B4[place].tolist()
            share = float(found.share_B[place])
            assert share == float(found.share_B[place + 1])
            if bottom:
                assert share == pytest.approx(1 - (bottom - top) * (right - left) / 32**2)
            ways[bottom > 0] += 1
    assert 100 < ways[True] < 250  # half of 400, less those whose box is empty
    assert not plan(Mixing(mixup=1.0)).box_B4.any()
    assert plan(Mixing(cutmix=1.0), 40).box_B4.any(1).sum() > 30


def test_a_clip_whose_partner_can_not_be_read_stays_as_it_is() -> None:
    found = plan(BOTH, 6, good=[True, False, True, True, False, True])
    assert found.partner_B.tolist() == [0, 2, 1, 3]
    assert torch.equal(found.share_B[[0, 3]], torch.ones(2))
    assert torch.equal(found.share_B[[1, 2]], plan(BOTH, 6).share_B[[2, 3]])
    assert BOTH.plan([(0, 0), (0, 1)], [True, False], seed=0, size=32) is None


@pytest.mark.parametrize("workers", [0, 1])
def test_pairs_stay_together_however_a_batch_is_shared(workers: int) -> None:
    def pairs(**options: Any) -> list[list[Any]]:
        loader = make_loader(
            motion(), batch_size=10, shuffle=True, mixing=BOTH, endless=True, **options
        )
        found = []
        for batch in islice(loader, 4):
            indices = batch.indices.tolist()
            if batch.mix is None:
                found.append([(index, index, 1.0) for index in indices])
                continue
            partners = [indices[place] for place in batch.mix.partner_B]
            found.append(list(zip(indices, partners, batch.mix.share_B.tolist(), strict=True)))
        loader.close()
        return found

    whole = pairs()
    parts = [pairs(part=(n, 3), workers=workers * (n == 1)) for n in range(3)]
    assert [[pair for part in parts for pair in part[n]] for n in range(4)] == whole
    assert all(one != other for one, other, _ in whole[0])


def test_ranges() -> None:
    for wrong in ({"mixup": -1.0}, {"cutmix": float("nan")}):
        with pytest.raises(ConfigError, match=r"alpha of a Beta distribution, in \[0, 100\]"):
            Mixing(**wrong)
