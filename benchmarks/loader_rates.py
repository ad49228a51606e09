"""How fast the training loader of this tree gives batches: of videos, and of a raw frame cache.

Only the public interface is used, so two checkouts can be compared: run it in turns, several times,
with PYTHONPATH set to one and to the other. CPU time, of this process and its workers, depends less
on what else the machine does than the rate.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch

from videorwkv.data import Augmentation, ClipDataset, FrameCache, Manifest, Row, make_loader
from videorwkv.video import Sampling


def cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(name: str, dataset: ClipDataset, batches: int, batch_size: int, workers: int) -> None:
    cpu = cpu_seconds()
    begun = time.perf_counter()
    loader = make_loader(
        dataset, batch_size=batch_size, shuffle=True, workers=workers, drop_last=True, endless=True
    )
    given = iter(loader)
    next(given)
    first = time.perf_counter() - begun
    begun = time.perf_counter()
    for batch in islice(given, batches):
        assert not batch.bad, batch.bad[0].reason
    seconds = time.perf_counter() - begun
    loader.close()
    count = batches * batch_size
    # What was read ahead counts, too: the same in any two runs of these arguments.
    milliseconds = 1000 * (cpu_seconds() - cpu) / (count + batch_size)
    print(
        f"{name:7} workers {workers}  {count / seconds:7.2f} clips/s  {milliseconds:7.2f} CPU ms a "
        f"clip  first batch {first:5.2f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="videos lie in it")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--decode", type=int, default=6, help="batches of videos")
    parser.add_argument("--raw", type=int, default=60, help="batches of cached frames")
    parser.add_argument("--edges", default="canny")
    options = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(path for path in options.folder.iterdir() if path.is_file())
    manifest = Manifest(name="clips", rows=tuple(Row(str(p), "a") for p in paths), labels=("a",))
    with tempfile.TemporaryDirectory() as folder:
        cache = FrameCache.for_images(folder, options.size, store="raw")
        for name, batches, frames in (
            ("decode", options.decode, None),
            ("raw", options.raw, cache),
        ):
            dataset = ClipDataset(
                manifest,
                sampling=Sampling(num_frames=options.frames),
                size=options.size,
                edges=options.edges,
                augmentation=Augmentation(),
                cache=frames,
                repeats=max(1, 4 * options.batch_size // len(paths)),
            )
            if frames is not None:
                for row in manifest.rows:
                    frames.fill(row.path, lambda row=row: manifest.open(row))  # type: ignore[misc]
            for workers in options.workers if batches else ():
                measure(name, dataset, batches, options.batch_size, workers)


if __name__ == "__main__":
    main()
