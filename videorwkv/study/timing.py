"""How long a call takes, and how much memory, so that a busy machine disturbs ratios little."""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from videorwkv.models import Inputs, LCRConfig, build_model

Case = Callable[[], object]
# Seconds of one sample at least: the clocks are too coarse for a single short call.
SAMPLE = 0.02


def interleaved(
    cases: Mapping[str, Case], *, seconds: float, least: int = 5
) -> dict[str, dict[str, float]]:
    """Milliseconds of every case, in turns: a slow minute of the machine is slow for all.

    Args:
        cases: what to call; a GPU's work has to be waited for inside.
        seconds: to spend on all of them, roughly.
        least: rounds at least, whatever they take.

    Returns:
        name -> `median` and `least` of the wall time, `cpu`: the least CPU time of this process.
    """
    repeats = {}
    for name, case in cases.items():
        case()
        start = time.perf_counter()
        case()
        repeats[name] = max(1, math.ceil(SAMPLE / max(time.perf_counter() - start, 1e-9)))
    walls: dict[str, list[float]] = {name: [] for name in cases}
    cpus: dict[str, list[float]] = {name: [] for name in cases}
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < least or time.perf_counter() < end:
        for name, case in cases.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(repeats[name]):
                case()
            walls[name].append((time.perf_counter() - wall) * 1e3 / repeats[name])
            cpus[name].append((time.process_time() - cpu) * 1e3 / repeats[name])
        rounds += 1
    return {
        name: {
            "median": statistics.median(walls[name]),
            "least": min(walls[name]),
            "cpu": min(cpus[name]),
        }
        for name in cases
    }


def frame_times(
    configs: Mapping[str, LCRConfig], *, seconds: float, device: torch.device
) -> dict[str, dict[str, float]]:
    """Milliseconds of one frame of one stream (`LCR.step`) for each configuration."""
    cases = {name: _step(config, device) for name, config in configs.items()}
    return interleaved(cases, seconds=seconds)


def _step(config: LCRConfig, device: torch.device) -> Case:
    size = config.image_size
    model = build_model(config).to(device).eval()
    inputs = Inputs(
        torch.randint(0, 255, (1, 1, size, size, 3), dtype=torch.uint8),
        torch.randint(0, 255, (1, 1, size, size), dtype=torch.uint8),
    ).to(device)
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
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure_memory, args=(make, sender))
    process.start()
    sender.close()
    try:
        return float(receiver.recv())
    except EOFError:
        return math.nan  # it needed more than there is, and was ended for it
    finally:
        process.join()


def _measure_memory(make: Callable[[], Case], pipe: Any) -> None:
    case = make()
    # What was freed before and still belongs to the process would hide what the call needs.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    before = _status("VmRSS")
    case()
    pipe.send((_status("VmHWM") - before) / 1024)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    return 0
