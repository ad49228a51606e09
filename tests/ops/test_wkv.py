"""Parity of every backend with the reference: outputs and all gradients."""

from __future__ import annotations

import functools

import pytest
import torch

from videorwkv.errors import UsageError
from videorwkv.ops import native
from videorwkv.ops.wkv import MIN_LOG_DECAY, prepare, read, scan_backend, wkv, wkv_reference

NAMES = ("r", "k", "v", "log_decay", "bonus")
BACKENDS = (
    "chunked",
    pytest.param(
        "native",
        marks=pytest.mark.skipif(native.missing() is not None, reason=str(native.missing())),
    ),
)
# Against float64: what the inputs' own rounding costs is the same for both.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 6e-3}


def make(
    length: int,
    dtype: torch.dtype,
    *,
    batch: int = 3,
    heads: int = 2,
    width: int = 8,
    decay: str = "spread",
):
    generator = torch.Generator().manual_seed(length)
    r, k, v = (
        torch.randn(batch, length, heads, width, generator=generator, dtype=torch.float64)
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


@functools.cache
def reference(length: int, dtype: torch.dtype, scan: str, **shape):
    """Inputs, outputs and gradients of the definition, in float64."""
    inputs = make(length, dtype, **shape)
    doubles = [x.detach().double().requires_grad_() for x in inputs]
    out = wkv_reference(*doubles, scan=scan)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).double()
    grads = torch.autograd.grad((out * weight).sum(), doubles, allow_unused=True)
    return inputs, out.detach(), weight, grads


def errors(backend: str, length: int, dtype: torch.dtype, scan: str, **shape) -> dict[str, float]:
    """Of output and gradients against the definition, each as a part of what is allowed."""
    tolerance = TOLERANCE[dtype]
    inputs, wanted, weight, wanted_grads = reference(length, dtype, scan, **shape)
    got = wkv(*inputs, scan=scan, backend=backend)
    assert got.dtype == dtype
    found = {"out": relative(got, wanted) / tolerance}
    grads = torch.autograd.grad((got * weight.to(got.dtype)).sum(), inputs)
    for name, x, grad, wanted_grad in zip(NAMES, inputs, grads, wanted_grads, strict=True):
        assert grad.dtype == x.dtype, name
        if length <= 2 and name == "log_decay":  # neighbours do not decay: the gradient is zero
            assert wanted_grad is None or float(wanted_grad.abs().max()) == 0
            found[name] = float(grad.abs().max()) / (30 * tolerance)
            continue
        # The decay's gradient is a difference of sums up to 64 times larger (w^(i-m), w^(m-j)).
        bound = 30 * tolerance if name == "log_decay" else 4 * tolerance
        found[name] = relative(grad, wanted_grad) / bound
    return found


@pytest.mark.parametrize("scan", ["bidirectional", "forward"])
@pytest.mark.parametrize("decay", ["spread", "strongest", "none"])
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 197])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_reference(backend, length, dtype, decay, scan):
    found = errors(backend, length, dtype, scan, decay=decay)
    assert found.keys() == {"out", *NAMES}
    assert all(error < 1 for error in found.values()), found


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("batch", "heads", "width"), [(1, 1, 3), (2, 3, 20), (1, 2, 64), (2, 1, 80)]
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_shapes(backend, batch, heads, width, dtype):
    found = errors(backend, 35, dtype, "bidirectional", batch=batch, heads=heads, width=width)
    assert all(error < 1 for error in found.values()), found


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


@pytest.mark.parametrize("scan", ["bidirectional", "forward"])
@pytest.mark.parametrize("length", [1, 2, 65])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradcheck(backend, length, scan):
    inputs = make(length, torch.float64, batch=2, heads=1, width=2)
    with torch.no_grad():
        inputs[3].clamp_(MIN_LOG_DECAY + 0.1, -0.1)  # room for the finite differences
    assert torch.autograd.gradcheck(lambda *x: wkv(*x, scan=scan, backend=backend), inputs)


@pytest.mark.parametrize("length", [5, 130])
@pytest.mark.parametrize("backend", [*BACKENDS, "reference"])
def test_prepared_frames_are_the_frames(backend, length):
    r, k, v, log_decay, bonus = make(length, torch.float32)
    whole = wkv(r, k, v, log_decay, bonus, backend=backend)
    # A batch of 3 as 3 frames of one clip.
    parts = prepare(k, v, log_decay, bonus, backend=backend).frames(3)
    for frame, part in enumerate(parts):
        one = read(r[frame : frame + 1], part)
        assert torch.allclose(one, whole[frame : frame + 1], atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_of_several_types(backend):
    r, k, v, log_decay, bonus = make(20, torch.float32)
    wanted = wkv(r, k, v.bfloat16().float(), log_decay, bonus, backend=backend)
    got = wkv(r, k, v.bfloat16(), log_decay.double(), bonus, backend=backend)
    assert got.dtype == torch.float32
    assert relative(got, wanted) < 1e-6


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_gradients_and_under_autocast(backend):
    inputs = make(20, torch.float32)
    wanted = wkv(*inputs, backend=backend)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        prepared = prepare(*inputs[1:], backend=backend)
        with torch.autocast("cpu", enabled=False):
            assert torch.equal(read(inputs[0], prepared), wanted)
        assert torch.equal(wkv(*inputs, backend=backend), wanted)


@pytest.mark.parametrize("backend", BACKENDS)
def test_uninitialised_memory_is_never_read(backend, monkeypatch):
    def poisoned(*args, **kwargs):
        out = torch.zeros(*args, **kwargs)
        return out.fill_(float("nan")) if out.is_floating_point() else out

    def run() -> list[torch.Tensor]:
        out = wkv(*inputs, backend=backend)
        return [out, *torch.autograd.grad(out.sum(), inputs)]

    inputs = make(67, torch.float32)
    wanted = run()
    monkeypatch.setattr(torch, "empty", poisoned)
    monkeypatch.setattr(torch, "empty_like", lambda x, **kw: torch.full_like(x, float("nan"), **kw))
    for got, want in zip(run(), wanted, strict=True):
        assert torch.equal(got, want)


def test_errors():
    r, k, v, log_decay, bonus = make(4, torch.float32)
    with pytest.raises(UsageError, match="Did you mean 'chunked'"):
        wkv(r, k, v, log_decay, bonus, backend="chunkd")
    with pytest.raises(UsageError, match="Did you mean 'native'"), scan_backend("nativ"):
        pass
    with pytest.raises(UsageError, match="Unknown scan"):
        wkv(r, k, v, log_decay, bonus, scan="backward")
    with pytest.raises(UsageError, match=r"\[B, L, H, D\]"):
        wkv(r, k[:, :2], v, log_decay, bonus)
    with pytest.raises(UsageError, match=r"\[H, D\]"):
        wkv(r, k, v, log_decay[:1], bonus)
    with pytest.raises(UsageError, match="log_decay must lie"):
        wkv(r, k, v, log_decay - 3, bonus)
