"""A generated data set as a folder of videos, as users have them.

Usage: python experiments/as_folder.py gestures:train=100,validation=0,test=200 OUT

Writes OUT/SPLIT/CLASS/NAME.mp4. Files are decoded once and kept (`--cache`), where generated clips
are drawn anew at every epoch.
"""

import argparse
from pathlib import Path

import numpy as np

from videorwkv.data import load_manifest
from videorwkv.video.writer import write_video


def main(spec: str, out: Path) -> None:
    manifest = load_manifest(spec)
    for row in manifest.rows:
        with manifest.open(row) as video:
            times, frames_THWC = video.times(), video.read_all().frames_THWC
        target = out / row.split / str(row.label) / f"{row.line:05}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_video(target, frames_THWC, fps=1 / float(np.diff(times).mean()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("spec", metavar="DATA")
    parser.add_argument("out", metavar="OUT", type=Path)
    main(**vars(parser.parse_args()))
