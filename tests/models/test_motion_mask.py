"""Motion masking: a budget of tokens a frame, spent on what changed; all else as without a mask."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import SMALL, VARIANTS, make_inputs, make_model
from torch.utils.flop_counter import FlopCounterMode

from videorwkv.errors import UsageError
from videorwkv.models import Inputs, lcr
from videorwkv.models.masking import MotionMask, patches


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
            assert torch.allclose(state.motion.count_BL, end.motion.count_BL)
        unmasked, _ = model.scan(inputs)
        assert not torch.allclose(whole, unmasked, atol=1e-4)
        all_tokens, _ = model.scan(inputs, model.init_state(2, motion_mask_ratio=0.01))
        assert torch.allclose(all_tokens, unmasked, atol=1e-6)


def test_a_frame_leaves_the_memory_of_other_tokens_alone():
    model = make_model(SMALL)
    inputs = make_inputs(2, 4)
    with torch.inference_mode():
        _, state = model.scan(inputs.at(0, 3), model.init_state(2, motion_mask_ratio=0.6))
        keep_TBJ, _, _ = state.motion.choose(inputs.at(3, 4), SMALL.patch_size)
        _, after = model.step(inputs.at(3, 4), state)
    chosen_BL = torch.zeros(2, 9, dtype=torch.bool).scatter(1, keep_TBJ[0], True)
    assert chosen_BL.sum(1).tolist() == [4, 4]
    for name in ("hidden_NBLC", "memory_NBLC", "input_NBLC"):
        same_NBL = (getattr(after, name) == getattr(state, name)).all(-1)
        assert torch.equal(same_NBL, ~chosen_BL.expand_as(same_NBL))


def still(num_frames: int) -> Inputs:
    """Grey, 16 patches, with edges in patch 5."""
    frames = torch.full((1, num_frames, 32, 32, 3), 100, dtype=torch.uint8)
    edges = torch.zeros(1, num_frames, 32, 32, dtype=torch.uint8)
    edges[..., 8:16, 8:16] = 20
    return Inputs(frames, edges)


def test_the_budget_goes_where_most_has_changed_of_late():
    inputs = still(12)
    inputs.frames_BTHWC[:, 3::2, 24:, 24:] = 140  # patch 15 flickers from the fourth frame on
    inputs.frames_BTHWC[:, 3::2, 24:, :8] = 130  # patch 12 does so less
    motion = MotionMask.start(1, 16, 8, 15 / 16)
    keep_TBJ, weights_TBL, _ = motion.choose(inputs, 8)
    assert keep_TBJ.shape == (12, 1, 1)
    chosen = keep_TBJ.flatten().tolist()
    assert chosen[:3] == [5, 5, 5]  # nothing moves yet, so it is the edges
    assert chosen[-1] == 15
    assert chosen == [5] * chosen.count(5) + [15] * chosen.count(15)  # it does not come and go
    # Both were computed, and count by how often and how long ago.
    assert weights_TBL[-1].nonzero()[:, 1].tolist() == [5, 15]
    assert weights_TBL[-1, 0, 15] > weights_TBL[-1, 0, 5] > 0
    assert torch.allclose(weights_TBL.sum(-1), torch.ones(12, 1))
    keep_TBJ, _, _ = MotionMask.start(1, 16, 8, 14 / 16).choose(inputs, 8)
    assert keep_TBJ[-1].flatten().tolist() == [12, 15]


def test_a_quarter_of_the_budget_is_spread_and_stays():
    motion = MotionMask.start(1, 16, 8, 0.5)
    inputs = still(6)
    inputs.frames_BTHWC[:, 1::2, 16:] = 200  # the lower half flickers
    keep_TBJ, _, _ = motion.choose(inputs, 8)
    tube = motion.tube_L.nonzero().flatten().tolist()
    assert len(tube) == 2
    assert tube[0] < 8 <= tube[1]
    for keep_J in keep_TBJ[:, 0].tolist():
        assert len(set(keep_J)) == 8
        assert set(tube) <= set(keep_J)
    assert sum(place >= 8 for place in keep_TBJ[-1, 0].tolist()) == 7


@pytest.mark.parametrize("readout", ["mean", "cls"])
def test_what_was_computed_more_often_counts_more(readout):
    model = make_model(replace(SMALL, readout=readout))
    inputs = make_inputs(2, 4)
    with torch.inference_mode():
        start = model.init_state(2, motion_mask_ratio=0.6)
        _, weights_TBL, _ = start.motion.choose(inputs, SMALL.patch_size)
        logits_BTK, state = model.scan(inputs, start)
        tops = state.hidden_NBLC[-1], state.memory_NBLC[-1]
        if readout == "mean":
            pooled = [(weights_TBL[-1][..., None] * x).sum(1) for x in tops]
        else:
            pooled = [x[:, 0] for x in tops]
        expected_BK = model._classify(torch.cat(pooled, -1)[None])[0]
    assert torch.allclose(logits_BTK[:, -1], expected_BK, atol=1e-5)


def test_cost_falls_in_proportion():
    model = make_model(replace(SMALL, image_size=32))
    inputs = make_inputs(2, 3, size=32)

    def macs(ratio: float) -> int:
        state = model.init_state(2, motion_mask_ratio=ratio)
        with torch.inference_mode():
            keep = state.motion.choose(inputs, 8)[0] if ratio else None
            with FlopCounterMode(display=False) as stems:
                model._tokens(inputs, state, keep)
            with FlopCounterMode(display=False) as counter:
                model.scan(inputs, state)
        return counter.get_total_flops() - stems.get_total_flops()

    assert macs(0.5) < 0.55 * macs(0.0)
    assert macs(0.75) < 0.3 * macs(0.0)


@pytest.mark.parametrize("name", ["default", "clock of change"])
def test_streams_are_independent_and_one_can_be_reset(name):
    model = make_model(VARIANTS[name])
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
    with pytest.raises(UsageError, match=r"motion_mask_ratio is 1.0; it must lie in"):
        model.init_state(1, motion_mask_ratio=1.0)
