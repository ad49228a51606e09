"""Run with TRITON_INTERPRET=1: the Triton kernels against the reference, one JSON line a case."""

from __future__ import annotations

import json
from unittest import mock

import torch
from test_wkv import NAMES, make, reference, relative

from videorwkv.ops import triton_scan
from videorwkv.ops.wkv import prepare, read, wkv

# Chunks have 32 tokens: one of one, of two, a full one, one and a bit, many. The interpreter takes
# as long for each head and chunk again: the long ones have one head.
SHAPES = {"batch": 1, "heads": 2, "width": 20}
ALONE = {**SHAPES, "heads": 1}
CASES = [
    (1, "float32", "bidirectional", SHAPES),
    (2, "float32", "bidirectional", SHAPES),
    (2, "bfloat16", "forward", SHAPES),
    (32, "float32", "forward", SHAPES),
    (33, "float32", "bidirectional", ALONE),
    (63, "bfloat16", "bidirectional", ALONE),
    (65, "float32", "forward", SHAPES),
    (65, "float32", "bidirectional", {**ALONE, "decay": "strongest"}),
    (65, "bfloat16", "bidirectional", {**ALONE, "decay": "none"}),
    (197, "float32", "bidirectional", {"batch": 1, "heads": 1, "width": 16}),
    (40, "float32", "bidirectional", {"batch": 2, "heads": 1, "width": 64}),
    (33, "bfloat16", "bidirectional", {**ALONE, "width": 32}),
]


def errors(length: int, dtype: str, scan: str, shape: dict) -> dict[str, float]:
    """Relative error of the output and of each gradient, absolute where the gradient is zero."""
    inputs, wanted, weight, wanted_grads = reference(length, getattr(torch, dtype), scan, **shape)
    got = wkv(*inputs, scan=scan, backend="triton")
    grads = torch.autograd.grad((got * weight.to(got.dtype)).sum(), inputs)
    found = {"out": relative(got, wanted)}
    for name, grad, wanted_grad in zip(NAMES, grads, wanted_grads, strict=True):
        if wanted_grad is None or float(wanted_grad.abs().max()) == 0:
            found[name] = float(grad.abs().max())
        else:
            found[name] = relative(grad, wanted_grad)
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
    """torch's own checks of the four registered operations: shapes, strides, aliases, autograd."""
    r, k, v, log_decay, bonus = make(33, torch.float32, batch=1, heads=1)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    ops, check = torch.ops.videorwkv, torch.library.opcheck
    check(ops.scan_states.default, (k, v, log_decay, True), test_utils=tests)
    with torch.no_grad():
        states = ops.scan_states(k, v, log_decay, True)
        plain = [x.detach() for x in (r, k, v, log_decay, bonus)]
    for some in (states, None):
        check(ops.scan_read.default, (r, k, v, log_decay, bonus, some, True), test_utils=tests)
        check(ops.scan_read_backward.default, (plain[0], *plain, some, True), test_utils=tests)
    check(ops.scan_states_backward.default, (states, *plain[1:4], states, True), test_utils=tests)
    return {}


def failing() -> dict[str, str | None]:
    """The check that `auto` makes on a GPU: right kernels, wrong ones, ones that do not run."""
    failing, run = triton_scan.failing.__wrapped__, triton_scan._fused
    found = {"right": failing("cpu")}
    with mock.patch.object(triton_scan, "_fused", lambda *x: run(*x) * 1.01):
        found["wrong"] = failing("cpu")
    with mock.patch.object(triton_scan, "_fused", side_effect=RuntimeError("no such instruction")):
        found["broken"] = failing("cpu")
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in CASES:
        print(json.dumps([f"{case[0]} {case[1]} {case[2]}", errors(*case)]), flush=True)
    for function in (frames, operators, failing):
        print(json.dumps([function.__name__, function()]), flush=True)
