"""How many streams a core carries: sources side by side in one process, in CPU time.

    python -m benchmarks.live_streams runs/mine [runs/mine/step-float32.onnx ...]

Frames of 320x240 pixels lie in memory; resizing, edges, the model and naming are counted, decoding
is not. CPU time of the whole process, so that other programs on the machine do not matter. The
streams of a core are its frames a second by those that the model is due of each.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import torch

from videorwkv.inference.recogniser import Recogniser
from videorwkv.inference.stream import stream
from videorwkv.video.array import ArrayVideo

SIZE = (240, 320)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", help="runs or exported files")
    parser.add_argument("--sources", default="1,2,4,8,16,32")
    parser.add_argument("--frames", type=int, default=320, help="of all sources together")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print("| model | sources | CPU ms a step | frames a second | streams a core |")
    print("|---|---|---|---|---|")
    for run in options.runs:
        recogniser = Recogniser.open(run, what="stream", fastest=True)
        for count in map(int, options.sources.split(",")):
            rate, due = measure(recogniser, count, max(10, options.frames // count))
            print(
                f"| {run} | {count} | {count / rate * 1e3:.1f} | {rate:.0f} | {rate / due:.0f} |",
                flush=True,
            )
    return 0


def measure(recogniser: Recogniser, count: int, frames: int) -> tuple[float, float]:
    """Frames of all sources in a second of CPU time; and how many the model is due of each."""
    rng = np.random.default_rng(0)
    fps = recogniser.sampling.fps or 5.0
    times = np.arange(frames) / fps
    pictures_THWC = rng.integers(256, size=(frames, *SIZE, 3), dtype=np.uint8)
    # Noise would be nothing but edges; blocks have some.
    blocks_THWC = pictures_THWC[:, ::16, ::16].repeat(16, 1).repeat(16, 2)
    videos = [ArrayVideo(f"{n}", blocks_THWC, times) for n in range(count)]
    with stream(recogniser, videos) as predictions:
        moments = iter(predictions)
        for _ in range(2 * count):  # the first steps take longer
            next(moments)
        before, done = time.process_time(), predictions.frames
        for _ in moments:
            pass
        seconds = time.process_time() - before
        return (predictions.frames - done) / seconds, predictions.fps


if __name__ == "__main__":
    sys.exit(main())
