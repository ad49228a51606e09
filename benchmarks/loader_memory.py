"""Does the loader's memory stay flat over many epochs? Linux only.

Reads a folder of clips with shuffling and augmentation, as training does, and adds up the
proportional set sizes (PSS: pages that they share count once) of this process and its workers.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from pathlib import Path

from videorwkv.data import Augmentation, ClipDataset, load_manifest, make_loader
from videorwkv.video import Sampling

TENTHS = 10


def pss(pid: int | str) -> float:
    """MiB of anonymous and shared memory; without files, which other programs share and the kernel
    drops when it likes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines[1:])
    return sum(int(fields[name].split()[0]) for name in ("Pss_Anon", "Pss_Shmem")) / 1024


def children() -> list[str]:
    me = os.getpid()
    return Path(f"/proc/{me}/task/{me}/children").read_text().split()


def machine() -> str:
    model = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")),
        platform.processor(),
    )  # fmt: skip
    return f"{model}, {os.cpu_count()} cores, {platform.platform()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="what `videorwkv train` takes")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--batch-size", type=int, default=16)
    options = parser.parse_args()
    dataset = ClipDataset(
        load_manifest(options.data),
        sampling=Sampling(num_frames=options.frames),
        size=options.size,
        augmentation=Augmentation(),
    )
    loader = make_loader(
        dataset, batch_size=options.batch_size, shuffle=True, workers=options.workers
    )
    print(f"{machine()}\n{len(dataset)} clips, {options}")
    total = options.epochs * loader.batches_per_epoch
    # A few dozen readings a tenth: reading them takes time, as the kernel walks all pages.
    every = max(1, total // (TENTHS * 30))
    readings: list[list[tuple[float, float]]] = [[] for _ in range(TENTHS)]
    number = bad = 0
    start = time.perf_counter()
    for epoch in range(options.epochs):
        for batch in loader.at(epoch):
            bad += len(batch.bad)
            if number % every == 0:
                here, there = pss("self"), sum(pss(pid) for pid in children())
                readings[number * TENTHS // total].append((here, there))
            number += 1
    seconds = time.perf_counter() - start
    print(
        f"{total} batches, {bad} bad clips, {options.epochs * len(dataset) / seconds:.0f} clips/s"
    )
    print("tenth  this process  workers    sum (MiB, mean)   sum (least, most)")
    sums = []
    for tenth, values in enumerate(readings):
        here, there = (statistics.fmean(column) for column in zip(*values, strict=True))
        all_of_it = [a + b for a, b in values]
        sums.append(statistics.fmean(all_of_it))
        print(
            f"{tenth + 1:5}  {here:12.1f}  {there:7.1f}  {sums[-1]:17.1f}   "
            f"{min(all_of_it):8.1f} {max(all_of_it):8.1f}"
        )
    print(f"last tenth / second tenth: {sums[-1] / sums[1]:.4f}")
    loader.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
