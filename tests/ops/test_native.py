"""The C kernel: when it is compiled, what it takes, how it lives inside torch's other tools."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from test_wkv import make, relative

from videorwkv.errors import UsageError
from videorwkv.ops import build, native
from videorwkv.ops.chunked import ChunkedPrepared
from videorwkv.ops.wkv import Tokens, choose_backend, prepare, read, scan_backend, wkv

needs_compiler = pytest.mark.skipif(native.missing() is not None, reason=str(native.missing()))


@pytest.fixture
def fresh():
    """Forgets what was found out about compilers, before and after."""

    def forget() -> None:
        build.load.cache_clear()
        native.missing.cache_clear()
        native.origin.cache_clear()

    forget()
    yield
    forget()


# glibc fills what malloc hands out with 0x7f: 3e38 in float32, 1e306 in float64.
FIRST_USE = """
import pathlib, torch
from videorwkv.ops import build
from videorwkv.ops.wkv import wkv
assert not build.cache_folder().exists(), "compiled at import"
generator = torch.Generator().manual_seed(0)
for dtype in (torch.float32, torch.float64, torch.bfloat16):
    r, k, v = (torch.randn(2, 70, 1, 20, generator=generator).to(dtype) for _ in range(3))
    inputs = [r, k, v, -torch.rand(1, 20, generator=generator), torch.ones(1, 20)]
    inputs = [x.requires_grad_() for x in inputs]
    results = []
    for backend in ("native", "chunked"):
        out = wkv(*inputs, backend=backend)
        results.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    for got, wanted in zip(*results):
        assert (got - wanted).norm() <= 2e-2 * wanted.norm(), dtype
