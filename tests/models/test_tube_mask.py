from __future__ import annotations

import torch

from videorwkv.models import tube_mask


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
