"""How a stream is read and named. K classes."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videorwkv.errors import UsageError, did_you_mean
from videorwkv.inference.pacing import AFTER_DROP, AfterDrop
from videorwkv.models.masking import Masks
from videorwkv.video import Sampling

Scores = NDArray[np.float32]

# A run whose clips were spread over whole videos does not say how far apart its frames were:
# clips of gestures and short actions last about as long.
SPREAD_SECONDS = 3.0
# Where none was chosen on data.
THRESHOLD = 0.5


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """How a stream is read and named.

    Args:
        fps: frames per second for the model; None: the frame rate of its training.
        threshold: a class becomes the stream's label when its probability reaches this value, and
            stays so until another class reaches it or its own falls below half of it.
        smooth: time constant in seconds of the running mean over probabilities; 0: none.
        gap: seconds; a longer pause of the source resets the state. For a source with such a low
            frame rate, a pause is a step three times as long as usual.
        reset_every: seconds after which the state is reset; 0: never. None: never for
            the cells `gated` and `rglru`, and after the length of a training clip for the others,
            which can't forget.
        tube_mask_ratio, motion_mask_ratio: mask ratios, as in `LCR.init_state`.
        top: number of classes in each prediction.
        stall: seconds without a frame after which a live source is said to have stalled, or three
            times as long as between its frames so far; 0: never.
        after_drop: the state of a live source that was lost and opened again: `auto` resets it as
            after any pause (`gap`), `reset` always, `keep` never.
    """

    fps: float | None = None
    threshold: float = THRESHOLD
    smooth: float = 0.5
    gap: float = 2.0
    reset_every: float | None = None
    tube_mask_ratio: float = 0.0
    motion_mask_ratio: float = 0.0
    top: int = 5
    stall: float = 5.0
    after_drop: AfterDrop = "auto"

    def __post_init__(self) -> None:
        finite = all(math.isfinite(x) for x in (self.fps or 1, self.smooth, self.reset_every or 0))
        if (
            not finite
            or (self.fps is not None and self.fps <= 0)
            or self.smooth < 0
            or not self.gap > 0
            or (self.reset_every or 0) < 0
        ):
            raise UsageError(
                f"stream: fps ({self.fps}) and gap ({self.gap}) must be above 0, smooth "
                f"({self.smooth}) and reset_every ({self.reset_every}) at least 0, in seconds."
            )
        if not 0 <= self.stall < math.inf:
            raise UsageError(
                f"stream: stall ({self.stall}) must be a number of seconds, at least 0; 0: never."
            )
        if self.after_drop not in AFTER_DROP:
            raise UsageError(
                f"stream: unknown after_drop {self.after_drop!r}. "
                f"{did_you_mean(self.after_drop, AFTER_DROP)}"
            )
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"stream: threshold ({self.threshold}) must lie in [0, 1].")
        if self.top < 1:
            raise UsageError(f"stream: top ({self.top}) must be at least 1.")
        _ = self.masks  # checks itself

    @property
    def masks(self) -> Masks:
        """The patches to mask."""
        return Masks(tube_mask_ratio=self.tube_mask_ratio, motion_mask_ratio=self.motion_mask_ratio)

    def rate(self, sampling: Sampling) -> float:
        """Frames a second that a model trained with `sampling` gets."""
        return self.fps or sampling.fps or sampling.num_frames / SPREAD_SECONDS

    def notes(self, sampling: Sampling) -> tuple[str, ...]:
        """Assumptions that the user should know of."""
        if self.fps is not None or sampling.fps is not None:
            return ()
        return (
            f"the model was trained on {sampling.num_frames} frames spread over whole clips; it "
            f"gets {self.rate(sampling):.3g} frames/s, as from clips of {SPREAD_SECONDS:g} s. If "
            f"yours had another length, set fps to {sampling.num_frames} / their seconds",
        )

    def life(self, sampling: Sampling, cell: str) -> float:
        """Seconds after which the state is reset."""
        if self.reset_every is None and cell not in ("gated", "rglru"):
            return sampling.num_frames / self.rate(sampling)
        return self.reset_every or math.inf

    def label(
        self, scores_K: Scores, label: int | None, background: Collection[int] = ()
    ) -> int | None:
        """The label after `label`, by threshold and hysteresis; a background class is none."""
        best = int(scores_K.argmax())
        if scores_K[best] >= self.threshold:
            return None if best in background else best
        stays = label is not None and scores_K[label] >= self.threshold / 2
        return label if stays else None
