"""Reads clips through `ClipDataset` from the videos and from both stores of a frame cache.

Sources take turns within each round, so that what else runs on the machine hits all of them alike;
CPU time is told beside wall time. Nothing is dropped from memory in between: all sources are read
from the system's page cache. T frames, H height, W width, C = 3 (RGB).
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from videorwkv.data.cache import QUALITY, FrameCache
from videorwkv.data.dataset import ClipDataset, Sample
from videorwkv.data.manifest import Manifest, Row
from videorwkv.preprocess.edges import edge_map
from videorwkv.video.base import Sampling
from videorwkv.video.source import open_video

SIZE = 224
FRAMES = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    paths = sorted(path for path in arguments.folder.iterdir() if path.is_file())
    rows = tuple(Row(str(path), "a") for path in paths)
    manifest = Manifest(name="clips", rows=rows, labels=("a",))
    versions = (
        f"Python {platform.python_version()}, PyAV {av.__version__}, OpenCV {cv2.__version__}"
    )
    print(f"{platform.machine()}, {cpu_name()}, {versions}")
    print(
        f"{len(paths)} clips, {FRAMES} frames of {SIZE} px, no workers, {arguments.rounds} rounds"
    )
    with tempfile.TemporaryDirectory() as folder:
        caches = {
            name: FrameCache.for_images(f"{folder}/{name}", SIZE, store=store, quality=quality)
            for name, store, quality in (
                ("raw", "raw", QUALITY),
                (f"jpeg {QUALITY}", "jpeg", QUALITY),
                ("jpeg 95", "jpeg", 95),
            )
        }
        for name, cache in caches.items():
            report_writing(name, cache, manifest)
        report_difference(caches, manifest)
        report_reading({"videos": None, **caches}, manifest, arguments.rounds)


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((x.partition(": ")[2] for x in lines if x.startswith("model name")), "unknown CPU")


def report_writing(name: str, cache: FrameCache, manifest: Manifest) -> None:
    begun, cpu = time.perf_counter(), time.process_time()
    for row in manifest.rows:
        cache.fill(row.path, partial(open_video, row.path))
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    size = sum(path.stat().st_size for path in Path(cache.folder).iterdir())
    count = len(manifest.rows)
    print(f"write {name:8} {size / count / 1e6:6.2f} MB a clip, {wall / count:.2f} s a clip "
          f"({cpu / count:.2f} s CPU, decoding included)")  # fmt: skip


def report_difference(caches: dict[str, FrameCache], manifest: Manifest) -> None:
    """What JPEG changes, beside what shrinking twice changes: PSNR, and Canny edges in common."""
    samples = {
        name: [frames_of(dataset(manifest, cache), n) for n in range(len(manifest.rows))]
        for name, cache in {"videos": None, **caches}.items()
    }
    print("at 224 px         PSNR  edges in common (intersection over union)")
    for name, other in [("raw", "videos"), *((n, "raw") for n in caches if n != "raw")]:
        pairs = list(zip(samples[name], samples[other], strict=True))
        errors = [np.mean(np.subtract(a, b, dtype=np.float64) ** 2) for a, b in pairs]
        shared = [overlap(edge_map(a) > 0, edge_map(b) > 0) for a, b in pairs]
        decibels = [10 * np.log10(255**2 / error) if error else np.inf for error in errors]
        print(f"{name:8} / {other:6} {statistics.median(decibels):5.1f}  "
              f"{statistics.mean(shared):.3f}")  # fmt: skip


def dataset(manifest: Manifest, cache: FrameCache | None, edges: str = "none") -> ClipDataset:
    sampling = Sampling(num_frames=FRAMES)
    return ClipDataset(manifest, sampling=sampling, size=SIZE, edges=edges, cache=cache)


def frames_of(clips: ClipDataset, index: int) -> NDArray[np.uint8]:
    sample = clips[0, index]
    assert isinstance(sample, Sample), sample
    return sample.inputs.frames_BTHWC.numpy()


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def report_reading(sources: dict[str, FrameCache | None], manifest: Manifest, rounds: int) -> None:
    for edges in ("none", "canny"):
        clips = {name: dataset(manifest, cache, edges) for name, cache in sources.items()}
        walls: dict[str, list[float]] = {name: [] for name in clips}
        cpus: dict[str, list[float]] = {name: [] for name in clips}
        for turn in range(rounds + 1):
            for name, source in clips.items():
                begun, cpu = time.perf_counter(), time.process_time()
                for index in range(len(manifest.rows)):
                    frames_of(source, index)
                if turn:  # the first round fills the page cache
                    walls[name].append(time.perf_counter() - begun)
                    cpus[name].append(time.process_time() - cpu)
        print(f"edges: {edges:6}   clips/s median (best)   s CPU a clip   times the videos' rate: "
              "wall, CPU")  # fmt: skip
        count = len(manifest.rows)
        for name in clips:
            wall, cpu = statistics.median(walls[name]), statistics.median(cpus[name])
            gain = statistics.median(walls["videos"]) / wall
            cpu_gain = statistics.median(cpus["videos"]) / cpu
            print(f"  read {name:8} {count / wall:8.1f} ({count / min(walls[name]):.1f})"
                  f"   {cpu / count:.4f}   {gain:.1f}, {cpu_gain:.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
