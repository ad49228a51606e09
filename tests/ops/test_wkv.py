"""Parity of every backend with the reference: outputs and all gradients."""

from __future__ import annotations

import pytest
import torch

from videorwkv.errors import UsageError
from videorwkv.ops.wkv import MIN_LOG_DECAY, prepare, read, wkv, wkv_reference

NAMES = ("r", "k", "v", "log_decay", "bonus")


def make(length: int, dtype: torch.dtype, *, heads: int = 2, width: int = 8, decay: str = "spread"):
    generator = torch.Generator().manual_seed(length)
    r, k, v = (
        torch.randn(3, length, heads, width, generator=generator, dtype=torch.float64)
        for _ in range(3)
    )
    log_decay = {
        "spread": MIN_LOG_DECAY * torch.rand(heads, width, generator=generator).double(),
        "strongest": torch.full((heads, width), MIN_LOG_DECAY, dtype=torch.float64),
        "none": torch.zeros(heads, width, dtype=torch.float64),
    }[decay]
    bonus = torch.randn(heads, width, generator=generator, dtype=torch.float64)
    tensors = [x.to(dtype) for x in (r, k, v)]
    tensors += [x.to(torch.promote_types(dtype, torch.float32)) for x in (log_decay, bonus)]
    return [x.requires_grad_() for x in tensors]


def relative(got: torch.Tensor, wanted: torch.Tensor) -> float:
    got, wanted = got.detach(), wanted.detach().double()
    return float((got.double() - wanted).norm() / wanted.norm().clamp_min(1e-12))


@pytest.mark.parametrize("scan", ["bidirectional", "forward"])
@pytest.mark.parametrize("decay", ["spread", "strongest", "none"])
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 197])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_chunked_equals_reference(length, dtype, decay, scan):
    # Against float64: what the inputs' own rounding costs is the same for both.
    tolerance = {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 6e-3}[dtype]
    inputs = make(length, dtype, decay=decay)
    wanted_inputs = [x.detach().double().requires_grad_() for x in inputs]
    wanted = wkv_reference(*wanted_inputs, scan=scan)
    got = wkv(*inputs, scan=scan, backend="chunked")
    assert got.dtype == dtype
    assert relative(got, wanted) < tolerance
    weight = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1)).double()
    (wanted * weight).sum().backward()
    (got * weight.to(got.dtype)).sum().backward()
    for name, got_input, wanted_input in zip(NAMES, inputs, wanted_inputs, strict=True):
        if length <= 2 and name == "log_decay":  # neighbours do not decay: the gradient is zero
            assert wanted_input.grad is None or float(wanted_input.grad.abs().max()) == 0
            assert float(got_input.grad.abs().max()) < 30 * tolerance
            continue
        # The decay's gradient is a difference of sums up to 32 times larger (w^(i-m), w^(m-j)).
        bound = 30 * tolerance if name == "log_decay" else 4 * tolerance
        assert relative(got_input.grad, wanted_input.grad) < bound, name


def test_definition_by_hand():
    # Three tokens, one channel: every weight of the equation shows up once.
    r = torch.ones(1, 3, 1, 1)
    k = torch.tensor([1.0, 10.0, 100.0]).reshape(1, 3, 1, 1)
    v = torch.ones(1, 3, 1, 1)
    log_decay = torch.full((1, 1), 0.5).log()
    bonus = torch.full((1, 1), 3.0)
    both = wkv_reference(r, k, v, log_decay, bonus)
    assert both.flatten().tolist() == pytest.approx([3 + 10 + 50, 1 + 30 + 100, 0.5 + 10 + 300])
    forward = wkv_reference(r, k, v, log_decay, bonus, scan="forward")
    assert forward.flatten().tolist() == pytest.approx([3, 1 + 30, 0.5 + 10 + 300])


@pytest.mark.parametrize("length", [1, 2, 65])
def test_gradcheck(length):
    inputs = make(length, torch.float64, heads=1, width=2)
    with torch.no_grad():
        inputs[3].clamp_(MIN_LOG_DECAY + 0.1, -0.1)  # room for the finite differences
    assert torch.autograd.gradcheck(lambda *x: wkv(*x, backend="chunked"), inputs)


@pytest.mark.parametrize("length", [5, 130])
def test_prepared_frames_are_the_frames(length):
    r, k, v, log_decay, bonus = make(length, torch.float32)
    whole = wkv(r, k, v, log_decay, bonus)
    parts = prepare(k, v, log_decay, bonus).frames(3)  # a batch of 3 as 3 frames of one clip
    for frame, part in enumerate(parts):
        one = read(r[frame : frame + 1], part)
        assert torch.allclose(one, whole[frame : frame + 1], atol=1e-5)


def test_uninitialised_memory_is_never_read(monkeypatch):
    def poisoned(*args, **kwargs):
        out = torch.zeros(*args, **kwargs)
        return out.fill_(float("nan")) if out.is_floating_point() else out

    inputs = make(67, torch.float32)
    wanted = wkv(*inputs)
    monkeypatch.setattr(torch, "empty", poisoned)
    monkeypatch.setattr(torch, "empty_like", lambda x, **kw: torch.full_like(x, float("nan"), **kw))
    assert torch.equal(wkv(*inputs), wanted)


def test_errors():
    r, k, v, log_decay, bonus = make(4, torch.float32)
    with pytest.raises(UsageError, match="Did you mean 'chunked'"):
        wkv(r, k, v, log_decay, bonus, backend="chunkd")
    with pytest.raises(UsageError, match="Unknown scan"):
        wkv(r, k, v, log_decay, bonus, scan="backward")
    with pytest.raises(UsageError, match=r"\[B, L, H, D\]"):
        wkv(r, k[:, :2], v, log_decay, bonus)
    with pytest.raises(UsageError, match=r"\[H, D\]"):
        wkv(r, k, v, log_decay[:1], bonus)
    with pytest.raises(UsageError, match="log_decay must lie"):
        wkv(r, k, v, log_decay - 3, bonus)
