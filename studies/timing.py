"""How long a call takes, and how much memory, so that a busy machine disturbs ratios little."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from benchmarks import timing
from videorwkv.models import Inputs, LCRConfig, build_model

Case = Callable[[], object]


def interleaved(
    cases: Mapping[str, Case], *, seconds: float, least: int = 5
) -> dict[str, dict[str, float]]:
    """Milliseconds of every case, as `benchmarks.timing` takes them.

    Args:
        cases: what to call; a GPU's work has to be waited for inside.
        seconds: to spend on all of them, roughly.
        least: rounds at least, whatever they take.

    Returns:
        name -> `median` and `least` of the wall time, `cpu`: the least CPU time of this process.
    """
    found = timing.interleaved(dict(cases), seconds=seconds, least=least)
    return {
        name: {"median": times.wall, "least": times.wall_min, "cpu": times.cpu_min}
        for name, times in found.items()
    }


def frame_times(
    configs: Mapping[str, LCRConfig], *, seconds: float, device: torch.device, folded: bool = False
) -> dict[str, dict[str, float]]:
    """Milliseconds of one frame of one stream (`LCR.step`) for each configuration; `folded`: of
    `LCR.for_inference`."""
    cases = {name: _step(config, device, folded) for name, config in configs.items()}
    return interleaved(cases, seconds=seconds)


def random_inputs(config: LCRConfig, batch: int, frames: int) -> Inputs:
    """Noise of the model's size, the same at every call."""
    shape = (batch, frames, config.image_size, config.image_size)
    generator = torch.Generator().manual_seed(0)
    return Inputs(
        torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=generator),
        torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
    )


def _step(config: LCRConfig, device: torch.device, folded: bool) -> Case:
    model = build_model(config).to(device).eval()
    model = model.for_inference() if folded else model
    inputs = random_inputs(config, 1, 1).to(device)
    state = model.init_state()

    def call() -> None:
        with torch.inference_mode():
            model.step(inputs, state)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return call


def peak_memory(make: Callable[[], Case], device: torch.device) -> float:
    """MiB that a call needs at its peak beyond what was there before; NaN where it can't be seen.

    On a CPU in a process of its own and seen by the kernel (Linux): torch's counters do not see
    what C allocates.
    """
    if device.type == "cuda":
        case = make()
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        case()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    if not Path("/proc/self/clear_refs").exists():
        return math.nan
    try:
        found = timing.peak_memory(make, lambda: None)
    except EOFError:
        return math.nan  # it needed more than there is, and was ended for it
    return math.nan if found is None else found
