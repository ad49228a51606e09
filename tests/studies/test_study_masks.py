from __future__ import annotations

import pytest
import torch

from studies.masks import (
    KINDS,
    NO_MASK,
    MaskCost,
    MaskedAccuracy,
    RandomMask,
    RandomMasked,
)
from videorwkv import LCRConfig, build_model
from videorwkv.errors import ConfigError
from videorwkv.models import Inputs

CONFIG = LCRConfig(image_size=32, patch_size=8, width=16, head_width=8, depth=2, num_classes=3)


def inputs(batch: int = 2, frames: int = 6) -> Inputs:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, frames, 32, 32)
    return Inputs(
        torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=generator),
        torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
    )


def random_mask(ratio: float, batch: int = 2) -> RandomMask:
    return RandomMask(torch.zeros(batch, 16), ratio, torch.Generator().manual_seed(0))


def test_patches_are_drawn_anew_in_every_frame_and_clip() -> None:
    keep_TBJ, weights_TBL, after = random_mask(0.5).choose(inputs(), 8)
    assert keep_TBJ.shape == (6, 2, 8)
    assert torch.equal(keep_TBJ, keep_TBJ.sort(-1).values)
    assert len({tuple(frame.flatten().tolist()) for frame in keep_TBJ}) > 1
    assert not torch.equal(keep_TBJ[:, 0], keep_TBJ[:, 1])
    assert torch.allclose(weights_TBL.sum(-1), torch.ones(6, 2))
    # Only what was computed counts: after the first frame that is half of the patches.
    assert torch.equal(weights_TBL[0, 0].nonzero().flatten(), keep_TBJ[0, 0])
    assert (after.count_BL > 0).sum() > 2 * 8


def test_random_masks_run_in_pieces_and_are_the_same_every_time() -> None:
    torch.manual_seed(0)
    model = build_model(CONFIG).eval()
    clips = inputs(batch=4, frames=40)  # more tokens than go through the model at once
    with torch.inference_mode():
        first, second = (RandomMasked(model, 0.5).eval().scan(clips) for _ in range(2))
        assert torch.equal(first[0], second[0])
        assert first[0].shape == (4, 40, 3)
        assert not torch.allclose(first[0], model.scan(clips)[0])
        # A share that leaves out no patch changes nothing.
        assert torch.allclose(RandomMasked(model, 0.01).eval()(clips), model(clips), atol=1e-5)


def test_left_out_patches_keep_their_memory() -> None:
    torch.manual_seed(0)
    model = build_model(CONFIG).eval()
    masked = RandomMasked(model, 0.75)
    with torch.inference_mode():
        _, state = masked.scan(inputs(frames=1))
        moved = state.hidden_NBLC.abs().sum((0, 3)) > 0
        assert moved.sum(1).tolist() == [4, 4]
        _, later = masked.scan(inputs(frames=1), state)
        same = (later.hidden_NBLC == state.hidden_NBLC).all(3).all(0)
        assert same.sum(1).tolist() == [12, 12]


def test_measures_are_told_apart() -> None:
    measures = [MaskedAccuracy(kind=kind, ratio=r) for kind in KINDS for r in (0.5, 0.75)]
    assert len({repr(m) for m in measures}) == len({m.name for m in measures}) == 6
    assert measures[0].options == (("tube_mask_ratio", 0.5),)
    assert measures[2].options == ()
    assert measures[-1].options == (("motion_mask_ratio", 0.75),)
    assert not measures[0].needs_generated
    with pytest.raises(ConfigError, match="Did you mean 'motion'"):
        MaskedAccuracy(kind="mtion", ratio=0.5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="between 0 and 1"):
        MaskedAccuracy(kind="tube", ratio=1.0)


def test_cost_falls_with_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = MaskCost(ratios=(0.0, 0.5), quick_size=64, frames=2, batch_size=1)
    values = cost.probe(quick=True, device="cpu")
    rows = {(row["case"], row["ratio"]): row for row in values["rows"]}
    inference = {(NO_MASK, 0.0), *((kind, 0.5) for kind in KINDS)}
    assert rows.keys() == {("training", 0.0), ("training", 0.5), *inference}
    for case in ("training", *KINDS):
        whole = rows["training" if case == "training" else NO_MASK, 0.0]
        assert rows[case, 0.5]["macs"] < whole["macs"]
        assert rows[case, 0.5]["ms"] > 0
    assert values["tokens"] == (64 // 16) ** 2
