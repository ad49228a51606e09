"""The peer `mixer="joint"`: LCR's interface, every earlier frame seen, none of the later ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny_models
import torch
from tiny_models import make_inputs, make_model

from videorwkv.errors import ConfigError, UsageError
from videorwkv.models import LCR, build_model, lcr
from videorwkv.models.joint import JointLCR
from videorwkv.training.diagnostics import examine

SMALL = replace(tiny_models.SMALL, mixer="joint", cell="none")
VARIANTS = {
    "default": SMALL,
    "cls": replace(SMALL, readout="cls"),
    "no edges": replace(SMALL, edges="none", key_value_source="frame"),
    "learned edge strength": replace(SMALL, learn_edge_strength=True),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_forward_scan_step_and_every_cut_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = make_model(VARIANTS[name]), make_inputs(2, 5)
    assert isinstance(model, JointLCR)
    with torch.inference_mode():
        whole_BTK, _ = model.scan(inputs)
        assert torch.allclose(model(inputs), whole_BTK[:, -1], atol=1e-6)
        state = model.init_state(2)
        for t in range(5):
            logits_BK, state = model.step(inputs.at(t, t + 1), state)
            assert torch.allclose(logits_BK, whole_BTK[:, t], atol=1e-5)
        for cut in range(1, 5):
            first_BTK, state = model.scan(inputs.at(0, cut))
            second_BTK, _ = model.scan(inputs.at(cut, 5), state)
            assert torch.allclose(torch.cat([first_BTK, second_BTK], 1), whole_BTK, atol=1e-5)
        monkeypatch.setattr(lcr, "PIECE_TOKENS", 40)  # two frames a piece
        assert torch.allclose(model.scan(inputs)[0], whole_BTK, atol=1e-5)


def test_one_frame_is_softmax_attention_within_it() -> None:
    inputs = make_inputs(2, 1)
    joint = make_model(SMALL, noise=0.5)
    within = build_model(replace(SMALL, mixer="softmax")).eval()
    within.load_state_dict(joint.state_dict())
    with torch.inference_mode():
        assert torch.allclose(joint(inputs), within(inputs), atol=1e-6)
        # With more frames it sees what the other can't.
        inputs = make_inputs(2, 4)
        assert not torch.allclose(joint(inputs), within(inputs), atol=1e-3)


def test_checkpointed_frames_give_the_same_gradients() -> None:
    inputs, found = make_inputs(2, 4), []
    for kept in (0, 1, 3):
        model = make_model(SMALL).train()
        model.checkpoint_frames = kept
        model(inputs).square().sum().backward()
        found.append([p.grad for p in model.parameters()])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.allclose(a, b, atol=1e-4)


def test_masks_and_signs() -> None:
    model, inputs = make_model(SMALL), make_inputs(2, 4)
    state = model.init_state(2, tube_mask_ratio=0.5)
    logits_BTK, _ = model.scan(inputs, state)
    assert logits_BTK.shape == (2, 4, 5)
    signs = examine(model, inputs, torch.tensor([0, 1]))
    assert all(norm > 0 for norm in signs.gradient_by_layer)


def test_what_does_not_go_is_refused() -> None:
    model = make_model(SMALL)
    with pytest.raises(UsageError, match="motion_mask_ratio"):
        model.init_state(1, motion_mask_ratio=0.5)
    with pytest.raises(UsageError, match="no inference form"):
        model.for_inference()
    with pytest.raises(UsageError, match="can't be compiled"):
        model.enable_compile()
    with torch.inference_mode(), pytest.raises(UsageError, match="stream 1 of a batch"):
        model.scan(make_inputs(2, 2))[1].reset(1)
    with pytest.raises(ConfigError, match="build_model"):
        LCR(SMALL)
    for name, value in (("cell", "gated"), ("scan", "forward")):
        with pytest.raises(ConfigError, match=name):
            build_model(replace(SMALL, **{name: value}))
