"""The scan alone, beside softmax attention: time and memory over length, and where they cross.

One frame of B x L tokens, H heads of D channels. SDPA is
torch.nn.functional.scaled_dot_product_attention on the same tensors, without a mask.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import (
    Case,
    Times,
    crossing,
    exponent,
    interleaved,
    machine,
    markdown_table,
    parser,
    peak_memory,
    write_json,
)
from videorwkv.ops.wkv import BACKENDS, MIN_LOG_DECAY, wkv

LENGTHS = (197, 784, 3136, 12544)
CROSSING = (16, 32, 49, 64, 96, 128, 160, 197, 256, 320, 400, 512, 640, 784, 1024)
MODES = ("forward", "forward+backward")
# B, H, D and the type.
Shape = tuple[int, int, int, torch.dtype]


def inputs(
    batch: int, length: int, heads: int, width: int, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (batch, length, heads, width)
    tensors = [torch.randn(shape, generator=generator).to(dtype) for _ in range(3)]
    tensors.append(MIN_LOG_DECAY * torch.rand(heads, width, generator=generator))
    return [*tensors, torch.ones(heads, width)]


def sdpa(r: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (r, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def call(run: Callable[..., Tensor], tensors: list[Tensor], mode: str) -> Case:
    """One forward pass, or one with all gradients."""
    if mode == "forward":

        def forward() -> Tensor:
            with torch.inference_mode():
                return run(*tensors)

        return forward
    leaves = [x.detach().requires_grad_() for x in tensors]
    grad = torch.randn_like(tensors[0])
    return lambda: torch.autograd.grad(run(*leaves), leaves, grad)


def ways(backends: list[str], compile_chunked: bool) -> dict[str, Callable[..., Tensor]]:
    found: dict[str, Callable[..., Tensor]] = {
        name: partial(wkv, backend=name) for name in backends
    }
    if compile_chunked:
        found["chunked, compiled"] = torch.compile(partial(wkv, backend="chunked"), dynamic=False)
    return {**found, "sdpa": sdpa}


def cases(
    found: dict[str, Callable[..., Tensor]], shape: Shape, length: int, mode: str
) -> dict[str, Case]:
    batch, heads, width, dtype = shape
    tensors = inputs(batch, length, heads, width, dtype)
    return {
        name: call(run, tensors[:3] if name == "sdpa" else tensors, mode)
        for name, run in found.items()
    }


def main() -> int:
    made = parser(__doc__)
    made.add_argument("--batch", type=int, default=1)
    made.add_argument("--heads", type=int, default=3)
    made.add_argument("--width", type=int, default=64, help="channels of a head (64)")
    made.add_argument(
        "--dtype", default="float32", choices=["float32", "bfloat16"], help="(float32)"
    )
    made.add_argument("--backends", default="native,chunked", help="names, with commas")
    made.add_argument("--compile", action="store_true", help="also torch.compile the chunked way")
    made.add_argument("--lengths", default=",".join(map(str, LENGTHS)))
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    names = options.backends.split(",")
    unknown = set(names) - set(BACKENDS)
    if unknown:
        made.error(f"unknown backends {sorted(unknown)}; there are {', '.join(BACKENDS)}")
    dtype = getattr(torch, options.dtype)
    shape = (options.batch, options.heads, options.width, dtype)
    lengths = [int(x) for x in options.lengths.split(",")]
    found = ways(names, options.compile)
    about = machine()
    print("\n".join(f"{key:22} {value}" for key, value in about.items()))
    print(f"{'shape':22} B {shape[0]}, H {shape[1]}, D {shape[2]}, {options.dtype}\n", flush=True)
    times, memory = measure(found, shape, lengths, options.seconds)
    crossings = cross(found, shape, options.seconds / 5)
    report(found, lengths, times, memory, crossings)
    write_json(
        options.json,
        {
            "machine": about,
            "shape": shape[:3],
            "dtype": options.dtype,
            "times ms": {f"{mode} {length}": x for (mode, length), x in times.items()},
            "memory MiB": {f"{mode} {length}": x for (mode, length), x in memory.items()},
            "crossing": crossings,
        },
    )
    return 0


def measure(
    found: dict[str, Callable[..., Tensor]],
    shape: Shape,
    lengths: list[int],
    seconds: float,
) -> tuple[dict[tuple[str, int], dict[str, Times]], dict[tuple[str, int], dict[str, float | None]]]:
    times, memory = {}, {}
    for mode in MODES:
        for length in lengths:
            row = cases(found, shape, length, mode)
            times[mode, length] = interleaved(row, seconds=seconds, least=3)
            memory[mode, length] = {
                name: peak_memory(
                    partial(
                        lambda name, mode, n: cases(found, shape, n, mode)[name], name, mode, length
                    ),
                    cases(found, shape, 8, mode)[name],
                )
                for name in row
            }
    return times, memory


def place(ours: list[float], theirs: list[float]) -> str:
    """Where ours becomes and stays the faster one."""
    length = crossing(CROSSING, ours, theirs)
    if length is not None:
        return f"{length:.0f}"
    return f"> {CROSSING[-1]}" if ours[-1] > theirs[-1] else f"< {CROSSING[0]}"


def cross(
    found: dict[str, Callable[..., Tensor]], shape: Shape, seconds: float
) -> dict[str, dict[str, str]]:
    """The length from which a way is faster than SDPA, by CPU time."""
    plain = {name: run for name, run in found.items() if "compiled" not in name}
    result: dict[str, dict[str, str]] = {}
    for mode in MODES:
        rows = [interleaved(cases(plain, shape, n, mode), seconds=seconds) for n in CROSSING]
        result[mode] = {
            name: place([r[name].cpu for r in rows], [r["sdpa"].cpu for r in rows])
            for name in plain
            if name != "sdpa"
        }
    return result


def report(
    found: dict[str, Any],
    lengths: list[int],
    times: dict[tuple[str, int], dict[str, Times]],
    memory: dict[tuple[str, int], dict[str, float | None]],
    crossings: dict[str, dict[str, str]],
) -> None:
    short = [n for n in lengths if n <= 3136]
    for mode in MODES:
        print(f"### {mode}\n")
        rows = []
        for name in found:
            cpu = [times[mode, n][name].cpu for n in lengths]
            mib = [memory[mode, n][name] for n in lengths]
            slopes = [
                f"{exponent(some, values[: len(some)]):.2f}"
                for values in (cpu, [m or 0.0 for m in mib])
                for some in (short, lengths)
            ]
            cells = [
                f"{t.cpu:.3g} ({t.cpu_min:.3g}), {t.wall:.3g} ({t.wall_min:.3g}), {m:.3g}"
                for t, m in zip((times[mode, n][name] for n in lengths), mib, strict=True)
            ]
            ratio = [
                f"{times[mode, n]['sdpa'].cpu / times[mode, n][name].cpu:.2f}" for n in lengths
            ]
            where = crossings[mode].get(name, "")
            rows.append([name, *cells, " ".join(ratio), ", ".join(slopes), where])
        columns = [f"L = {n}" for n in lengths]
        print(
            markdown_table(
                ["", *columns, "SDPA's time over this", "exponents", "crosses SDPA at"], rows
            )
        )
        print()
    print(
        "Cells: CPU ms, median (minimum); wall ms, median (minimum); MiB at the peak beyond the "
        "inputs.\nExponents of CPU time to 3,136 and over all, of memory to 3,136 and over all."
    )


if __name__ == "__main__":
    raise SystemExit(main())
