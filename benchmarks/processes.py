"""How long a training step takes where several processes share it, and what of it is talking.

Started by benchmarks/processes.sh, on CPUs and on GPUs alike. The clips are random numbers that lie
in memory: reading is not measured. What a process needs for its part of the batch without the
others, the rest is communication and waiting for each other.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from videorwkv.data import Batch
from videorwkv.models import Inputs, build_model, model_config
from videorwkv.run.recipes import default
from videorwkv.training.learner import Learner
from videorwkv.utils.device import pick_device
from videorwkv.utils.processes import ALONE, connected


def step_time(step: Callable[[int], object], device: torch.device, steps: int) -> float:
    """Median of the seconds of a step, after two to warm up."""
    times = []
    for number in range(steps + 2):
        begun = time.perf_counter()
        step(number)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return statistics.median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="lcr_nano")
    parser.add_argument("--batch-size", type=int, default=16, help="of all processes together")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    with connected(options.device) as processes:
        device = pick_device(processes.device(options.device))
        model_options = model_config(options.model, num_classes=27, num_frames=options.frames)
        recipe = default(options.model)
        recipe = replace(
            recipe, model=model_options, batch_size=options.batch_size, precision=options.precision,
            sampling=replace(recipe.sampling, num_frames=options.frames),
        )  # fmt: skip
        size, count = model_options.image_size, options.batch_size
        first, last = (count * (processes.rank + i) // processes.size for i in (0, 1))
        frames = torch.randint(0, 256, (last - first, options.frames, size, size, 3)).byte()
        edges = 255 * torch.randint(0, 2, frames.shape[:-1]).byte()
        part = Batch(
            Inputs(frames, edges), torch.zeros(last - first).long(), torch.arange(last - first)
        )
        torch.manual_seed(0)
        model = build_model(model_options).to(device)
        own = Learner(copy.deepcopy(model), recipe, device, ALONE)
        shared = Learner(model, recipe, device, processes)
        counts = [[float(n)] for (n,) in processes.gather([last - first])]
        alone = step_time(
            lambda step: own.step([part], [[last - first]], step, 1e-3), device, options.steps
        )
        processes.gather([])  # begin together
        together = step_time(
            lambda step: shared.step([part], counts, step, 1e-3), device, options.steps
        )
        slowest = max(seconds for (seconds,) in processes.gather([alone]))
        if processes.is_first:
            print(
                f"| {processes.size} | {options.model}, {options.precision}, {device.type} | "
                f"{count} | {1000 * together:.0f} | {count / together:.1f} | "
                f"{max(0.0, 1 - slowest / together):.0%} |"
            )


if __name__ == "__main__":
    main()
