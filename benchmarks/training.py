"""A training step in each way that the recipe can ask for, in turns, on this machine's CPU.

    python -m benchmarks.training --models lcr_nano --ways float32,bfloat16,recompute

Random weights and clips; forward, backward and optimiser. `compiled` waits for a C++ compiler
first. Ratios are to `float32` of the same model.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from benchmarks.timing import Case, Times, interleaved, machine, markdown_table, parser, write_json
from videorwkv.exporting.frames import generated
from videorwkv.models import create_model
from videorwkv.training.optim import make_optimizer

WAYS = ("float32", "bfloat16", "recompute", "compiled")
HEADER = ["model", "way", "CPU ms a clip", "/ float32", "of the minima"]


def step(name: str, way: str, batch: int, frames: int) -> Case:
    """A step on always the same clips."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=27).train()
    if way == "recompute":
        model.enable_recompute()
    if way == "compiled":
        model.enable_compile()
    optimizer = make_optimizer(model, lr=1e-4, weight_decay=0.05, betas=(0.9, 0.98))
    inputs = generated(model.config, streams=batch, num_frames=frames)
    labels = torch.arange(batch) % 27

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=way == "bfloat16"):
            logits = model(inputs)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return run


def row(key: str, times: Mapping[str, Times], batch: int) -> list[str]:
    name, way = key.split("|")
    found, plain = times[key], times[f"{name}|float32"]
    ratios = f"{found.cpu / plain.cpu:.2f}", f"{found.cpu_min / plain.cpu_min:.2f}"
    return [name, way, f"{found.cpu / batch:,.0f}", *ratios]


def main() -> int:
    made = parser(__doc__)
    made.add_argument("--models", default="lcr_nano", help="presets (lcr_nano)")
    made.add_argument("--ways", default=",".join(WAYS), help=f"({','.join(WAYS)})")
    made.add_argument("--batch", type=int, default=8, help="clips of a step (8)")
    made.add_argument("--frames", type=int, default=16, help="of a clip (16)")
    made.add_argument("--least", type=int, default=3, help="rounds at least (3)")
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    ways = dict.fromkeys(["float32", *options.ways.split(",")])
    about = machine()
    cases = {
        f"{name}|{way}": step(name, way, options.batch, options.frames)
        for name in options.models.split(",")
        for way in ways
    }
    times = interleaved(cases, seconds=options.seconds, least=options.least)
    print("\n".join(f"{key:22} {value}" for key, value in about.items()))
    print(f"\n{options.batch} clips of {options.frames} frames, {options.threads} threads\n")
    lines = [row(key, times, options.batch) for key in times]
    print(markdown_table(HEADER, lines, words=HEADER[:2]))
    write_json(options.json, {"machine": about, "times ms": times})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
