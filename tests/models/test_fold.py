"""`for_inference`: the same numbers, the same state, whatever the configuration."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from tiny_models import SMALL, VARIANTS, make_inputs, make_model

from videorwkv.errors import UsageError
from videorwkv.models import LCR, LCRConfig, layer


def trained(config: LCRConfig) -> LCR:
    """A model whose batch norms have seen something."""
    model = make_model(config).train()
    with torch.no_grad():
        model.scan(make_inputs(4, 4))
    return model.eval()


@pytest.mark.parametrize("name", VARIANTS)
def test_same_numbers_and_same_state(name):
    model = trained(VARIANTS[name])
    fast = model.for_inference()
    inputs = make_inputs(2, 5, seed=1)
    with torch.inference_mode():
        wanted, end = model.scan(inputs)
        got, got_end = fast.scan(inputs)
        assert torch.allclose(got, wanted, atol=1e-5)
        assert torch.allclose(got_end.memory_NBLC, end.memory_NBLC, atol=1e-5)
        assert torch.allclose(got_end.input_NBLC, end.input_NBLC, atol=1e-4)
        # Half of the stream by the one, half by the other.
        _, state = model.scan(inputs.at(0, 2))
        for t in range(2, 5):
            logits, state = fast.step(inputs.at(t, t + 1), state)
            assert torch.allclose(logits, wanted[:, t], atol=1e-5)
        masks = ({"tube_mask_ratio": 0.5}, {"motion_mask_ratio": 0.5})
        for mask in masks if name != "convlstm" else ():
            states = [
                model.init_state(2, generator=torch.Generator().manual_seed(0), **mask)
                for _ in range(2)
            ]
            wanted, _ = model.scan(inputs, states[0])
            assert torch.allclose(fast.scan(inputs, states[1])[0], wanted, atol=1e-4)


def test_another_size():
    model = trained(SMALL)
    inputs = make_inputs(1, 3, size=40)
    with torch.inference_mode():
        assert torch.allclose(model.for_inference()(inputs), model(inputs), atol=1e-5)


def test_the_model_itself_stays_as_it_is():
    model = trained(SMALL)
    weights = copy.deepcopy(model.state_dict())
    fast = model.for_inference()
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    assert not any(isinstance(x, torch.nn.BatchNorm2d) for x in fast.modules())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    model.train()(make_inputs(2, 2)).sum().backward()
    assert model.head.weight.grad is not None


def test_a_copy_of_a_copy_is_refused():
    fast = trained(SMALL).for_inference()
    with pytest.raises(UsageError, match="of the original"):
        fast.for_inference()


@pytest.mark.parametrize("name", ["default", "lstm", "convlstm"])
def test_half_precision_keeps_memory_in_float32(name):
    model = trained(VARIANTS[name])
    half = model.for_inference(half=True)
    inputs = make_inputs(2, 4)
    with torch.inference_mode():
        wanted, _ = model.scan(inputs)
        got, state = half.scan(inputs)
    assert got.dtype == state.memory_NBLC.dtype == state.input_NBLC.dtype == torch.float32
    assert torch.allclose(got, wanted, atol=0.05)
    assert not torch.allclose(got, wanted, atol=1e-6)


@pytest.mark.parametrize("half", [False, True])
def test_compiled_stream_and_clip_in_one_program_each(half, monkeypatch):
    # Traced and run without code generation, which takes half a minute.
    run = functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", lambda f, mode, **options: run(f, **options))
    layer.compiled_method.cache_clear()
    torch._dynamo.reset()  # whatever other tests have compiled of the same functions
    model = trained(SMALL)
    fast, plain = (model.for_inference(half=half, compiled=c) for c in (True, False))
    inputs = make_inputs(2, 4)
    try:
        with torch.inference_mode(), torch._dynamo.config.patch(error_on_recompile=True):
            wanted, _ = plain.scan(inputs)
            state = fast.init_state(2)
            for t in range(4):
                logits, state = fast.step(inputs.at(t, t + 1), state)
                assert torch.allclose(logits, wanted[:, t], atol=2e-3 if half else 1e-5)
            got, _ = fast.scan(inputs)
            assert torch.allclose(got, wanted, atol=2e-3 if half else 1e-5)
    finally:
        layer.compiled_method.cache_clear()
        torch.compiler.reset()
