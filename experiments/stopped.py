"""What a trained run still knows when the picture stops at a clip's last frame.

Usage, in the repository: PYTHONPATH=. python experiments/stopped.py RUN DATA [FRAMES ...]

Each clip of the test split is seen as in training, then its last frame is shown 4, 16, 64, 128 and
256 times more, the state carried on. Printed: accuracy, and the share of what was known above
chance (`videorwkv study length` has the same measure with trainings and intervals).
"""

import argparse

import torch

from studies.stops import Repeated
from videorwkv import load_run
from videorwkv.data import load_manifest, make_loader
from videorwkv.data.dataset import make_dataset


def main(folder: str, spec: str, times: list[int]) -> None:
    run = load_run(folder)
    model = run.model().eval()
    manifest = load_manifest(spec).split("test").with_labels(run.labels)
    loader = make_loader(
        make_dataset(run.recipe.model, manifest, run.recipe.sampling), batch_size=8
    )
    shown = Repeated((0, *times), times[-1])
    right, clips = torch.zeros(1 + len(times)), 0
    with torch.inference_mode():
        for batch in loader:
            found_BN = shown.logits(model, batch.inputs).argmax(-1)
            right += (found_BN == batch.labels[:, None]).sum(0)
            clips += len(batch.labels)
    accuracy, chance = right / clips, 1 / len(run.labels)
    known = (accuracy - chance) / (accuracy[0] - chance)
    for n, top1, share in zip(shown.times, accuracy.tolist(), known.tolist(), strict=True):
        print(f"{n:4} still frames: top-1 {top1:.4f}, {share:.1%} of what was known")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="RUN")
    parser.add_argument("spec", metavar="DATA")
    parser.add_argument(
        "times", metavar="FRAMES", type=int, nargs="*", default=[4, 16, 64, 128, 256]
    )
    main(**vars(parser.parse_args()))
