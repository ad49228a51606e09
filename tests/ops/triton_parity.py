"""Run with TRITON_INTERPRET=1: the Triton kernels against the reference, one JSON line a case."""

from __future__ import annotations

import json
from unittest import mock

import torch
import torch.nn.functional as F
from test_wkv import NAMES, make, reference, relative

from videorwkv.models import Inputs, create_model
from videorwkv.models.stems import RotaryEmbedding
from videorwkv.ops import triton_scan
from videorwkv.ops.wkv import gated, prepare, read, scan_backend, wkv, wkv_reference

# Chunks have 32 tokens: one of one, of two, a full one, one and a bit, many. The interpreter takes
# as long for each head and chunk again: the long ones have one head.
SHAPES = {"batch": 1, "heads": 2, "width": 20}
ALONE = {**SHAPES, "heads": 1}
STATES = [
    (1, "float32", "bidirectional", SHAPES),
    (2, "float32", "bidirectional", SHAPES),
    (2, "bfloat16", "forward", SHAPES),
    (32, "float32", "forward", SHAPES),
    (33, "float32", "bidirectional", ALONE),
    (63, "bfloat16", "bidirectional", ALONE),
    (65, "float32", "forward", ALONE),
    (65, "float32", "bidirectional", {**ALONE, "decay": "strongest"}),
    (65, "bfloat16", "bidirectional", {**ALONE, "decay": "none"}),
    (197, "float32", "bidirectional", {"batch": 1, "heads": 1, "width": 16}),
    (40, "float32", "bidirectional", {"batch": 2, "heads": 1, "width": 64}),
    (33, "bfloat16", "bidirectional", {**ALONE, "width": 32}),
]
# Blocks have 64 tokens in bfloat16, else 32.
NARROW = {"batch": 1, "heads": 1, "width": 32}
WIDE = {**NARROW, "width": 64}
SHORT = [
    (1, "float32", "bidirectional", NARROW),
    (7, "bfloat16", "forward", {**NARROW, "batch": 2, "heads": 2}),
    (33, "float16", "bidirectional", {**NARROW, "decay": "strongest"}),
    (49, "float32", "forward", {**WIDE, "decay": "strongest"}),
    (64, "bfloat16", "bidirectional", {**WIDE, "decay": "none"}),
    (65, "float32", "bidirectional", {**ALONE, "decay": "strongest"}),
    (65, "bfloat16", "bidirectional", {**NARROW, "decay": "strongest"}),
    (196, "float32", "forward", NARROW),
    (197, "bfloat16", "bidirectional", WIDE),
    (100, "float32", "bidirectional", {**NARROW, "width": 16}),
    (256, "bfloat16", "forward", {**NARROW, "decay": "none"}),
]
WAYS = {"wrong": "_without_states", "wrong states": "_with_states", "wrong gate": "_gated"}
# Heads as wide as a block, gates, and rotary tables or none.
GATED = [
    (2, "float32", "bidirectional", {**NARROW, "width": 16}),
    (7, "float32", "forward", {**NARROW, "batch": 2, "heads": 2, "width": 16}),
    (65, "float32", "bidirectional", {**NARROW, "decay": "strongest"}),
    (64, "bfloat16", "forward", WIDE),
    (70, "bfloat16", "bidirectional", WIDE),
    (130, "bfloat16", "bidirectional", NARROW),
    (33, "float16", "bidirectional", NARROW),
]


def errors(way: str, length: int, dtype: str, scan: str, shape: dict) -> dict[str, float]:
    """Relative error of the output and of each gradient, absolute where the gradient is zero."""
    inputs, wanted, weight, wanted_grads = reference(length, getattr(torch, dtype), scan, **shape)
    with mock.patch.object(triton_scan, "SHORT", 0 if way == "states" else 256):
        got = wkv(*inputs, scan=scan, backend="triton")
    grads = torch.autograd.grad((got * weight.to(got.dtype)).sum(), inputs)
    found = {"out": relative(got, wanted)}
    for name, grad, wanted_grad in zip(NAMES, grads, wanted_grads, strict=True):
        if wanted_grad is None or float(wanted_grad.abs().max()) == 0:
            found[name] = float(grad.abs().max())
        else:
            found[name] = relative(grad, wanted_grad)
    return found


