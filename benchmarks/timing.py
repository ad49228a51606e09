"""Times and memory, measured so that a busy machine disturbs ratios as little as it can."""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from videorwkv.run.environment import environment

Case = Callable[[], object]


@dataclass(frozen=True)
class Times:
    """Milliseconds a call.

    Args:
        wall: median of the wall time; what a user waits.
        wall_min: its minimum.
        cpu: median of the CPU time of this process; other programs change it less.
        cpu_min: its minimum.
        rounds: how many samples.
    """

    wall: float
    wall_min: float
    cpu: float
    cpu_min: float
    rounds: int


def interleaved(
    cases: dict[str, Case], *, seconds: float, least: int = 5, sample: float = 0.02
) -> dict[str, Times]:
    """Time all cases in turns, so that a slow minute of the machine is a slow minute for all.

    Args:
        cases: what to call.
        seconds: of wall time to spend on all of them, roughly.
        least: rounds at least, whatever they take.
        sample: seconds of one sample at least; a short call is repeated.
    """
    repeats = {}
    for name, case in cases.items():
        case()
        start = time.perf_counter()
        case()
        repeats[name] = max(1, math.ceil(sample / (time.perf_counter() - start)))
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
        name: Times(
            statistics.median(walls[name]),
            min(walls[name]),
            statistics.median(cpus[name]),
            min(cpus[name]),
            rounds,
        )
        for name in cases
    }


def once(case: Case) -> Times:
    """One call, for what takes too long to repeat."""
    wall, cpu = time.perf_counter(), time.process_time()
    case()
    wall, cpu = (1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu))
    return Times(wall, wall, cpu, cpu, 1)


def peak_memory(make: Callable[[], Case], warm_up: Case, limit: int | None = None) -> float | None:
    """MiB that a call needs at its peak beyond what was there before; Linux only.

    In a process of its own, and seen by the kernel: torch's counters do not see what C allocates.

    Args:
        make: makes the call, with its inputs.
        warm_up: a small call of the same kind, so that code and tables are loaded.
        limit: bytes that the call may take; the kernel refuses more, and the machine stays well.

    Returns:
        the MiB; None if they exceed the limit.
    """

    def run(pipe: Any) -> None:
        # Threads do not survive a fork.
        torch.set_num_threads(1)
        warm_up()
        case = make()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        if limit is not None:
            import resource

            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            room = 1024 * _status("VmSize") + limit
            resource.setrlimit(resource.RLIMIT_AS, (room, hard))
        try:
            case()
        except (RuntimeError, MemoryError) as error:
            if limit is None or not _is_out_of_memory(error):
                raise
            pipe.send(None)
            return
        pipe.send((_status("VmHWM") - before) / 1024)

    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=run, args=(sender,))
    process.start()
    sender.close()
    try:
        found: float | None = receiver.recv()
        return found
    finally:
        process.join()


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise OSError(f"/proc/self/status has no {field}")


def exponent(lengths: Sequence[int], values: Sequence[float]) -> float:
    """Slope of a line through the logarithms: 1 is linear growth, 2 quadratic."""
    x = [math.log(length) for length in lengths]
    y = [math.log(value) for value in values]
    return statistics.linear_regression(x, y).slope


def crossing(
    sizes: Sequence[float], ours: Sequence[float], theirs: Sequence[float]
) -> float | None:
    """The size from which on ours is the smaller, between two points by their logarithms.

    None where that is nowhere, or already at the first size.
    """
    above = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a >= b]
    if not above or above[-1] == len(sizes) - 1:
        return None
    i = above[-1]
    gap, next_gap = (math.log(ours[j] / theirs[j]) for j in (i, i + 1))
    share = gap / (gap - next_gap)
    return math.exp(math.log(sizes[i]) + share * (math.log(sizes[i + 1]) - math.log(sizes[i])))


def gemm_peak() -> float:
    """GFLOP/s of a product of 1024 x 1024 float32 matrices, by CPU time of the best of some."""
    x = torch.randn(1024, 1024)
    times = interleaved({"gemm": lambda: x @ x}, seconds=1.0)["gemm"]
    return 2 * 1024**3 / times.cpu_min / 1e6


def machine() -> dict[str, Any]:
    """What a number means nothing without."""
    values = environment()
    names = ("videorwkv", "python", "platform", "torch", "cpu", "gpu", "scan")
    load = os.getloadavg() if hasattr(os, "getloadavg") else ()
    return {
        **{name: values[name] for name in names},
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "gemm float32 GFLOP/s": round(gemm_peak(), 1),
        "load before": " ".join(f"{x:.2f}" for x in load),
    }


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, words: Sequence[str] = ()
) -> str:
    """A Markdown table of cells that are Markdown themselves.

    Args:
        header: names of the columns.
        rows: as many cells each.
        words: names of the columns of words, to the left; the first one is, the others are numbers.
    """
    sides = ["---" if name in (header[0], *words) else "---:" for name in header]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
             for row in (header, *rows)]  # fmt: skip
    return "\n".join([lines[0], f"|{'|'.join(sides)}|", *lines[1:]])


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--threads", type=int, default=1, help="threads of PyTorch (1)")
    made.add_argument("--seconds", type=float, default=10.0, help="to spend on a row (10)")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers here")
    return made


def write_json(path: Path | None, values: dict[str, Any]) -> None:
    """Dataclasses become dictionaries."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=1, default=asdict) + "\n")
