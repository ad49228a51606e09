"""The clips of a folder as if filmed in another place.

Usage: python experiments/another_place.py DATA OUT [SEED]

A stand-in for the same actions before another camera. All clips get one and the same change, drawn
by the seed: the view (scale, shift, turn), the colours (a gain for each, a gamma, contrast) and a
background of soft texture laid over the picture. Names and folders stay, so that folds by name
hold. Train on DATA, evaluate on OUT.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from videorwkv.data.motion.render import texture
from videorwkv.video.source import open_video
from videorwkv.video.writer import write_video

ONE_FRAME_FPS = 25.0


def main(data: Path, out: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    angle, scale = rng.uniform(-8, 8), rng.uniform(0.85, 1.2)
    shift_2 = rng.uniform(-0.1, 0.1, size=2)
    gain_C = rng.uniform(0.75, 1.25, size=3)
    gamma, contrast = rng.uniform(0.7, 1.4), rng.uniform(0.7, 1.1)
    share = rng.uniform(0.1, 0.3)
    background_SSC = texture(rng, 512, light=128, contrast=40)
    level_VC = (np.arange(256)[:, None] / 255) ** gamma * 255 * gain_C
    table_VC = np.clip((level_VC - 128) * contrast + 128, 0, 255).astype(np.uint8)[:, None]
    paths = sorted(data.rglob("*.mp4"))
    if not paths:
        raise SystemExit(f"another_place.py: {data} holds no .mp4; give a folder of such clips.")
    for path in paths:
        with open_video(path) as video:
            times, frames_THWC = video.times(), video.sample(len(video.times())).frames_THWC
        height, width = frames_THWC.shape[1:3]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), float(angle), float(scale))
        matrix[:, 2] += shift_2 * (width, height)
        background_HWC = cv2.resize(background_SSC, (width, height))
        changed = []
        for image_HWC in frames_THWC:
            image_HWC = cv2.warpAffine(
                image_HWC, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101
            )
            image_HWC = cv2.LUT(image_HWC, table_VC)
            changed.append(cv2.addWeighted(image_HWC, 1 - share, background_HWC, share, 0))
        target = out / path.relative_to(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        # A single frame has no rate.
        fps = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else ONE_FRAME_FPS
        write_video(target, changed, fps=fps)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("out", metavar="OUT", type=Path)
    parser.add_argument("seed", metavar="SEED", type=int, nargs="?", default=0)
    main(**vars(parser.parse_args()))
