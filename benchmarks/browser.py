"""Milliseconds of a frame in the page, in headless Chromium: resizing, edges, model.

    python -m benchmarks.browser lcr_nano lcr_pico --frames 150

Random weights, frames of 640x480, WebAssembly with one thread and with two, in turns; beside them
ONNX Runtime in Python on one thread. Medians, so that other programs on the machine count little.
Needs Chromium, and npm once.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.chromium import chromium
from videorwkv.data.motion.clips import CLASSES, render
from videorwkv.inference.exported import open_exported
from videorwkv.models import create_model
from videorwkv.preprocess.edges import edge_map
from videorwkv.preprocess.inputs import Inputs, fit_image
from videorwkv.video import Sampling
from videorwkv.web import Server, export_site

STEPS = ("resize", "edges", "model")
THREADS = (1, 2)
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("presets", nargs="*", default=["lcr_nano", "lcr_pico"])
    parser.add_argument("--frames", type=int, default=150)
    options = parser.parse_args()
    print(
        "| model | where | resizing | edges | model | frames a second |\n|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        pictures = _pictures(Path(folder), options.frames)
        for preset in options.presets:
            torch.manual_seed(0)
            model = create_model(preset, num_classes=10).eval()
            site = export_site(
                model, Path(folder, preset), sampling=Sampling(num_frames=16, fps=10.0)
            )
            for where, times in _measure(site.folder, pictures).items():
                cells = [f"{statistics.median(times[step]):.1f} ms" for step in STEPS]
                total = statistics.median(
                    map(sum, zip(*(times[step] for step in STEPS), strict=True))
                )
                print(
                    f"| `{preset}` | {where} | {' | '.join(cells)} | {1000 / total:.0f} |",
                    flush=True,
                )


def _pictures(folder: Path, count: int) -> list[Path]:
    rng = np.random.default_rng(0)
    frames_THWC = render(CLASSES[0], rng, size=640, frames=min(count, 30))[:, :480]
    paths = []
    for n in range(count):
        paths.append(folder / f"{n}.png")
        cv2.imwrite(str(paths[-1]), frames_THWC[n % len(frames_THWC), :, ::-1])
    return paths


def _measure(folder: Path, pictures: list[Path]) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {}
    with Server(folder, 0) as server, chromium() as page:
        for number in range(len(THREADS) * ROUNDS):
            page.open(f"{server.url}?backend=wasm&threads={THREADS[number % len(THREADS)]}")
            page.wait("document.body.dataset.state === 'ready'")
            where = page.run("document.getElementById('where').textContent")
            page.give("#files", pictures)
            page.wait("document.body.dataset.state === 'ended'")
            frames = page.run("videorwkv.session.results()")["frames"][len(pictures) // 3 :]
            times = found.setdefault(where, {step: [] for step in STEPS})
            for step in STEPS:
                times[step] += [frame["milliseconds"][step] for frame in frames]
    found["Python, ONNX Runtime, 1 thread"] = _in_python(folder, pictures)
    return found


def _in_python(folder: Path, pictures: list[Path]) -> dict[str, list[float]]:
    """The same frames without a browser."""
    model = open_exported(folder / "model.onnx", threads=1)
    config, state = model.config, model.init_state(1)
    times: dict[str, list[float]] = {step: [] for step in STEPS}
    for path in pictures:
        image_HWC = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        clock = [time.perf_counter()]
        square_HWC = fit_image(image_HWC, config.image_size, config.frame_fit)
        clock.append(time.perf_counter())
        edges_HW = edge_map(square_HWC, config.edges, config.edge_options)
        clock.append(time.perf_counter())
        inputs = Inputs(*(torch.from_numpy(x)[None, None] for x in (square_HWC, edges_HW)))
        _, state = model.step(inputs, state)
        clock.append(time.perf_counter())
        for step, milliseconds in zip(STEPS, 1000 * np.diff(clock), strict=True):
            times[step].append(float(milliseconds))
    return times


if __name__ == "__main__":
    main()
