from __future__ import annotations

import pytest
import torch

from videorwkv.errors import UsageError
from videorwkv.models import Inputs, LCRConfig, build_model, tube_mask


def test_no_part_of_the_frame_goes_unseen():
    for num_patches, ratio in ((49, 0.5), (49, 0.75), (16, 0.25), (196, 0.9), (7, 0.0), (5, 0.99)):
        keep_BK = tube_mask(num_patches, ratio, 64, generator=torch.Generator().manual_seed(0))
        count = max(1, round(num_patches * (1 - ratio)))
        assert keep_BK.shape == (64, count)
        assert (keep_BK.diff(dim=1) > 0).all()  # sorted, none twice
        edge = torch.arange(count + 1) * num_patches // count
        assert (keep_BK >= edge[:-1]).all()
        assert (keep_BK < edge[1:]).all()
        # By chance every patch is kept some time.
        assert len(keep_BK.unique()) == num_patches


def test_a_mask_of_ones_own() -> None:
    """The patches that are named stay, and no others are seen."""
    config = LCRConfig(image_size=24, patch_size=8, width=16, depth=1, head_width=8, stem="patch")
    torch.manual_seed(0)
    model = build_model(config).eval()
    inputs = Inputs(
        torch.randint(0, 256, (2, 2, 24, 24, 3), dtype=torch.uint8),
        torch.zeros(2, 2, 24, 24, dtype=torch.uint8),
    )
    keep_BK = torch.tensor([[0, 4], [1, 8]])
    state = model.init_state(2, keep_BK=keep_BK)
    assert state.hidden_NBLC.shape[2] == 2
    dark = inputs.frames_BTHWC.clone()
    dark[0, :, 8:16, 8:16] = 0  # patch 4 of both; the second clip leaves it out
    dark[1, :, 8:16, 8:16] = 0
    with torch.inference_mode():
        before, _ = model.scan(inputs, state)
        after, _ = model.scan(Inputs(dark, inputs.edges_BTHW), state)
    assert not torch.allclose(before[0], after[0])
    assert torch.equal(before[1], after[1])


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ([[0, 1]], r"got torch.int64 \[1, 2\]; int64 \[2, kept\]"),
        ([[0.0, 1.0]] * 2, "got torch.float32"),
        ([[]] * 2, "one patch or more"),
        ([[1, 0]] * 2, "must rise"),
        ([[0, 0]] * 2, "must rise"),
        ([[0, 9]] * 2, r"numbers 0 to 9.*0 to 8"),
        ([[-1, 2]] * 2, "numbers -1 to 2"),
    ],
)
def test_impossible_masks_of_ones_own(keep: list[list[float]], message: str) -> None:
    config = LCRConfig(image_size=24, patch_size=8, width=16, depth=1, head_width=8)
    keep_BK = torch.tensor(keep)
    if not keep_BK.numel():
        keep_BK = keep_BK.long()
    with pytest.raises(UsageError, match=message):
        build_model(config).init_state(2, keep_BK=keep_BK)


def test_one_mask_at_a_time() -> None:
    config = LCRConfig(image_size=24, patch_size=8, width=16, depth=1, head_width=8)
    with pytest.raises(UsageError, match="exclude each other"):
        build_model(config).init_state(tube_mask_ratio=0.5, keep_BK=torch.tensor([[0]]))