print(len(list(build.cache_folder().iterdir())))
"""


@needs_compiler
def test_compiles_on_first_use_into_the_cache(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "MALLOC_PERTURB_": "128"}
    done = subprocess.run(
        [sys.executable, "-c", FIRST_USE], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3"]  # a library for each type, nothing half-written


@needs_compiler
@pytest.mark.usefixtures("fresh")
def test_a_cache_that_can_not_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    inputs = make(5, torch.float32)
    assert wkv(*inputs, backend="native").isfinite().all()


@pytest.mark.usefixtures("fresh")
def test_no_compiler(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    inputs = make(5, torch.float32)
    with pytest.raises(UsageError, match="CC=no-such-compiler is not on the PATH"):
        wkv(*inputs, backend="native")
    name, reason = choose_backend("cpu")
    assert name == "chunked"
    assert "no-such-compiler" in reason
    assert isinstance(prepare(*inputs[1:]), ChunkedPrepared)


@pytest.mark.usefixtures("fresh")
def test_a_compiler_that_fails(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "false")
    assert "can't compile scan.c and cell.c: exit code 1" in str(native.missing())
    assert choose_backend("cpu")[0] == "chunked"


@needs_compiler
@pytest.mark.usefixtures("fresh")
def test_each_type_has_a_library_of_its_own(monkeypatch):
    load = build.load

    def load_or_fail(variant: str) -> build.Library:
        if variant == "bfloat16":
            raise UsageError("this compiler knows no bfloat16")
        return load(variant)

    monkeypatch.setattr(build, "load", load_or_fail)
    name, reason = choose_backend("cpu", torch.bfloat16)
    assert name == "chunked"
    assert "knows no bfloat16" in reason
    inputs = make(5, torch.bfloat16)
    assert wkv(*inputs).isfinite().all()
    with pytest.raises(UsageError, match="knows no bfloat16"):
        wkv(*inputs, backend="native")
    assert choose_backend("cpu", torch.float32)[0] == "native"


@needs_compiler
def test_auto_takes_it_and_says_why():
    name, reason = choose_backend("cpu")
    assert name == "native"
    assert build.compiler()[0] in reason
    prepared = prepare(*make(5, torch.float32)[1:])
    assert isinstance(prepared, Tokens)
    assert prepared.backend == "native"


def test_a_scope_names_the_backend():
    inputs = make(5, torch.float32)
    with scan_backend("chunked"):
        assert choose_backend("cpu") == ("chunked", "named by scan_backend")
        assert isinstance(prepare(*inputs[1:]), ChunkedPrepared)
        with scan_backend("reference"):
            assert prepare(*inputs[1:])[-1] == "reference"
        with scan_backend("triton"), pytest.raises(UsageError, match="triton"):
            prepare(*inputs[1:])
    assert choose_backend("cpu")[1] != "named by scan_backend"


@needs_compiler
def test_is_for_a_cpu():
    inputs = [x.detach().to("meta") for x in make(5, torch.float32)]
    with pytest.raises(UsageError, match="runs on a CPU; the tensors are on 'meta'"):
        wkv(*inputs, backend="native")


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_strides(dtype):
    """Halves of one product, heads first, channels apart, gradients of a sum: none is copied."""
    length, heads, width = 33, 3, 20
    generator = torch.Generator().manual_seed(0)
    both = torch.randn(2, length, 2 * heads * width, generator=generator).to(dtype)
    k, v = (x.unflatten(-1, (heads, width)) for x in both.chunk(2, -1))
    r = torch.randn(2, heads, length, width, generator=generator).to(dtype).transpose(1, 2)
    apart = torch.randn(2, length, width, heads, generator=generator).to(dtype).transpose(2, 3)
    log_decay = -torch.rand(width, heads, generator=generator).T
    inputs = [r, k, v, log_decay, torch.ones(1, 1).expand(heads, width)]
    for variant in (inputs, [apart, *inputs[1:]], [r, apart, v, *inputs[3:]]):
        leaves = [x.detach().requires_grad_() for x in variant]
        dense = [x.detach().contiguous().requires_grad_() for x in variant]
        got, wanted = wkv(*leaves, backend="native"), wkv(*dense, backend="native")
        assert torch.equal(got, wanted)
        got.sum().backward()  # a gradient of stride zero
        wanted.backward(torch.ones_like(wanted))
        for x, y in zip(leaves, dense, strict=True):
            assert torch.equal(x.grad, y.grad)


@needs_compiler
def test_bfloat16_is_float32_rounded_once():
    inputs = [x.detach() for x in make(67, torch.bfloat16, width=20)]
    inputs[0][0, 0, 0, 0] = float("nan")
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        leaves = [x.to(dtype).requires_grad_() for x in inputs[:3]]
        leaves += [x.clone().requires_grad_() for x in inputs[3:]]
        out = wkv(*leaves, backend="native")
        # A sum would hand over a gradient that was rounded in between.
        grads = torch.autograd.grad(out, leaves, torch.ones_like(out))
        results.append([out, *grads])
    assert results[0][0].isnan().any()
    for narrow, wide in zip(*results, strict=True):
        assert torch.equal(narrow.nan_to_num(), wide.to(narrow.dtype).nan_to_num())


@needs_compiler
def test_threads_change_nothing():
    inputs = make(67, torch.float32)
    results = []
    for threads in (1, 4):
        torch.set_num_threads(threads)
        try:
            out = wkv(*inputs, backend="native")
            results.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
        finally:
            torch.set_num_threads(1)
    for one, four in zip(*results, strict=True):
        assert torch.equal(one, four)


@needs_compiler
def test_no_scans():
    inputs = make(5, torch.float32, batch=0)
    out = wkv(*inputs, backend="native")
    assert out.shape == (0, 5, 2, 8)
    out.sum().backward()
    assert torch.equal(inputs[3].grad, torch.zeros(2, 8))


@needs_compiler
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # 2.15's
def test_operator_is_well_formed():
    inputs = make(5, torch.float32)
    found = torch.library.opcheck(torch.ops.videorwkv.scan.default, (*inputs, True))
    assert set(found.values()) == {"SUCCESS"}
    arguments = (torch.ones_like(inputs[0]), *(x.detach() for x in inputs), False)
    found = torch.library.opcheck(torch.ops.videorwkv.scan_backward.default, arguments)
    assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize("backend", [pytest.param("native", marks=needs_compiler), "chunked"])
def test_compiled_in_one_piece(backend):
    inputs = make(67, torch.float32)
    wanted = wkv(*inputs, backend=backend)
    wanted_grads = torch.autograd.grad(wanted.square().sum(), inputs)
    with torch.no_grad():
        prepared = prepare(*inputs[1:], backend=backend)
        compiled = torch.compile(read, backend="aot_eager", fullgraph=True)
        assert relative(compiled(inputs[0], prepared), wanted) < 1e-6
    whole = torch.compile(lambda *x: wkv(*x, backend=backend), backend="aot_eager", fullgraph=True)
    got = whole(*inputs)
    assert relative(got, wanted) < 1e-6
    for got_grad, wanted_grad in zip(
        torch.autograd.grad(got.square().sum(), inputs), wanted_grads, strict=True
    ):
        assert relative(got_grad, wanted_grad) < 1e-5


@pytest.mark.parametrize("strict", [False, True])
def test_export_takes_plain_operations(strict):
    class Scan(torch.nn.Module):
        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return wkv(*inputs)

    inputs = tuple(x.detach() for x in make(67, torch.float32))
    program = torch.export.export(Scan(), inputs, strict=strict)
    assert not [node for node in program.graph.nodes if "videorwkv" in str(node.target)]
    assert relative(program.module()(*inputs), wkv(*inputs)) < 1e-6
