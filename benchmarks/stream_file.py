"""A file of 20,000 frames through `stream` (decoding, edges, model): does memory stay flat?

Exit code 1 if the last tenth's mean differs by more than 1 % from the second tenth's. Linux only.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from videorwkv import stream
from videorwkv.video.writer import write_video

FLOOR = 0.01
PAGE = os.sysconf("SC_PAGESIZE")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, default=Path("runs/stream"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / f"{options.frames}.mp4"
    if not path.is_file():
        write_video(path, pictures(options.frames), 6)
    memory = np.full(options.frames, np.nan)
    with stream(options.run, path, fps=6) as moments:
        for number, _ in enumerate(moments):
            memory[number] = resident()
        print(moments.summary())
    tenth = moments.frames // 10
    second, last = memory[tenth : 2 * tenth].mean(), memory[moments.frames - tenth :][:tenth].mean()
    print(f"RSS: second tenth {second:.1f} MiB, last {last:.1f} MiB, {last / second - 1:+.3%}")
    return int(abs(last / second - 1) > FLOOR or moments.frames != options.frames)


def pictures(frames: int) -> Iterator[NDArray[np.uint8]]:
    """A square that moves over a ground of noise."""
    ground_HWC = np.random.default_rng(0).integers(60, 120, (96, 128, 3), dtype=np.uint8)
    for t in range(frames):
        image_HWC = ground_HWC.copy()
        left = (3 * t) % 100
        image_HWC[30:58, left : left + 28] = 220
        yield image_HWC


def resident() -> float:
    """Memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


if __name__ == "__main__":
    sys.exit(main())
