"""What a model answers frame by frame in clips of another length than it was trained at.

LCR is causal: its answer after t frames of a clip is its answer to the clip of those t frames. So
one pass over the longest clip measures all lengths.

B batch, T frames, K classes, M clips, N answers to a clip.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from studies.data import is_generated, merge_options
from studies.design import Measured, Trained
from studies.results import pack
from videorwkv.data.load import load_manifest
from videorwkv.data.manifest import Manifest
from videorwkv.data.motion.clips import FPS, MotionOptions
from videorwkv.errors import UsageError
from videorwkv.models import LCR, Inputs
from videorwkv.video.base import Sampling

# A share of the test clips: the longest one is read, and looked at, for each of them.
SHARE = 8
# Frames of a batch that are held in memory at once.
ROOM = 2048


@dataclass(frozen=True)
class Lengths:
    """Accuracy after so many frames of a clip, at the pace of the training; unknown for orders.

    Args:
        frames: after how many.
    """

    frames: tuple[int, ...]

    name = "accuracy over lengths"
    unit = "share"
    lower_is_better = False
    needs_generated = True

    def measure(self, trained: Trained) -> Measured:
        if is_order(trained.data):
            return Measured(math.nan)
        longest, pace = max(self.frames), pace_of(trained)
        # All frames move, whatever the training's did.
        test = clips(trained, f"frames={longest * pace},event=0,at=0")
        right_MT = answers(trained, test, longest)
        return pack({str(t): right_MT[:, t - 1].tolist() for t in self.frames})


@dataclass(frozen=True)
class Held:
    """Accuracy after still frames, a movement, and still frames again; unknown for orders.

    Args:
        event: frames of the movement.
        places: still frames before it -> numbers of still frames after it.
    """

    event: int
    places: tuple[tuple[int, tuple[int, ...]], ...]

    name = "accuracy with still frames"
    unit = "share"
    lower_is_better = False
    needs_generated = True

    def measure(self, trained: Trained) -> Measured:
        if is_order(trained.data):
            return Measured(math.nan)
        pace = pace_of(trained)
        found: dict[str, list[float]] = {}
        for before, afters in self.places:
            frames = before + self.event + max(afters)
            options = {
                "frames": frames * pace,
                "event": self.event * pace,
                "at": before * pace,
            }
            test = clips(trained, ",".join(f"{name}={value}" for name, value in options.items()))
            right_MT = answers(trained, test, frames)
            for after in afters:
                found[condition(before, after)] = right_MT[
                    :, before + self.event + after - 1
                ].tolist()
        return pack(found)


def condition(before: int, after: int) -> str:
    """Name of a condition of `Held`."""
    return f"{before} before, {after} after"


def pace_of(trained: Trained) -> int:
    """Frames of the generated clips from one that the model sees to the next, in training."""
    sampling = trained.run.recipe.sampling
    if sampling.fps is not None:
        return max(1, round(FPS / sampling.fps))
    return max(1, round(_options(trained).frames / sampling.num_frames))


def is_order(data: str) -> bool:
    """Whether the class of generated clips is an order, which the first frames alone do not
    have."""
    return is_generated(data) and MotionOptions.parse(data.partition(":")[2]).order > 0


def check(data: str) -> None:
    """`UsageError` for clips whose class is an order."""
    if is_order(data):
        raise UsageError(
            "Lengths and still frames need clips of one movement; leave out order= of the data."
        )


def clips(trained: Trained, options: str) -> Manifest:
    """The first of the test clips, with other options of the generated data."""
    count = min(len(trained.test), max(8, len(trained.test) // SHARE))
    manifest = load_manifest(merge_options(trained.data, f"{options},train=0,test={count}"))
    return manifest.split("test")


def answers(trained: Trained, test: Manifest, frames: int) -> NDArray[np.float64]:
    """Whether the answer after each frame is right: 0 or 1, [M, T].

    Args:
        trained: the model.
        test: generated clips.
        frames: T, spread evenly over each clip.
    """
    batch_size = max(1, min(16, ROOM // frames))
    sampling = Sampling(num_frames=frames)
    return outcomes(trained, test, sampling, frames, lambda m, x: m.scan(x)[0], batch_size)


def outcomes(
    trained: Trained,
    test: Manifest,
    sampling: Sampling,
    count: int,
    ask: Callable[[LCR, Inputs], Tensor],
    batch_size: int,
) -> NDArray[np.float64]:
    """Whether each of a model's answers to a clip is right: 0 or 1, [M, N]; 0 where the clip can't
    be read.

    Args:
        trained: the model.
        test: clips.
        sampling: which of their frames the model sees.
        count: N, answers to a clip.
        ask: model and clips -> logits [B, N, K].
        batch_size: clips at once.
    """
    from videorwkv.data import make_loader
    from videorwkv.data.dataset import make_dataset
    from videorwkv.utils.device import autocast, pick_device

    run, device = trained.run, pick_device(trained.device)
    model = run.model(device)
    test = test.with_labels(run.labels)
    dataset = make_dataset(model.config, test, sampling, cache=trained.cache)
    loader = make_loader(
        dataset,
        batch_size=batch_size,
        workers=run.recipe.workers,
        clip_timeout=run.recipe.clip_timeout,
    )
    right_MN = np.zeros((len(dataset), count))
    with torch.inference_mode(), autocast(device, run.recipe.precision):
        for batch in loader:
            if batch.inputs is not None:
                answer_BN = ask(model, batch.inputs.to(device)).argmax(-1).cpu()
                right_MN[batch.indices] = (answer_BN == batch.labels[:, None]).numpy()
    return right_MN


def half_way(
    after: Sequence[int], accuracy: Mapping[int, float], chance: float
) -> tuple[int, int] | None:
    """Between which two numbers of still frames half of what was known at the first is lost.

    None if it is not lost within those measured, or if nothing was known.
    """
    start = accuracy[after[0]] - chance
    if start <= 0:
        return None
    for earlier, later in itertools.pairwise(after):
        if accuracy[later] - chance < start / 2:
            return earlier, later
    return None


def _options(trained: Trained) -> MotionOptions:
    return MotionOptions.parse(trained.data.partition(":")[2])
