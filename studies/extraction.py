"""What edge maps cost and what is left of them when the frames get worse.

N frames of several clips, H height, W width, 3 colours (RGB).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from studies.corruptions import Change, Frames
from studies.results import Results
from videorwkv.preprocess.edges import EdgeOptions, edge_map

# Frames that the table of edge maps rests on.
FRAMES = 48


@dataclass(frozen=True)
class Extractor:
    """One way to make an edge map."""

    name: str
    method: str
    options: EdgeOptions

    def __call__(self, frames_NHWC: Frames) -> NDArray[np.uint8]:
        return edge_map(frames_NHWC, self.method, self.options)


@dataclass(frozen=True, kw_only=True)
class ExtractionCost:
    """CPU time of each extractor's map of one frame, beside the model's time for it.

    Args:
        extractors: what is timed.
        size: side of the frames in pixels.
        model: preset that a frame's time is compared with.
    """

    extractors: tuple[Extractor, ...]
    size: int = 224
    model: str = "lcr_tiny"
    name = "cost of the extraction"

    def probe(self, *, quick: bool, device: str) -> Mapping[str, Any]:
        """`{"size", "model", "model_ms", "model_clock", "rows": {name: {"ms", "median"}}}`."""
        from studies.timing import frame_times, interleaved
        from videorwkv.models import model_config
        from videorwkv.utils.device import pick_device

        frames_NHWC = _generated(4, self.size)

        def case(extract: Extractor) -> Callable[[], object]:
            return lambda: extract(frames_NHWC)

        count = len(frames_NHWC)
        cases = {extractor.name: case(extractor) for extractor in self.extractors}
        times = interleaved(cases, seconds=2.0 if quick else 10.0)
        where = pick_device(device)
        config = model_config(self.model, image_size=self.size)
        model = frame_times({self.model: config}, seconds=1.0 if quick else 5.0, device=where)
        clock = "least" if where.type == "cuda" else "cpu"
        return {
            "size": self.size,
            "model": self.model,
            "model_ms": model[self.model][clock],
            "model_clock": "wall" if where.type == "cuda" else "CPU",
            "rows": {
                name: {"ms": time["cpu"] / count, "median": time["median"] / count}
                for name, time in times.items()
            },
        }


def _generated(count: int, size: int) -> Frames:
    """The middle frames of some generated clips."""
    from videorwkv.data.motion.clips import CLASSES, render

    clips = [
        render(CLASSES[i % len(CLASSES)], np.random.default_rng(i), size=size, frames=3)
        for i in range(count)
    ]
    return np.stack([clip_THWC[1] for clip_THWC in clips])


def sample_frames(results: Results) -> Frames:
    """Middle frames of test clips, evenly spread over the split, as the model sees them."""
    from studies.data import test_clips
    from videorwkv.data.dataset import BadClip, make_dataset

    training = results.plan.trainings[0]
    clips = test_clips(results.plan.manifest(training))
    recipe, cache = training.recipe, results.plan.settings.cache
    dataset = make_dataset(recipe.model, clips, recipe.sampling, cache=cache)
    places = np.linspace(0, len(clips) - 1, min(FRAMES, len(clips))).astype(int)
    samples = [dataset[0, int(place)] for place in places]
    frames = [s.inputs.frames_BTHWC for s in samples if not isinstance(s, BadClip)]
    return np.stack([clip_THWC[len(clip_THWC) // 2].numpy() for clip_THWC in frames])


def density(edges_NHW: NDArray[np.uint8]) -> float:
    """Mean of the maps, of which 255 counts 1."""
    return float(edges_NHW.mean()) / 255


def agreement(a_NHW: NDArray[np.uint8], b_NHW: NDArray[np.uint8]) -> float:
    """How much of two maps lies within one pixel of the other's, in [0, 1], the mean over frames.

    The harmonic mean (F1) of the share of `a` that is found in `b`, and of `b` found in `a`; of
    graded maps the smaller of two values counts. Two empty maps agree.
    """
    return float(np.mean([_f1(a_HW, b_HW) for a_HW, b_HW in zip(a_NHW, b_NHW, strict=True)]))


def _f1(a_HW: NDArray[np.uint8], b_HW: NDArray[np.uint8]) -> float:
    if not (a_HW.any() or b_HW.any()):
        return 1.0
    found, given = _share(a_HW, b_HW), _share(b_HW, a_HW)
    return 2 * found * given / (found + given) if found + given else 0.0


def _share(of_HW: NDArray[np.uint8], in_HW: NDArray[np.uint8]) -> float:
    total = float(of_HW.sum(dtype=np.int64))
    near_HW = cv2.dilate(in_HW, np.ones((3, 3), np.uint8))
    return float(np.minimum(of_HW, near_HW).sum(dtype=np.int64)) / total if total else 0.0


def changed(frames_NHWC: Frames, change: Change) -> Frames:
    """Every frame changed, as a clip of one."""
    rng = np.random.default_rng(0)
    return np.concatenate([change(frame_HWC[None], rng) for frame_HWC in frames_NHWC])


def sheet(frame_HWC: Frames, extractors: Sequence[Extractor], changes: Sequence[Change]) -> bytes:
    """A PNG: the maps of one frame, a row each; as it is, and under each change."""
    from benchmarks.plots import to_png
    from videorwkv.inference.plots import figure

    frames = {"as it is": frame_HWC[None]}
    frames |= {change.name: changed(frame_HWC[None], change) for change in changes}
    rows = {"frame": [x_NHWC[0] for x_NHWC in frames.values()]}
    rows |= {e.name: [e(x_NHWC)[0] for x_NHWC in frames.values()] for e in extractors}
    made = figure(1.05 * len(frames) + 1.6, 1.05 * len(rows) + 0.3)
    grid = made.subplots(len(rows), len(frames), squeeze=False)
    for line, (name, images) in zip(grid, rows.items(), strict=True):
        for axes, image in zip(line, images, strict=True):
            axes.imshow(image, cmap="gray", vmin=0, vmax=255)
            axes.set_xticks([])
            axes.set_yticks([])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    for axes, title in zip(grid[0], frames, strict=True):
        axes.set_title(title, fontsize=9)
    return to_png(made)
