"""The clips of a folder as if filmed in another place.

Usage: python experiments/another_place.py DATA OUT [SEED]

A stand-in for the same actions before another camera. All clips get one and the same change, drawn
by the seed: the view (scale, shift, turn), the colours (a gain for each, a gamma, contrast) and a
ground of soft texture laid over the picture. Names and folders stay, so that folds by name hold.
Train on DATA, evaluate on OUT.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from videorwkv.data.motion.render import texture
from videorwkv.video.source import open_video
from videorwkv.video.writer import write_video


def main(data: Path, out: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    angle, scale = rng.uniform(-8, 8), rng.uniform(0.85, 1.2)
    shift_2 = rng.uniform(-0.1, 0.1, size=2)
    gain_C = rng.uniform(0.75, 1.25, size=3)
    gamma, contrast = rng.uniform(0.7, 1.4), rng.uniform(0.7, 1.1)
    share = rng.uniform(0.1, 0.3)
    ground_SSC = texture(rng, 512, light=128, contrast=40)
    level_VC = (np.arange(256)[:, None] / 255) ** gamma * 255 * gain_C
    table_VC = np.clip((level_VC - 128) * contrast + 128, 0, 255).astype(np.uint8)[:, None]
    for path in sorted(data.rglob("*.mp4")):
        with open_video(path) as video:
            times, frames_THWC = video.times(), video.sample(len(video.times())).frames_THWC
        height, width = frames_THWC.shape[1:3]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), float(angle), float(scale))
        matrix[:, 2] += shift_2 * (width, height)
        ground_HWC = cv2.resize(ground_SSC, (width, height))
        changed = []
        for image_HWC in frames_THWC:
            image_HWC = cv2.warpAffine(
                image_HWC, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101
            )
            image_HWC = cv2.LUT(image_HWC, table_VC)
            changed.append(cv2.addWeighted(image_HWC, 1 - share, ground_HWC, share, 0))
        target = out / path.relative_to(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_video(target, changed, fps=(len(times) - 1) / (times[-1] - times[0]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
