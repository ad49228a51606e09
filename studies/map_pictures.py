"""Maps of what a model looks at, drawn over the frames: a strip (PNG) and a film (GIF).

T frames, L tokens of a frame, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.plots import to_png
from studies.attribution import Looked
from videorwkv.inference.plots import BLUE, figure
from videorwkv.utils.files import write_atomic
from videorwkv.video.writer import write_video

Array = NDArray[np.float32]
Image = NDArray[np.uint8]

# Columns of a strip, bars of a film, films' frames a second: slow enough to look at six pictures.
COLUMNS, BARS, FPS = 8, 4, 2.0
_TROUGH, _INK = "#e3e7ec", "#222222"


@dataclass(frozen=True, eq=False)
class Clip:
    """One clip with its maps.

    Args:
        frames_THWC: as the model saw them, RGB.
        edges_THW: 0 to 255.
        maps: title -> map [T, rows, columns], its colours, and the values at their ends.
        scores_TK: probabilities after each frame.
        labels: K class names.
        truth: the true class, or None.
        name: what the title calls the clip.
    """

    frames_THWC: Image
    edges_THW: Image
    maps: dict[str, Map]
    scores_TK: Array
    labels: Sequence[str]
    truth: str | None
    name: str

    @property
    def title(self) -> str:
        said = int(self.scores_TK[-1].argmax())
        truth = "" if self.truth is None else f"   true class: {self.truth}"
        return (
            f"{self.name}{truth}   the model says: {self.labels[said]} "
            f"({self.scores_TK[-1, said]:.2f})"
        )


class Map(NamedTuple):
    """Values of tokens at their places, with how to colour them."""

    values_TRC: Array
    colours: str
    low: float
    high: float


def make_clip(
    looked: Looked,
    occlusion_BTL: Tensor,
    index: int,
    frames_THWC: Image,
    edges_THW: Image,
    patch_size: int,
    labels: Sequence[str],
    truth: str | None,
    name: str,
) -> Clip:
    """A clip of a batch that was looked at, with the evidence for the class that was named and
    what that class loses by occlusion."""
    rows = frames_THWC.shape[1] // patch_size
    scores_TK = looked.logits_BTK[index].softmax(-1).numpy()
    said = labels[int(looked.said()[index])]
    maps = {}

    def add(title: str, values_BTL: Any, colours: str, *, signed: bool = False) -> None:
        values_TRC = values_BTL[index].unflatten(-1, (rows, -1)).numpy()
        low, high = float(values_TRC.min()), float(values_TRC.max())
        if signed:
            high = max(abs(low), abs(high))
            low = -high
        # A map of one value would have no scale.
        high = high if high > low else low + 1e-6
        maps[title] = Map(values_TRC, colours, low, high)

    add("gate", looked.gate_BTL, "viridis")
    if looked.forget_BTL is not None:
        add("forget signal", looked.forget_BTL, "cividis")
    if looked.change_BTL is not None:
        add("change of memory", looked.change_BTL, "magma")
    evidence_BTL = looked.of_class(looked.said())
    add(f"evidence for\n{said}", evidence_BTL, "RdBu_r", signed=True)
    add(f"occlusion of\n{said}", occlusion_BTL, "RdBu_r", signed=True)
    return Clip(frames_THWC, edges_THW, maps, scores_TK, labels, truth, name)


def write_strip(path: Path, clip: Clip) -> None:
    """Write a PNG: one row each for frames, edges and maps, up to `COLUMNS` frames from left to
    right, with the score of the named class below."""
    chosen = np.unique(np.linspace(0, len(clip.frames_THWC) - 1, COLUMNS).round().astype(int))
    rows = ["frame", "edge map", *clip.maps]
    made = figure(1.8 + 0.92 * len(chosen), 0.75 + 0.94 * len(rows))
    grid = made.subplots(len(rows), len(chosen), squeeze=False)
    made.suptitle(clip.title, fontsize=11)
    said = int(clip.scores_TK[-1].argmax())
    for column, t in enumerate(chosen):
        for axes, title in zip(grid[:, column], rows, strict=True):
            _bare(axes)
            _draw(axes, clip, title, t)
        grid[0, column].set_title(f"frame {t + 1}", fontsize=9)
        score = float(clip.scores_TK[t, said])
        grid[-1, column].set_xlabel(f"{score:.2f}", fontsize=9)
    for number, title in enumerate(rows):
        grid[number, 0].set_ylabel(
            title, rotation=0, ha="right", va="center", fontsize=9.5, labelpad=8
        )
        if title in clip.maps:
            drawn = grid[number, -1].images[-1]
            bar = made.colorbar(drawn, ax=grid[number, :].tolist(), fraction=0.02, pad=0.01)
            bar.ax.tick_params(labelsize=7)
            bar.ax.locator_params(nbins=3)
            bar.solids.set_alpha(1)
    made.supxlabel(f"probability of {clip.labels[said]} after each frame", fontsize=9)
    write_atomic(path, to_png(made))


def write_film(path: Path, clip: Clip) -> None:
    """Write a GIF: frame, edges and maps side by side, with the running scores."""
    images = list(_film(clip))
    # The last frame, whose answer counts, stays on screen.
    write_video(path, [*images, images[-1], images[-1]], FPS)


def _film(clip: Clip) -> Iterator[Image]:
    titles = ["frame", "edge map", *clip.maps]
    columns = (len(titles) + 1) // 2
    best = np.argsort(-clip.scores_TK.max(0), kind="stable")[:BARS]
    for t in range(len(clip.frames_THWC)):
        made = figure(1.45 * columns + 2.2, 3.6)
        left, right = made.subfigures(1, 2, width_ratios=(1.45 * columns, 2.2))
        made.suptitle(clip.title, fontsize=9)
        for axes, title in zip(left.subplots(2, columns).flat, [*titles, ""], strict=False):
            _bare(axes)
            if title:
                _draw(axes, clip, title, t)
                axes.set_title(title, fontsize=8.5)
            else:
                axes.set_axis_off()
        axes = right.subplots()
        axes.barh(range(len(best)), [1.0] * len(best), color=_TROUGH, height=0.32)
        axes.barh(range(len(best)), clip.scores_TK[t, best], color=BLUE, height=0.32)
        for place, k in enumerate(best):
            name = clip.labels[k] if len(clip.labels[k]) <= 24 else clip.labels[k][:23] + "…"
            axes.text(0, place - 0.22, name, fontsize=8.5, va="bottom", color=_INK)
            axes.text(1, place - 0.22, f"{clip.scores_TK[t, k]:.2f}", fontsize=8.5, va="bottom",
                      ha="right", color=_INK)  # fmt: skip
        axes.set_ylim(len(best) - 0.5, -1.0)
        axes.set_xlim(0, 1)
        axes.set_axis_off()
        axes.set_title(f"frame {t + 1} of {len(clip.frames_THWC)}", fontsize=8.5)
        packed = np.frombuffer(to_png(made), np.uint8)
        image_HWC = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR))
        yield np.ascontiguousarray(image_HWC[..., ::-1])


def _draw(axes: Any, clip: Clip, title: str, t: int) -> None:
    frame_HWC = clip.frames_THWC[t]
    height, width = frame_HWC.shape[:2]
    if title == "frame":
        axes.imshow(frame_HWC)
        return
    if title == "edge map":
        axes.imshow(clip.edges_THW[t], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        return
    # The frame shimmers through, so that a place can be found again.
    axes.imshow(cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY), cmap="gray", vmin=0, vmax=255)
    drawn = clip.maps[title]
    axes.imshow(
        drawn.values_TRC[t],
        cmap=drawn.colours,
        vmin=drawn.low,
        vmax=drawn.high,
        alpha=0.68,
        interpolation="nearest",
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )


def _bare(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
