"""The cell over a clip as one operation, against the loop that defines it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from videorwkv.errors import UsageError
from videorwkv.ops import native
from videorwkv.ops.cell import KINDS, cell

SCRIPT = Path(__file__).with_name("cell_parity.py")
needs_compiler = pytest.mark.skipif(native.missing() is not None, reason=str(native.missing()))
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)
# What there is beside A and the memory before the first frame.
CASES = {
    "gated": ("gate", "rate"),
    "gated, one rate": ("rate",),
    "gated, folded": ("gate",),
    "gated, held": ("gate", "rate", "aside"),
    "gated, one rate, held": ("rate", "aside"),
    "paper": ("gate",),
    "linear": ("gate", "aside"),
}
# Of results and gradients, relative to the largest: float32 sums, and 8 bits of what is stored.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 1e-2}


def make(
    case: str, dtype: torch.dtype, frames: int = 5, width: int = 21, seed: int = 0
) -> list[Tensor | None]:
    """Inputs of `cell`, large and small ones among them."""
    generator = torch.Generator().manual_seed(seed)
    real = torch.promote_types(dtype, torch.float32)
    shape = frames, 2, 3, width

    def draw(*shape: int) -> Tensor:
        size = 10 ** (3 * torch.rand(shape, generator=generator, dtype=torch.float64) - 2)
        return size * torch.randn(shape, generator=generator, dtype=torch.float64)

    inputs: list[Tensor | None] = [draw(*shape).to(dtype)]
    for name in ("gate", "rate", "aside"):
        there = name in CASES[case]
        x = draw(width).to(real) if name == "rate" else draw(*shape).to(dtype)
        if name == "aside" and case != "linear":
            x = -x.abs()
        if name == "gate" and not case.startswith("gated"):
            x = x.sigmoid()
        inputs.append(x if there else None)
    inputs.append(draw(*shape[1:]).to(real))
    return [None if x is None else x.requires_grad_() for x in inputs]


def run(inputs: list, case: str, backend: str, every: bool = True) -> list[Tensor]:
    """Both results, and the gradients of a sum that weights them."""
    kind = KINDS[next(i for i, name in enumerate(KINDS) if case.startswith(name))]
    out, memories = cell(*inputs, kind=kind, every=every, backend=backend)
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    total = (out * weight).sum() + (memories * weight[-len(memories) :].cos()).sum()
    grads = torch.autograd.grad(total, [x for x in inputs if x is not None])
    return [out.detach(), memories.detach(), *grads]


def difference(case: str, dtype: torch.dtype, backend: str, **sizes: int | bool) -> float:
    """The largest against the definition in float64, relative to the largest of each."""
    every = bool(sizes.pop("every", True))
    inputs = make(case, dtype, **sizes)
    wide = [None if x is None else x.detach().double().requires_grad_() for x in inputs]
    pairs = zip(run(wide, case, "reference", every), run(inputs, case, backend, every), strict=True)
    return max(
        float((wanted - got).abs().max() / wanted.abs().max().clamp_min(1)) for wanted, got in pairs
    )


@needs_compiler
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", CASES)
def test_native_is_the_loop(case: str, dtype: torch.dtype) -> None:
    assert difference(case, dtype, "native") < TOLERANCE[dtype]
    # Whole vectors, blocks of a part of the rows, and one frame; the last memory alone.
    assert difference(case, dtype, "native", frames=1, width=2100, every=False) < TOLERANCE[dtype]


@needs_compiler
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_the_function(case: str) -> None:
    inputs = make(case, torch.float64, frames=3, width=3)
    kind = next(name for name in KINDS if case.startswith(name))
    given = [x for x in inputs if x is not None]

    def function(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        rest = iter(tensors)
        return cell(
            *(None if x is None else next(rest) for x in inputs), kind=kind, backend="native"
        )

    assert torch.autograd.gradcheck(function, given)


@needs_compiler
def test_threads_give_the_same_numbers() -> None:
    count = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(run(make("gated", torch.float32, width=1500), "gated", "native"))
    finally:
        torch.set_num_threads(count)
    for one, three in zip(*found, strict=True):
        assert torch.equal(one, three)


@needs_compiler
def test_what_is_no_number_stays_none_and_what_is_held_stays_itself() -> None:
    inputs = make("gated, held", torch.float32)
    with torch.no_grad():
        inputs[0][1, 0, 0, 0] = float("nan")
        inputs[1][1, 0, 0, 1] = float("nan")
        inputs[0][:, 0, 0, 2] = float("inf")
        inputs[3][:, 1] = 0  # nothing moves
        out, memories = cell(*inputs, kind="gated", backend="native")
        wanted, _ = cell(*inputs, kind="gated", backend="reference")
    assert memories[1:, 0, 0, :2].isnan().all()
    assert torch.equal(out.isnan(), wanted.isnan())
    assert torch.equal(memories[:, 1], inputs[4][1].detach().expand_as(memories[:, 1]))


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize(
    ("place", "shape"),
    [(0, (0, 2, 3, 4)), (1, (5, 1, 1, 4)), (2, (1,)), (3, (1, 2, 3, 4)), (4, (1, 3, 4))],
)
def test_what_would_be_read_beyond_its_end_is_refused(
    place: int, shape: tuple[int, ...], backend: str
) -> None:
    inputs = [torch.zeros(5, 2, 3, 4) for _ in range(2)]
    inputs += [torch.zeros(4), torch.zeros(5, 2, 3, 4), torch.zeros(2, 3, 4)]
    inputs[place] = torch.zeros(shape)
    with pytest.raises(UsageError, match=r"must be \[T, B, L, C\]"):
        cell(*inputs, kind="gated", backend=backend)


@needs_compiler
def test_operators_are_well_formed() -> None:
    """torch's own checks of shapes, strides, aliases and autograd."""
    inputs = make("gated, held", torch.float32)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    operations = torch.ops.videorwkv
    for_all = operations.cell_native.default, (*inputs, 0, True)
    plain = [x.detach() for x in inputs]
    given = (plain[0].clone(), None, *plain, 0, False)
    for operation in (for_all, (operations.cell_native_backward.default, given)):
        found = torch.library.opcheck(*operation, test_utils=tests)
        assert found == dict.fromkeys(tests, "SUCCESS")


@needs_triton
def test_triton_is_the_loop() -> None:
    """In a process of its own: triton must be told to interpret before its first import."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(CASES) + 4
    for case, dtype, error in found:
        assert error < TOLERANCE[getattr(torch, dtype)], (case, dtype)