def gated_errors(
    length: int, dtype: str, scan: str, shape: dict, *, turned: bool
) -> dict[str, float]:
    """The scan between its rotary embedding, the norm of each head and a gate, likewise."""
    r, k, v, log_decay, bonus = make(length, getattr(torch, dtype), **shape)
    gate = make(length + 1000, r.dtype, **shape)[0][:, :length]
    inputs = [*(torch.stack(x, 2).flatten(2).detach() for x in ((r, gate), (k, v)))]
    inputs += [log_decay.detach(), bonus.detach()]
    heads, width = log_decay.shape
    tables = None
    if turned:
        angle = torch.rand(length, width // 2, generator=torch.Generator().manual_seed(2)) * 6
        tables = torch.cat([angle.cos()] * 2, -1), torch.cat([-angle.sin(), angle.sin()], -1)

    def wanted(rg, kv, log_decay, bonus):
        (r, g), (k, v) = (x.unflatten(-1, (2, heads, width)).unbind(2) for x in (rg, kv))
        if tables is not None:
            rotary = RotaryEmbedding(*(x.double()[None, :, None] for x in tables))
            r, k = rotary(r), rotary(k)
        out = wkv_reference(r, k, v, log_decay, bonus, scan=scan)
        return (F.silu(g) * F.layer_norm(out, (width,))).flatten(2)

    def got(*given):
        return gated(*given, tables, scan=scan)

    results = []
    for run, one in ((wanted, torch.Tensor.double), (got, torch.Tensor.clone)):
        leaves = [one(x).requires_grad_() for x in inputs]
        out = run(*leaves)
        weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
        loss = (out * weight.to(out.dtype)).sum()
        results.append([out, *torch.autograd.grad(loss, leaves, allow_unused=True)])
    names = ("out", "rg", "kv", "log_decay", "bonus")
    return {
        name: float(b.abs().max()) if a is None else relative(b, a)
        for name, a, b in zip(names, *results, strict=True)
    }


def model() -> dict[str, float]:
    """Loss and gradients of a whole model with past=below, against another way of its scan."""
    changes = {"image_size": 32, "patch_size": 8, "width": 32, "depth": 2, "head_width": 16}
    found: dict[str, list] = {}
    for way in ("chunked", "triton", "recompute"):
        torch.manual_seed(0)
        made = create_model("lcr_nano", num_classes=3, past="below", **changes).train()
        if way == "recompute":
            made.enable_recompute()
        generator = torch.Generator().manual_seed(0)
        frames = torch.randint(0, 256, (1, 2, 32, 32, 3), generator=generator).byte()
        clips = Inputs(frames, frames[..., 0])
        with scan_backend("chunked" if way == "chunked" else "triton"):
            loss = made(clips).square().mean()
        loss.backward()
        found[way] = [loss, *(p.grad for p in made.parameters() if p.grad is not None)]
    return {
        way: max(relative(b, a) for a, b in zip(found["chunked"], found[way], strict=True))
        for way in ("triton", "recompute")
    }


def types() -> dict[str, object]:
    """Keys in float32 beside values in bfloat16, and queries in either: results in their types."""
    given = [x.detach() for x in make(37, torch.float32, batch=1, heads=1)]
    given[2] = given[2].bfloat16()
    wanted = wkv_reference(*(x.double() for x in given))
    found: dict[str, object] = {}
    for dtype in (torch.float32, torch.bfloat16):
        leaves = [x.clone().requires_grad_() for x in (given[0].to(dtype), *given[1:])]
        got = wkv(*leaves, backend="triton")
        grads = torch.autograd.grad(got.float().square().sum(), leaves)
        kept = [
            x.dtype == y.dtype for x, y in zip((got, *grads), (leaves[0], *leaves), strict=True)
        ]
        found[str(dtype)] = [relative(got, wanted), all(kept)]
    return found


def longer() -> dict[str, bool]:
    """Which frames have states."""
    rest = make(1, torch.float32, batch=1, heads=1)[1:]
    found = {}
    for length in (256, 257):
        k, v = (x.detach().expand(-1, length, -1, -1) for x in rest[:2])
        states = prepare(k, v, *rest[2:], backend="triton").states_BHRPDD
        found[str(length)] = states is not None
    return found


def frames() -> dict[str, float]:
    """A batch of 3 as 3 frames of one clip, with strides as a model has them."""
    r, k, v, log_decay, bonus = (x.detach() for x in make(40, torch.float32, heads=1))
    k, v = torch.cat([k, v], -1).chunk(2, -1)
    wanted = wkv(r, k, v, log_decay, bonus, backend="chunked")
    parts = prepare(k, v, log_decay, bonus, backend="triton").frames(3)
    got = torch.cat([read(r[i : i + 1], part) for i, part in enumerate(parts)])
    return {"out": relative(got, wanted)}


def operators() -> dict[str, float]:
    """torch's own checks of the registered operations: shapes, strides, aliases, autograd."""
    r, k, v, log_decay, bonus = make(33, torch.float32, batch=1, heads=1)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    ops, check = torch.ops.videorwkv, torch.library.opcheck
    check(ops.scan_states.default, (k, v, log_decay, True), test_utils=tests)
    with torch.no_grad():
        states = ops.scan_states(k, v, log_decay, True)
        plain = [x.detach() for x in (r, k, v, log_decay, bonus)]
    check(ops.scan_read.default, (r, k, v, log_decay, bonus, states, True), test_utils=tests)
    check(ops.scan_read_backward.default, (plain[0], *plain, states, True), test_utils=tests)
    check(ops.scan_states_backward.default, (states, *plain[1:4], states, True), test_utils=tests)
    check(ops.scan_short.default, (r, k, v, log_decay, bonus, True), test_utils=tests)
    check(ops.scan_short_backward.default, (plain[0], *plain, False), test_utils=tests)
    rg, kv = (torch.randn(1, 5, 64) for _ in range(2))
    decay, bonus, table = -torch.rand(2, 16), torch.rand(2, 16), torch.rand(5, 16)
    for tables in ((table, table), (None, None)):
        given = *(x.requires_grad_() for x in (rg, kv, decay, bonus)), *tables, True
        check(ops.scan_gated.default, given, test_utils=tests)
    plain = [x.detach() for x in (rg[..., :32], *given[:4])]
    check(ops.scan_gated_backward.default, (*plain, *given[4:]), test_utils=tests)
    return {}


def failing() -> dict[str, str | None]:
    """The check that `auto` makes on a GPU: right kernels, wrong ones, ones that do not run."""
    failing = triton_scan.failing.__wrapped__
    found = {"right": failing("cpu")}
    with mock.patch.object(triton_scan, "CHECKED", 5):
        for key, name in WAYS.items():
            run = getattr(triton_scan, name)
            with mock.patch.object(triton_scan, name, lambda *x, run=run: run(*x) * 1.01):
                found[key] = failing("cpu")
        with mock.patch.object(triton_scan, name, side_effect=RuntimeError("no such instruction")):
            found["broken"] = failing("cpu")
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    for way, cases in (("states", STATES), ("short", SHORT)):
        for case in cases:
            told = " ".join([way, *map(str, case[:3]), *map(str, case[3].values())])
            print(json.dumps([told, errors(way, *case)]), flush=True)
    for i, case in enumerate(GATED):
        told = " ".join(["gated", *map(str, case[:3]), str(i)])
        print(json.dumps([told, gated_errors(*case, turned=i != 1)]), flush=True)
    for function in (model, types, longer, frames, operators, failing):
        print(json.dumps([function.__name__, function()]), flush=True)
