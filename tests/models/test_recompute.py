from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import SMALL, make_inputs, make_model

from benchmarks.launches import Launches, saved_bytes
from videorwkv.errors import UsageError
from videorwkv.models import LCRConfig
from videorwkv.models.recompute import LittleKept

VARIANTS = {
    "default": {},
    "drop-path, no edges": {"drop_path": 0.3, "edges": "none", "key_value_source": "frame"},
    "affine, one rate": {"scan_affine": True, "forget_source": "rate"},
    "memory that counts change": {"memory_clock": "change"},
}


def step(config: LCRConfig, *, recompute: bool, half: bool) -> tuple[list[torch.Tensor], int]:
    """The loss and all gradients, and bytes kept for them."""
    model = make_model(config).train()
    if recompute:
        model.enable_recompute()
    torch.manual_seed(1)  # drop-path
    with saved_bytes(model) as kept, torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = model.scan(make_inputs(3, 4))[0].square().mean()
        size = kept()
    loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)], size


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_the_same_numbers_with_less_kept(name, half):
    # A stem that keeps little itself.
    config = replace(SMALL, stem="patch", **VARIANTS[name])
    (wanted, all_of_it), (found, kept) = (
        step(config, recompute=on, half=half) for on in (False, True)
    )
    assert len(wanted) == len(found)
    for a, b in zip(wanted, found, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7 * float(a.abs().max() + 1))
    assert kept < 0.8 * all_of_it


# Bounds on the difference of a gradient, relative to the largest: a norm that two read is made
# twice, so its gradient is added up in another order, with 8 bits in bfloat16.
@pytest.mark.parametrize(("half", "bound"), [(False, 1e-5), (True, 3e-2)])
@pytest.mark.parametrize(
    "changes",
    [
        {"past": "below", "depth": 3, "tube_mask_ratio": 0.3},
        {"past": "none", "memory_clock": "change", "position": "learned", "drop_path": 0.3},
    ],
)
def test_all_frames_at_once(changes, half, bound):
    config = replace(SMALL, stem="patch", **changes)
    (wanted, all_of_it), (found, kept) = (
        step(config, recompute=on, half=half) for on in (False, True)
    )
    for a, b in zip(wanted, found, strict=True):
        assert float((a - b).abs().max()) <= bound * float(a.abs().max()) + 1e-7
    assert kept < 0.8 * all_of_it


@pytest.mark.parametrize("past", ["own", "below"])
def test_second_derivatives_are_refused(past):
    model = make_model(replace(SMALL, stem="patch", past=past, depth=1)).train()
    model.enable_recompute()
    loss = model.scan(make_inputs(1, 2))[0].square().mean()
    with pytest.raises(UsageError, match="create_graph=True"):
        torch.autograd.grad(loss, [*model.stem.parameters()], create_graph=True)


@pytest.mark.parametrize(
    "trained", ["forget_rate", "layers.0.key_value", "layers.1.mix_out", "norm_mix", "edge_stem"]
)
def test_where_all_else_is_frozen(trained):
    found = []
    for recompute in (False, True):
        model = make_model(SMALL).train()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(trained in name)
        if recompute:
            model.enable_recompute()
        model.scan(make_inputs(2, 3))[0].square().mean().backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() != set()
    for name, grad in found[0].items():
        assert torch.allclose(grad, found[1][name], rtol=1e-5)


def test_modules_that_are_looked_at_are_called():
    model = make_model(SMALL).train()
    model.enable_recompute()
    seen: list[str] = []
    model.layers[0].mix_out.register_forward_hook(lambda *_: seen.append("mix_out"))
    model.scan(make_inputs(2, 3))
    assert len(seen) == 3


def test_other_models_refuse():
    model = make_model(replace(SMALL, cell="lstm"))
    with pytest.raises(UsageError, match="checkpoint_frames"):
        model.enable_recompute()


@pytest.mark.parametrize("depth", [2, 3])
def test_the_weights_of_all_layers_are_lowered_by_one_operation(depth):
    model = make_model(replace(SMALL, past="below", depth=depth)).train()
    model.enable_recompute()
    with torch.autocast("cpu", torch.bfloat16), Launches() as forward:
        loss = model.scan(make_inputs(1, 2))[0].square().mean()
    with Launches() as backward:
        loss.backward()
    assert (forward.counts["_foreach_copy_"], backward.counts["_foreach_copy_"]) == (1, 1)
    assert model.layers[0].mix_in.weight.grad.dtype == torch.float32


def test_frozen_layers_need_no_gradient_in_the_lower_type_either():
    model = make_model(replace(SMALL, past="below")).train()
    model.layers[0].requires_grad_(False)
    model.enable_recompute()
    with torch.autocast("cpu", torch.bfloat16):
        frozen, learnt = LittleKept.of(model.layers)
        assert not frozen.mix_in.requires_grad
        assert learnt.mix_in.requires_grad
        loss = model.scan(make_inputs(1, 2))[0].square().mean()
    loss.backward()
    assert model.layers[0].mix_in.weight.grad is None
    assert model.layers[1].mix_in.weight.grad.abs().sum() > 0
