"""Motion masking: a budget of tokens a frame, spent on what changed; all else as without a mask."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.models.test_lcr import SMALL, VARIANTS, make_inputs, make_model
from videorwkv.errors import UsageError
from videorwkv.models import Inputs, lcr
from videorwkv.models.masking import Watch, patches


@pytest.mark.parametrize(
    "name", ["default", "published", "no memory", "cls", "learned position", "softmax"]
)
def test_step_scan_and_every_cut_agree(name, monkeypatch):
    model = make_model(VARIANTS[name])
    inputs = make_inputs(2, 5)
    with torch.inference_mode():
        whole, end = model.scan(inputs, model.init_state(2, motion_mask_ratio=0.5))
        state = model.init_state(2, motion_mask_ratio=0.5)
        for t in range(5):
            logits, state = model.step(inputs.at(t, t + 1), state)
            assert torch.allclose(logits, whole[:, t], atol=1e-5)
        assert torch.allclose(state.memory_NBLC, end.memory_NBLC, atol=1e-4)
        # Two frames at a time, as in clips longer than a piece.
        monkeypatch.setattr(lcr, "PIECE_TOKENS", 2 * 2 * state.hidden_NBLC.shape[2])
        pieces, _ = model.scan(inputs, model.init_state(2, motion_mask_ratio=0.5))
        assert torch.allclose(pieces, whole, atol=1e-5)
        for cut in range(1, 5):
            state = model.init_state(2, motion_mask_ratio=0.5)
            first, state = model.scan(inputs.at(0, cut), state)
            second, state = model.scan(inputs.at(cut, 5), state)
            assert torch.allclose(torch.cat([first, second], 1), whole, atol=1e-5)
            assert torch.equal(state.watch.seen_BL, end.watch.seen_BL)
        unmasked, _ = model.scan(inputs)
        assert not torch.allclose(whole, unmasked, atol=1e-4)
        all_tokens, _ = model.scan(inputs, model.init_state(2, motion_mask_ratio=0.01))
        assert torch.allclose(all_tokens, unmasked, atol=1e-6)


def test_a_frame_leaves_the_memory_of_other_tokens_alone():
    model = make_model(SMALL)
    inputs = make_inputs(2, 4)
    with torch.inference_mode():
        _, state = model.scan(inputs.at(0, 3), model.init_state(2, motion_mask_ratio=0.6))
        keep_TBJ, _, _ = state.watch.choose(inputs.at(3, 4), SMALL.patch_size)
        _, after = model.step(inputs.at(3, 4), state)
    chosen_BL = torch.zeros(2, 9, dtype=torch.bool).scatter(1, keep_TBJ[0], True)
    assert chosen_BL.sum(1).tolist() == [4, 4]
    for name in ("hidden_NBLC", "memory_NBLC", "input_NBLC"):
        same_NBL = (getattr(after, name) == getattr(state, name)).all(-1)
        assert torch.equal(same_NBL, ~chosen_BL.expand_as(same_NBL))


def test_the_budget_goes_to_what_changed_and_nothing_waits_for_ever():
    frames = torch.full((1, 6, 32, 32, 3), 100, dtype=torch.uint8)
    edges = torch.zeros(1, 6, 32, 32, dtype=torch.uint8)
    edges[:, :, 8:16, 8:16] = 255  # patch 5 has edges from the first frame on
    frames[:, 3:, 24:, 24:] = 140  # patch 15 changes at the fourth and stays so
    frames[:, 4:, 24:, 24:] = 150
    watch = Watch.start(1, 16, 8, 15 / 16)
    keep_TBJ, share_TB, _ = watch.choose(Inputs(frames, edges), 8)
    assert keep_TBJ.shape == (6, 1, 1)
    assert keep_TBJ[0].item() == 5
    assert share_TB[0].item() == 1 / 16
    # Two at a time: both have been seen, so that what changed in one of them is what counts.
    watch = Watch.start(1, 16, 8, 0.0)
    _, share_TB, watch = watch.choose(Inputs(frames[:, :1], edges[:, :1]), 8)
    assert share_TB.item() == 1
    watch = watch._replace(budget=1)
    frames[:, 3:, :8, :8] = 120  # patch 0 changes less than patch 15, and has to wait
    keep_TBJ, _, _ = watch.choose(Inputs(frames[:, 3:], edges[:, 3:]), 8)
    assert keep_TBJ.flatten().tolist() == [15, 0, 15]


def test_cost_falls_in_proportion():
    model = make_model(replace(SMALL, image_size=32))
    inputs = make_inputs(2, 3, size=32)

    def macs(ratio: float) -> int:
        state = model.init_state(2, motion_mask_ratio=ratio)
        with torch.inference_mode():
            keep = state.watch.choose(inputs, 8)[0] if ratio else None
            with FlopCounterMode(display=False) as stems:
                model._tokens(inputs, state, keep)
            with FlopCounterMode(display=False) as counter:
                model.scan(inputs, state)
        return counter.get_total_flops() - stems.get_total_flops()

    assert macs(0.5) < 0.55 * macs(0.0)
    assert macs(0.75) < 0.3 * macs(0.0)


def test_streams_are_independent_and_one_can_be_reset():
    model = make_model(SMALL)
    inputs = make_inputs(3, 4)
    with torch.inference_mode():
        _, state = model.scan(inputs.at(0, 2), model.init_state(3, motion_mask_ratio=0.5))
        logits, state = model.scan(inputs.at(2, 4), state.reset(1))
        alone = model.init_state(1, motion_mask_ratio=0.5)
        fresh, _ = model.scan(Inputs(*(x[1:2, 2:] for x in inputs)), alone)
        whole, _ = model.scan(inputs, model.init_state(3, motion_mask_ratio=0.5))
    assert torch.allclose(logits[1], fresh[0], atol=1e-5)
    assert torch.allclose(logits[0], whole[0, 2:], atol=1e-5)
    assert torch.allclose(logits[2], whole[2, 2:], atol=1e-5)


def test_patches_are_cut_row_after_row():
    x_FHW1 = torch.arange(2 * 4 * 6).view(2, 4, 6, 1)
    cut = patches(x_FHW1, 2)
    assert cut.shape == (2, 6, 4)
    assert cut[0].tolist()[:4] == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11], [12, 13, 18, 19]]


def test_wrong_ratios():
    model = make_model(SMALL)
    with pytest.raises(UsageError, match="exclude each other"):
        model.init_state(1, motion_mask_ratio=0.5, tube_mask_ratio=0.5)
    with pytest.raises(UsageError, match=r"ratio \(1.0\) must lie in"):
        model.init_state(1, motion_mask_ratio=1.0)
