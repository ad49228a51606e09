"""Run with TRITON_INTERPRET=1: the cell's Triton kernels against the loop, one JSON line a case."""

from __future__ import annotations

import json

import torch
from test_cell_op import CASES, difference

from videorwkv.ops.cell import failing

if __name__ == "__main__":
    torch.set_num_threads(1)
    runs: list[tuple[str, torch.dtype, dict]] = [
        (case, torch.float32, {"frames": 2, "width": 5}) for case in CASES
    ]
    runs += [
        ("gated, held", torch.bfloat16, {"frames": 3}),
        ("linear", torch.bfloat16, {"frames": 2}),
    ]
    # More channels than a program has, and the last memory alone.
    runs.append(("gated, held", torch.float32, {"frames": 2, "width": 70, "every": False}))
    for case, dtype, sizes in runs:
        error = difference(case, dtype, "triton", **sizes)
        print(json.dumps([case, str(dtype).split(".")[1], error]), flush=True)
    print(json.dumps(["failing", "float32", 1.0 if failing("cpu") else 0.0]), flush=True)
