"""Clips of a folder per class, joined to long films: data for a timeline.

    python experiments/joined.py CLIPS OUT [--group '_(\\d+)_'] [--test 007,008] [--validation 006]

The clips of each group (a session, a person) are joined in random order, with still pauses of 2 to
5 seconds (the last frame under a little noise) between them, and OUT/segments.csv names what is
when; the groups of `--test` and `--validation` are these splits. As drawn for the hand-washing
clips: `--group 'HandWash_(\\d+)_'`.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from videorwkv.data import Manifest, load_manifest
from videorwkv.data.manifest import Row
from videorwkv.preprocess.inputs import resize
from videorwkv.utils.files import write_csv
from videorwkv.video.writer import write_video

FPS = 10.0
PAUSE = (2.0, 5.0)
NOISE = 3.0


def frames_of(
    manifest: Manifest,
    rows: list[Row],
    size: int,
    rng: np.random.Generator,
    marks: list[tuple[Row, int, int]],
) -> Iterator[NDArray[np.uint8]]:
    """The frames of a film, [H, W, 3]; `marks` collects each clip with its first and last + 1."""
    count = 0
    for number in rng.permutation(len(rows)):
        row, begin = rows[number], count
        with manifest.open(row) as video:
            length = int(video.times()[-1] * FPS) + 1
            indices = np.searchsorted(video.times(), np.arange(length) / FPS, side="right") - 1
            clip = video.read(indices.tolist(), transform=lambda image: resize(image, size))
        for image_HWC in clip.frames_THWC:
            yield image_HWC
            count += 1
        marks.append((row, begin, count))
        for _ in range(round(rng.uniform(*PAUSE) * FPS)):
            noisy_HWC = image_HWC + rng.normal(0, NOISE, image_HWC.shape)
            yield np.clip(noisy_HWC, 0, 255).astype(np.uint8)
            count += 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips")
    parser.add_argument("out", type=Path)
    parser.add_argument("--group", default=r"HandWash_(\d+)_")
    parser.add_argument("--test", default="007,008")
    parser.add_argument("--validation", default="006")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--films", type=int, default=3, help="films of each group, other orders")
    options = parser.parse_args()
    manifest = load_manifest(options.clips, validation_share=0)
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in manifest.rows:
        found = re.search(options.group, row.path)
        if found is None:
            raise SystemExit(f"{row.path}: --group {options.group} finds no group in it")
        groups[found[1]].append(row)
    options.out.mkdir(parents=True, exist_ok=True)
    table: list[list[object]] = [["path", "label", "split", "start", "end"]]
    for group, rows in sorted(groups.items()):
        split = "train"
        for name in ("test", "validation"):
            split = name if group in getattr(options, name).split(",") else split
        for film in range(options.films if split == "train" else 1):
            name = f"{group}-{film}.mp4"
            marks: list[tuple[Row, int, int]] = []
            rng = np.random.default_rng([film, *group.encode()])
            frames = frames_of(manifest, rows, options.size, rng, marks)
            write_video(options.out / name, frames, FPS)
            for row, begin, end in marks:
                table.append([name, row.label, split, f"{begin / FPS:.2f}", f"{end / FPS:.2f}"])
            print(f"{name}: {len(marks)} clips, {split}", flush=True)
    write_csv(options.out / "segments.csv", table, is_read=False)


if __name__ == "__main__":
    main()
