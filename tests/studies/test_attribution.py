"""Evidence adds up to the logits, hooks see all frames, and leaving tokens out takes the right
ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny_models
import torch
from tiny_models import SMALL, make_inputs
from torch import Tensor

from studies.attribution import LEAST, MOST, ORDERS, RANDOM, LeavingOut, classify, look
from videorwkv.errors import ConfigError, UsageError
from videorwkv.models import Inputs, LCRConfig, lcr
from videorwkv.models.lcr import LCR

VARIANTS = {
    "default": SMALL,
    "layer norm": replace(SMALL, head_norm="layer"),
    "no memory": replace(SMALL, cell="none"),
    "lstm": replace(SMALL, cell="lstm"),
    "paper's cell": replace(SMALL, cell="paper"),
    "no edges": replace(SMALL, edges="none", key_value_source="frame"),
}


def make_model(config: LCRConfig) -> LCR:
    model = tiny_models.make_model(config, noise=0.1)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name == "norm_head.running_mean":
                buffer.add_(0.1 * torch.randn_like(buffer))
    return model


@pytest.mark.parametrize("name", VARIANTS)
def test_evidence_adds_up_to_the_logits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for a constant of the class, at every frame, of a clip that runs in pieces."""
    monkeypatch.setattr(lcr, "PIECE_TOKENS", 2 * 2 * 9)  # two frames a piece
    model, inputs = make_model(VARIANTS[name]), make_inputs()
    with torch.inference_mode():
        looked = look(model, inputs)
        logits_BTK, _ = model.scan(inputs)
        if name == "no memory":  # its logits are the mean of the frames'
            count_T1 = torch.arange(1, 5)[:, None]
            total_BTK = logits_BTK * count_T1
            logits_BTK = torch.diff(total_BTK, dim=1, prepend=torch.zeros(2, 1, 5))
    centred_BTK = logits_BTK - logits_BTK.mean(-1, keepdim=True)
    rest_BTK = centred_BTK - looked.evidence_BTLK.sum(2)
    assert looked.evidence_BTLK.shape == (2, 4, 9, 5)
    assert float(rest_BTK.flatten(0, 1).std(0).max()) < 1e-5 < float(centred_BTK.std())


def test_what_the_last_layer_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lcr, "PIECE_TOKENS", 2 * 2 * 9)  # what came before a piece counts
    model, inputs = make_model(SMALL), make_inputs()
    looked = look(model, inputs)
    state, memories, signals = model.init_state(2), [], []
    layer = model.layers[-1]
    layer.forget.register_forward_hook(lambda module, args, out: signals.append(out[0].clone()))  # type: ignore[union-attr]
    with torch.inference_mode():
        memories.append(state.memory_NBLC[-1])
        for t in range(4):
            _, state = model.step(inputs.at(t, t + 1), state)
            memories.append(state.memory_NBLC[-1])
    for t in range(4):
        change_BL = (memories[t + 1] - memories[t]).square().mean(-1).sqrt()
        assert looked.change_BTL is not None
        assert torch.allclose(looked.change_BTL[:, t], change_BL, atol=1e-5)
        assert looked.forget_BTL is not None
        kept_BL = torch.sigmoid(signals[t] + layer.forget_rate).mean(-1)  # type: ignore[operator]
        assert torch.allclose(looked.forget_BTL[:, t], kept_BL, atol=1e-5)
    assert looked.gate_BTL.shape == (2, 4, 9)
    assert float(looked.gate_BTL.min()) > 0
    # Nothing is left behind that would go on collecting.
    assert not layer._forward_hooks


def test_without_memory_or_forget_signal_there_is_no_map_of_it() -> None:
    looked = look(make_model(VARIANTS["no memory"]), make_inputs())
    assert looked.forget_BTL is None
    assert looked.change_BTL is None
    assert not looked.remembers
    looked = look(make_model(VARIANTS["no edges"]), make_inputs())
    assert looked.forget_BTL is not None  # the learned constant
    assert float(looked.forget_BTL.std()) < 1e-6


def test_cls_is_refused() -> None:
    with pytest.raises(UsageError, match="readout=mean"):
        look(make_model(replace(SMALL, readout="cls")), make_inputs())


def test_left_out_tokens_are_not_seen() -> None:
    """Noise in the patches that are left out changes nothing; in the others it does."""
    model, inputs = make_model(replace(SMALL, stem="patch")), make_inputs()
    order_BL = torch.stack([torch.tensor([4, 0, 8, 1, 2, 3, 5, 6, 7])] * 2)
    with torch.inference_mode():
        before_BK = classify(model, inputs, order_BL, 1 / 3)
        for place, same in ((0, True), (4, True), (8, True), (7, False)):
            frames = inputs.frames_BTHWC.clone()
            row, column = 8 * (place // 3), 8 * (place % 3)
            frames[:, :, row : row + 8, column : column + 8] = 0
            after_BK = classify(model, Inputs(frames, inputs.edges_BTHW), order_BL, 1 / 3)
            assert torch.allclose(before_BK, after_BK, atol=1e-6) == same


def test_orders_of_tokens() -> None:
    measure = LeavingOut(draws=2)
    important_BL = torch.tensor([[0.2, 0.1, 0.3], [-0.1, 0.5, 0.0]])
    evidence_BL = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    orders = measure._orders(important_BL, evidence_BL, [5, 6])
    assert tuple(orders) == ORDERS
    assert orders[MOST][0].tolist() == [[2, 0, 1], [1, 2, 0]]
    assert orders[LEAST][0].tolist() == [[1, 0, 2], [0, 2, 1]]
    assert orders["most evidence"][0].tolist() == [[0, 1, 2], [2, 1, 0]]
    assert orders["least evidence"][0].tolist() == [[2, 1, 0], [0, 1, 2]]
    first, second = orders[RANDOM]
    assert first.sort(1).values.tolist() == [[0, 1, 2]] * 2
    assert second.sort(1).values.tolist() == [[0, 1, 2]] * 2
    # By clip, not by place in the batch.
    alone = measure._orders(important_BL[:1], evidence_BL[:1], [6])[RANDOM]
    assert torch.equal(first[1], alone[0][0])
    many: list[Tensor] = LeavingOut(draws=8)._orders(important_BL, evidence_BL, [5, 6])[RANDOM]
    assert len({tuple(x.flatten().tolist()) for x in many}) > 2
    assert len(many) == 8


@pytest.mark.parametrize(
    ("options", "message"), [({"shares": (0.0,)}, "shares"), ({"draws": 0}, "draws")]
)
def test_impossible_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LeavingOut(**options)  # type: ignore[arg-type]
